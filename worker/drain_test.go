package worker

import (
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

func TestStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.start("a", nil)
	c.awaitLive()
	c.expect(c.shards, 0)
	published, err := stream.ReadCluster(t.Context(), c.client, c.name)
	must(t, err)
	if published.Shards != c.shards || published.Generation != 1 {
		t.Errorf("consumers are told %+v", published)
	}
}

func ownedBy(worker string) func(*lease.Cluster) bool {
	return func(state *lease.Cluster) bool {
		for _, r := range state.Ranges {
			if r.Owner.Worker != worker {
				return false
			}
		}
		return len(state.Ranges) == state.Plan.Ranges()
	}
}

func TestStopHandsOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", patientDrain)
	c.awaitLive()
	c.start("b", nil)
	c.leader.await("b is there", func(s *lease.Cluster) bool { return s.Workers["b"].Incarnation != 0 })
	a.end()
	again, err := c.store.Register(t.Context(), lease.Worker{ID: "a"}, testTTL)
	if err != nil {
		t.Errorf("it left its registration behind: %v", err)
	} else {
		must(t, again.Leave(t.Context()))
	}
	c.leader.await("b owns everything", ownedBy("b"))
	c.expect(c.shards, 0)
	if c.sim.Stats().Resumes < c.shards {
		t.Errorf("%d RESUMEs", c.sim.Stats().Resumes)
	}
}

func TestStopReleasesWhatNobodyTakes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", nil)
	c.awaitLive()
	c.leader.setIdle(true)
	a.end()
	c.leader.await("nobody owns anything", ownedBy(""))
	c.leader.setIdle(false)
	c.start("b", nil)
	c.leader.await("b owns everything", ownedBy("b"))
	c.expect(c.shards, 0)
}

// A worker that is to give a range up, for want of one that could have it, waits for nobody.
func TestGivesUpWhatItIsTold(t *testing.T) {
	t.Parallel()
	c, _, _ := pair(t, nil)
	c.awaitOwner(c.intend("").ID, "")
	c.leader.setIdle(false)
	c.awaitLive()
	c.expect(c.shards, 0)
}

// A worker that can reach nobody must still end in time, with its sockets closed.
func TestStopWithoutEtcd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	link := c.etcd.Link(t)
	a := c.startAt("a", link.Endpoints(), shortTTL)
	c.awaitLive()
	link.Cut()
	a.end()
	if c.out.count("ranges could not be released in time") != 1 {
		t.Error("it does not say so")
	}
	c.start("b", nil)
	c.leader.await("b owns everything", ownedBy("b"))
	c.expect(c.shards, 0)
}

// The target of a move vanishes while the source drains, which takes long because Redis is away. Until all is written the range is
// not handed over; then it cannot be, and once the leader has cancelled the move it starts again where it was.
func TestCancelledMoveStartsAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{redisArgs: []string{"--appendonly", "yes", "--appendfsync", "no"}})
	a := c.start("a", func(w *Worker) { w.timings.flush, w.timings.ready = patience, time.Millisecond })
	c.awaitLive()
	c.leader.setIdle(true)
	target, err := c.store.Register(t.Context(), lease.Worker{ID: "gone"}, testTTL)
	must(t, err)
	id := lease.RangeID{Generation: 1, Index: 1}
	state := c.leader.await("the target is there", func(s *lease.Cluster) bool { return s.Workers["gone"].Incarnation == target.Ref().Incarnation })

	c.redis.Kill()
	before := c.newest()
	c.await(func() string {
		now := c.newest()
		if now[2].Last < before[2].Last+5 || now[3].Last < before[3].Last+5 || a.writer.Stats().FailingSince.IsZero() {
			return "there is something to be written"
		}
		return ""
	})
	c.leader.act(lease.Intend, state.Ranges[id], target.Ref())
	c.await(func() string {
		if c.attached(2) || c.attached(3) {
			return "the source has drained"
		}
		return ""
	})
	must(t, target.Leave(t.Context()))
	state = c.leader.await("the target is gone", func(s *lease.Cluster) bool { return s.Workers["gone"].Incarnation == 0 })
	if r := state.Ranges[id]; r.Owner.Worker != "a" || r.Move == nil {
		t.Fatalf("handed over before all was written: %+v", r)
	}
	c.redis.Start()
	c.await(func() string {
		if c.out.count("range not passed on") == 0 {
			return "the handover is refused"
		}
		return ""
	})
	c.leader.act(lease.Cancel, state.Ranges[id], lease.Ref{})
	c.awaitLive()
	c.expect(c.shards, 0)
}

func TestKilledWorkerIsTakenOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	link := c.etcd.Link(t)
	c.startAt("a", link.Endpoints(), shortTTL)
	c.awaitLive()
	link.Cut() // to etcd it looks like a killed one; its sockets live on, which is worse
	c.start("b", nil)
	c.leader.await("b owns everything", ownedBy("b"))
	c.await(func() string {
		if c.sim.Stats().Resumes < c.shards {
			return "b has not resumed every session"
		}
		return ""
	})
	link.Mend()
	c.leader.await("a is back as another incarnation", func(s *lease.Cluster) bool { return s.Workers["a"].Incarnation > s.Workers["b"].Incarnation })
	c.expect(c.shards, 0)
}
