package worker

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// A range is passed on when its runners have ended, so a runner must not end before its session's record is in etcd, or the
// next owner would have to identify; but it does not wait for ever.
func TestFinishWaitsForTheRecord(t *testing.T) {
	for name, c := range map[string]struct{ takes, want time.Duration }{
		"written":              {2 * time.Second, 2 * time.Second},
		"etcd does not answer": {time.Hour, defaultTimings.flush},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &runner{in: &incarnation{worker: &Worker{timings: defaultTimings}}, log: hclog.NewNullLogger()}
				keep, drop := context.WithCancel(t.Context())
				a := &attempt{runner: r, keep: keep, stream: &stream.Log{}, commands: &commandPump{cancel: func() {}}}
				a.saving.Go(func() { wait(keep, c.takes) })
				began := time.Now()
				a.settle(drop)
				if took := time.Since(began); took != c.want {
					t.Errorf("it took %v, want %v", took, c.want)
				}
				drop()
			})
		})
	}
}

func TestAwaitGrant(t *testing.T) {
	shard := lease.ShardID{Generation: 1, Shard: 3}
	id := lease.RequestID{Worker: "a", Shard: shard}
	for name, c := range map[string]struct {
		request lease.IdentifyRequest
		granted bool
	}{
		"not granted":        {lease.IdentifyRequest{Shard: shard, Revision: 12}, false},
		"a former request's": {lease.IdentifyRequest{Shard: shard, Revision: 9, Granted: true}, false},
		"another shard's":    {lease.IdentifyRequest{Shard: lease.ShardID{Generation: 2, Shard: 3}, Revision: 12, Granted: true}, false},
		"granted":            {lease.IdentifyRequest{Shard: shard, Revision: 12, Granted: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				g := newGrants()
				go func() {
					wait(ctx, time.Second)
					g.set(map[lease.RequestID]lease.IdentifyRequest{id: c.request}, lease.Update{Reset: true, Revision: 1})
				}()
				got, err := g.await(ctx, shard, 10)
				if c.granted != (err == nil) || c.granted && got != c.request {
					t.Errorf("got %+v, %v", got, err)
				}
				if !c.granted && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// A request that is deleted before it is granted is one to be made again; one that is only not known yet is not.
func TestAwaitGrantOfARequestThatGoes(t *testing.T) {
	shard := lease.ShardID{Generation: 1, Shard: 3}
	listed := func(at int64) lease.Update { return lease.Update{Reset: true, Revision: at} }
	followed := lease.Update{Revision: 12}
	requests := func(revision int64) map[lease.RequestID]lease.IdentifyRequest {
		return map[lease.RequestID]lease.IdentifyRequest{{Worker: "a", Shard: shard}: {Shard: shard, Revision: revision}}
	}
	for name, c := range map[string]struct {
		tell func(*grants)
		gone bool
	}{
		"not known yet":           {func(g *grants) { g.set(nil, listed(9)); g.set(nil, followed) }, false},
		"known, then gone":        {func(g *grants) { g.set(requests(10), followed); synctest.Wait(); g.set(nil, followed) }, true},
		"an earlier one goes":     {func(g *grants) { g.set(requests(8), followed); synctest.Wait(); g.set(nil, followed) }, false},
		"all are read without it": {func(g *grants) { g.set(nil, listed(10)) }, true},
		"all are read, with it":   {func(g *grants) { g.set(requests(10), listed(12)) }, false},
		"another shard's is known": {func(g *grants) {
			g.set(map[lease.RequestID]lease.IdentifyRequest{{Worker: "a"}: {Revision: 10}}, followed)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				g := newGrants()
				go func() {
					wait(ctx, time.Second)
					c.tell(g)
				}()
				_, err := g.await(ctx, shard, 10)
				if want := map[bool]error{true: errRequestGone, false: context.DeadlineExceeded}[c.gone]; !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			})
		})
	}
}

// What is tried without end backs off, and says so once a minute.
func TestPersist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out safeBuffer
		w := &Worker{log: hclog.New(&hclog.LoggerOptions{Output: &out})}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		tries := 0
		err := w.persist(ctx, "it fails", func(context.Context) error { tries++; return errors.New("as always") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if tries < 60 || tries > 400 { // at most 7.5 s between two, 5 s on average
			t.Errorf("%d tries in ten minutes", tries)
		}
		if n := out.count("it fails"); n < 9 || n > 11 {
			t.Errorf("%d lines in ten minutes", n)
		}
	})
}

// A change of state is told at once, one of load alone soon, and nothing new now and then.
func TestReportAfter(t *testing.T) {
	one, two := lease.RangeID{Generation: 1, Index: 1}, lease.RangeID{Generation: 1, Index: 2}
	base := lease.Status{Shards: map[int]lease.ShardStatus{1: {State: "live", Epoch: 2}}, EventsPerSecond: 100, Loads: map[lease.RangeID]float64{one: 50}}
	with := func(change func(*lease.Status)) lease.Status {
		s := base
		s.Shards, s.Loads = maps.Clone(base.Shards), maps.Clone(base.Loads)
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		status lease.Status
		want   time.Duration
	}{
		"the same":              {with(func(*lease.Status) {}), reportAnyway},
		"a little load":         {with(func(s *lease.Status) { s.EventsPerSecond = 109 }), reportAnyway},
		"a range's little load": {with(func(s *lease.Status) { s.Loads[one] = 54 }), reportAnyway},
		"latency":               {with(func(s *lease.Status) { s.Shards[1] = lease.ShardStatus{State: "live", Epoch: 2, LatencyMS: 9} }), reportAnyway},
		"much load":             {with(func(s *lease.Status) { s.EventsPerSecond = 111 }), reportLoad},
		"much less load":        {with(func(s *lease.Status) { s.EventsPerSecond = 89 }), reportLoad},
		"a range's load":        {with(func(s *lease.Status) { s.Loads[one] = 56 }), reportLoad},
		"another range's load":  {with(func(s *lease.Status) { s.Loads = map[lease.RangeID]float64{two: 50} }), reportLoad},
		"one more range's load": {with(func(s *lease.Status) { s.Loads[two] = 0 }), reportLoad},
		"no load known":         {with(func(s *lease.Status) { s.Loads = nil }), reportLoad},
		"state":                 {with(func(s *lease.Status) { s.Shards[1] = lease.ShardStatus{State: "waiting", Epoch: 2} }), 0},
		"epoch":                 {with(func(s *lease.Status) { s.Shards[1] = lease.ShardStatus{State: "live", Epoch: 3} }), 0},
		"generation":            {with(func(s *lease.Status) { s.Shards[1] = lease.ShardStatus{Generation: 2, State: "live", Epoch: 2} }), 0},
		"another shard":         {with(func(s *lease.Status) { s.Shards = map[int]lease.ShardStatus{2: base.Shards[1]} }), 0},
		"one more shard":        {with(func(s *lease.Status) { s.Shards[2] = base.Shards[1] }), 0},
		"no redis":              {with(func(s *lease.Status) { s.RedisFailing = true }), 0},
		"gap":                   {with(func(s *lease.Status) { s.Gaps++ }), 0},
	} {
		if got := reportAfter(base, c.status, 0); got != c.want {
			t.Errorf("%s: reported %v after the last, want %v", name, got, c.want)
		}
	}
	// In a large cluster nothing is told as often, or all workers together would tell etcd too much.
	state, load := with(func(s *lease.Status) { s.Gaps++ }), with(func(s *lease.Status) { s.EventsPerSecond = 111 })
	for shards, want := range map[int][2]time.Duration{
		1000: {50 * time.Millisecond, reportLoad}, 100_000: {5 * time.Second, reportLoad}, 400_000: {20 * time.Second, 20 * time.Second},
		10_000_000: {reportAnyway, reportAnyway},
	} {
		if got := [2]time.Duration{reportAfter(base, state, shards), reportAfter(base, load, shards)}; got != want {
			t.Errorf("among %d shards: reported %v after the last, want %v", shards, got, want)
		}
	}
}

func TestRates(t *testing.T) {
	m := &metrics{}
	now := time.Now()
	r := newRates(m, now)
	var events, bytes float64
	for n := range uint64(60) {
		now = now.Add(time.Second)
		events, bytes = r.at(now, 100*(n+1), 1000*(n+1))
	}
	if events < 99 || events > 101 || bytes < 990 || bytes > 1010 {
		t.Errorf("got %v events and %v bytes a second", events, bytes)
	}
	if again, _ := r.at(now, 1<<40, 0); again != events {
		t.Errorf("in no time it became %v", again)
	}
}
