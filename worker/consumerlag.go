package worker

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lagEvery is how often the consumer groups of this worker's streams are looked at.
	lagEvery = 15 * time.Second
	// lagGroups is how many groups have a label of their own. Who may write to Redis may name as many as he likes.
	lagGroups = 16
	lagOther  = "other"
)

// consumerLag is how far the consumer groups of this worker's streams are behind, as Prometheus sees it: so that who is too slow is
// seen before what he has not read is trimmed.
type consumerLag struct {
	worker         *Worker
	entries, ratio *prometheus.Desc
	lags           atomic.Pointer[map[string]int64] // by group, where it is furthest behind; nil while it is not known
}

func newConsumerLag(w *Worker) *consumerLag {
	return &consumerLag{
		worker: w,
		entries: prometheus.NewDesc("muster_worker_consumer_lag_entries",
			"Entries that a consumer group has not read yet, of the shard here of which it has read least.", []string{"group"}, nil),
		ratio: prometheus.NewDesc("muster_worker_consumer_lag_ratio",
			"The same in proportion to MUSTER_STREAM_MAXLEN: from 1 on, entries are trimmed that the group has not read.", []string{"group"}, nil),
	}
}

// watch looks at the groups every lagEvery, while life lasts. While Redis does not answer nothing is known.
func (c *consumerLag) watch(life context.Context) error {
	for life.Err() == nil {
		ctx, cancel := context.WithTimeout(life, lagEvery)
		lags, err := c.worker.writer.GroupLags(ctx)
		cancel()
		if err != nil {
			c.worker.log.Debug("consumer groups not looked at", "error", err)
			c.lags.Store(nil)
		} else {
			lags = furthest(lags)
			c.lags.Store(&lags)
		}
		wait(life, lagEvery)
	}
	return nil
}

// furthest keeps the groups that are furthest behind, and puts the others together. Their names, which may be any bytes, become text:
// nothing else can be a label.
func furthest(named map[string]int64) map[string]int64 {
	lags := make(map[string]int64, len(named))
	for name, lag := range named {
		name = strings.ToValidUTF8(name, "\ufffd")
		lags[name] = max(lags[name], lag)
	}
	if len(lags) <= lagGroups {
		return lags
	}
	groups := slices.SortedFunc(maps.Keys(lags), func(a, b string) int { return cmp.Or(cmp.Compare(lags[b], lags[a]), cmp.Compare(a, b)) })
	kept := make(map[string]int64, lagGroups+1)
	for _, group := range groups[:lagGroups] {
		kept[group] = lags[group]
	}
	kept[lagOther] = max(kept[lagOther], lags[groups[lagGroups]])
	return kept
}

// Describe implements prometheus.Collector.
func (c *consumerLag) Describe(out chan<- *prometheus.Desc) {
	out <- c.entries
	out <- c.ratio
}

// Collect implements prometheus.Collector.
func (c *consumerLag) Collect(out chan<- prometheus.Metric) {
	lags := c.lags.Load()
	if lags == nil {
		return
	}
	for group, lag := range *lags {
		out <- prometheus.MustNewConstMetric(c.entries, prometheus.GaugeValue, float64(lag), group)
		out <- prometheus.MustNewConstMetric(c.ratio, prometheus.GaugeValue, float64(lag)/float64(c.worker.writer.MaxLen()), group)
	}
}
