package worker

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/muster-gateway/muster/pkg/stream"
)

func TestFurthest(t *testing.T) {
	lags := map[string]int64{}
	for i := range lagGroups {
		lags[fmt.Sprintf("g%02d", i)] = int64(i)
	}
	if got := furthest(lags); !maps.Equal(got, lags) {
		t.Errorf("got %v", got)
	}
	lags["more"], lags["most"], lags["other"] = 50, 70, 60
	want := maps.Clone(lags)
	for i := range 3 {
		delete(want, fmt.Sprintf("g%02d", i))
	}
	if got := furthest(lags); !maps.Equal(got, want) { // a group of that name is not hidden by those that are put together
		t.Errorf("got %v, want %v", got, want)
	}
	delete(lags, "other")
	lags["one more"] = 80
	delete(want, "other")
	want["one more"], want["other"] = 80, 2
	if got := furthest(lags); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestGroupNamesBecomeLabels(t *testing.T) {
	got := furthest(map[string]int64{"a\xff": 3, "a\xfe": 5, "a": 1})
	if want := map[string]int64{"a\ufffd": 5, "a": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestConsumerLagIsExported(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	for n := range c.shards {
		must(t, c.client.XGroupCreateMkStream(t.Context(), stream.EventsKey(c.name, n), "slow", "0").Err())
	}
	a := c.start("a", func(w *Worker) {
		w.writer = stream.NewWriter(w.cfg.Redis, stream.Options{Cluster: c.name, MaxLen: 1 << 40})
	})
	c.awaitLive()
	c.settled()
	var most int64
	for n := range c.shards {
		tail, err := stream.Tail(t.Context(), c.client, c.name, n)
		must(t, err)
		most = max(most, tail.Seq)
	}
	want := fmt.Sprintf(`muster_worker_consumer_lag_entries{group="slow"} %d`, most)
	c.await(func() string {
		if _, body := a.get("/metrics"); !strings.Contains(body, want) || !strings.Contains(body, `muster_worker_consumer_lag_ratio{group="slow"}`) {
			return "the metrics have " + want
		}
		return ""
	})
	c.expect(c.shards, 0)
}
