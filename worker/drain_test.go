package worker

import (
	"testing"

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
	c.leader.await("b owns everything, and a is gone", func(s *lease.Cluster) bool {
		return ownedBy("b")(s) && s.Workers["a"].Incarnation == 0
	})
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

// A worker that can reach nobody must still end in time, with its sockets closed.
func TestStopWithoutEtcd(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	link := c.etcd.Link(t)
	a := c.startAt("a", link.Endpoints(), nil)
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

func TestCancelledMoveStartsAgain(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.start("a", nil)
	c.awaitLive()
	c.leader.setIdle(true)
	id := lease.RangeID{Generation: 1, Index: 1}

	// The target vanishes between the leader's decision and the handover, which etcd would refuse to a leader that knew.
	target, err := c.store.Register(t.Context(), lease.Worker{ID: "gone"}, testTTL)
	must(t, err)
	state := c.leader.await("the target is there", func(s *lease.Cluster) bool { return s.Workers["gone"].Incarnation == target.Ref().Incarnation })
	c.leader.act(lease.Intend, state.Ranges[id], target.Ref())
	must(t, target.Leave(t.Context()))
	state = c.leader.await("the move is known", func(s *lease.Cluster) bool { return s.Ranges[id].Move != nil || s.Ranges[id].Owner.Worker == "gone" })
	if state.Ranges[id].Move == nil {
		t.Skip("the handover was faster than the target's end")
	}
	c.await(func() string {
		if c.attached(2) || c.attached(3) {
			return "the source has not drained"
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
	c.startAt("a", link.Endpoints(), nil)
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
