package worker

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

const (
	benchShards = 100
	benchAtOnce = 10
	// benchEvery is how far apart the events of a shard that moves are, and so how exact its gap is measured.
	benchEvery = 5 * time.Millisecond
)

// BenchmarkHandover moves 100 shards from one worker to another, 10 at a time, while Discord sends each of them an event every 5 ms,
// and reports the gaps: the longest time, for each shard that moved, in which a consumer of its stream got nothing. That is the time from
// the last event on the old socket to the first on the new, within 5 ms. On loopback, and with Discord 50 ms away, there and back.
//
//	make microbench BENCH=Handover
func BenchmarkHandover(b *testing.B) {
	for _, distance := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("distance=%v", distance), func(b *testing.B) { benchmarkHandover(b, distance) })
	}
}

func benchmarkHandover(b *testing.B, distance time.Duration) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		b.Skip("not run: needs redis-server")
	}
	c := newCluster(b, options{shards: benchShards, distance: distance})
	c.start("a", nil)
	c.awaitLive()
	c.start("b", nil)
	refs := map[string]lease.Ref{}
	c.leader.await("b is there", func(s *lease.Cluster) bool {
		refs["a"], refs["b"] = s.Workers["a"].Ref(), s.Workers["b"].Ref()
		return refs["b"].Incarnation != 0
	})
	c.leader.setIdle(true)
	consumer := c.consume()
	var gaps []time.Duration
	to, next := "b", "a"
	for b.Loop() {
		for first := 0; first < benchShards; first += benchAtOnce {
			gaps = append(gaps, c.moveSome(consumer, first, refs[to])...)
		}
		to, next = next, to
	}
	slices.Sort(gaps)
	report := func(share float64, unit string) {
		b.ReportMetric(float64(gaps[int(share*float64(len(gaps)-1))].Microseconds())/1000, unit)
	}
	report(0.5, "ms-p50")
	report(0.99, "ms-p99")
	report(1, "ms-max")
}

// moveSome moves shards to a worker, and returns their gaps.
func (c *cluster) moveSome(consumer *arrivals, first int, to lease.Ref) (gaps []time.Duration) {
	ctx, stop := context.WithCancel(c.t.Context())
	var traffic sync.WaitGroup
	traffic.Go(func() { c.pour(ctx, first) })
	defer traffic.Wait()
	defer stop()
	consumer.forget(first)
	consumer.awaitMore(first, 20)

	state, _ := c.leader.look()
	var intents []lease.Action
	for shard := first; shard < first+benchAtOnce; shard++ {
		intents = append(intents, lease.Action{Kind: lease.Intend, Range: state.Ranges[lease.RangeID{Generation: 1, Index: shard}], To: to})
	}
	if taken, _, err := c.leader.term.Apply(ctx, intents); err != nil || len(taken) != benchAtOnce {
		c.t.Fatalf("%d moves begin: %v", len(taken), err)
	}
	c.leader.await("they have moved", func(s *lease.Cluster) bool {
		for _, intent := range intents {
			if s.Ranges[intent.Range.ID].Owner != to {
				return false
			}
		}
		return true
	})
	consumer.awaitMore(first, 20)
	return consumer.gaps(first)
}

// pour sends events to the shards that move.
func (c *cluster) pour(ctx context.Context, first int) {
	ticker := time.NewTicker(benchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for shard := first; shard < first+benchAtOnce; shard++ {
			if _, err := c.sim.Dispatch(shard, "BENCH", []byte(`{}`)); err != nil {
				c.t.Error(err)
			}
		}
	}
}

// arrivals is when a consumer got the entries of each stream.
type arrivals struct {
	c     *cluster
	mu    sync.Mutex
	times map[int][]time.Time
}

// consume reads the streams until the benchmark ends.
func (c *cluster) consume() *arrivals {
	c.t.Helper()
	a := &arrivals{c: c, times: map[int][]time.Time{}}
	reader, err := stream.NewReader(c.client, stream.ReaderOptions{Cluster: c.name, Types: []string{"BENCH"}})
	must(c.t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = reader.Run(ctx, func(_ context.Context, m stream.Message) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.times[m.Shard] = append(a.times[m.Shard], time.Now())
			return nil
		})
	}()
	c.t.Cleanup(func() {
		stop()
		<-done
	})
	return a
}

// awaitMore waits until each shard that moves has got so many entries more.
func (a *arrivals) awaitMore(first, n int) {
	a.c.t.Helper()
	began := time.Now()
	a.c.await(func() string {
		a.mu.Lock()
		defer a.mu.Unlock()
		for shard := first; shard < first+benchAtOnce; shard++ {
			times := a.times[shard]
			if len(times) < n || times[len(times)-n].Before(began) {
				return fmt.Sprintf("shard %d has %d entries", shard, len(times))
			}
		}
		return ""
	})
}

// gaps are the longest waits of the shards that moved.
func (a *arrivals) gaps(first int) (gaps []time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for shard := first; shard < first+benchAtOnce; shard++ {
		times := a.times[shard]
		var longest time.Duration
		for i := 1; i < len(times); i++ {
			longest = max(longest, times[i].Sub(times[i-1]))
		}
		gaps = append(gaps, longest)
	}
	return gaps
}

// forget lets the times of the shards that move begin anew.
func (a *arrivals) forget(first int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for shard := first; shard < first+benchAtOnce; shard++ {
		delete(a.times, shard)
	}
}
