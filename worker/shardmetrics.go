package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-gateway/muster/pkg/shard"
)

// shardMetrics are the shards of a worker as Prometheus sees them: how many are in which state, and how long Discord takes to answer
// their heartbeats. No metric has a label for each shard: a worker may run thousands.
type shardMetrics struct {
	worker                   *Worker
	shards, latency, average *prometheus.Desc
}

func newShardMetrics(w *Worker) *shardMetrics {
	return &shardMetrics{
		worker: w,
		shards: prometheus.NewDesc("muster_worker_shards", "Shards that run here, by state.", []string{"state"}, nil),
		latency: prometheus.NewDesc("muster_worker_heartbeat_latency_seconds",
			"How long Discord took to answer the last heartbeats of the shards: their mean and their maximum.", []string{"over_shards"}, nil),
		average: prometheus.NewDesc("muster_worker_heartbeat_latency_average_seconds",
			"The same, each shard's smoothed over about its last eight.", []string{"over_shards"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *shardMetrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.shards
	out <- m.latency
	out <- m.average
}

// Collect implements prometheus.Collector.
func (m *shardMetrics) Collect(out chan<- prometheus.Metric) {
	states := map[shard.State]int{}
	for _, state := range shard.States {
		states[state] = 0
	}
	var latency, average meanMax
	if in := m.worker.current.Load(); in != nil {
		for _, s := range in.board.sessions() {
			states[s.State]++
			if s.State == shard.StateLive && s.Latency > 0 {
				latency.add(s.Latency)
				average.add(s.LatencyAverage)
			}
		}
	}
	for state, n := range states {
		out <- prometheus.MustNewConstMetric(m.shards, prometheus.GaugeValue, float64(n), string(state))
	}
	latency.collect(out, m.latency)
	average.collect(out, m.average)
}

// meanMax sums up durations.
type meanMax struct {
	sum, max time.Duration
	n        int
}

func (m *meanMax) add(d time.Duration) {
	m.sum += d
	m.max = max(m.max, d)
	m.n++
}

func (m *meanMax) collect(out chan<- prometheus.Metric, desc *prometheus.Desc) {
	if m.n == 0 {
		return
	}
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, (m.sum / time.Duration(m.n)).Seconds(), "mean")
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, m.max.Seconds(), "max")
}
