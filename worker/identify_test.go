package worker

import (
	"testing"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// requested waits until every shard has asked for a slot.
func (c *cluster) requested() *lease.Cluster {
	c.t.Helper()
	return c.leader.await("every shard asks", func(s *lease.Cluster) bool { return len(s.Requests) == c.shards })
}

func TestIdentifyWaitsForItsGrant(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.leader.setStingy(true)
	c.start("a", nil)
	c.requested()
	if n := c.sim.Stats().Identifies; n != 0 {
		t.Fatalf("%d IDENTIFYs without a grant", n)
	}
	c.leader.setStingy(false)
	c.awaitLive()
	c.expect(c.shards, 0)
}

// Shards that wait for their slots are given away: the requests are taken back, and the next owner makes its own.
func TestWaitingShardMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.leader.setStingy(true)
	c.start("a", nil)
	c.requested()
	c.leader.setIdle(true)
	c.start("b", nil)
	state := c.leader.await("b is there", func(s *lease.Cluster) bool { return s.Workers["b"].Incarnation != 0 })
	c.leader.act(lease.Intend, state.Ranges[lease.RangeID{Generation: 1}], state.Workers["b"].Ref())
	c.leader.await("b alone asks for the moved range's shards", func(s *lease.Cluster) bool {
		asks := map[int]string{}
		for id := range s.Requests {
			asks[id.Shard.Shard] += id.Worker
		}
		return asks[0] == "b" && asks[1] == "b" && asks[2] == "a" && asks[3] == "a"
	})
	if n := c.sim.Stats().Identifies; n != 0 {
		t.Errorf("%d IDENTIFYs without a grant", n)
	}
	c.leader.setStingy(false)
	c.awaitLive()
	c.expect(c.shards, 0)
}

// Another owner's claim left no session behind: what it may have received is unknown, so the next epoch says so.
func TestClaimWithoutSessionIsMarked(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.leader.setIdle(true)
	c.leader.setStingy(true)
	dead, err := c.store.Register(t.Context(), lease.Worker{ID: "dead"}, testTTL)
	must(t, err)
	id := lease.RangeID{Generation: 1}
	state := c.leader.await("it is there", func(s *lease.Cluster) bool { return s.Workers["dead"].Incarnation != 0 })
	c.leader.act(lease.Assign, lease.Range{ID: id}, state.Workers["dead"].Ref())
	state = c.leader.await("it owns", func(s *lease.Cluster) bool { return s.Ranges[id].Fence != 0 })
	own := dead.Own(lease.Assignment{Range: id, Fence: state.Ranges[id].Fence})
	_, err = own.RequestIdentify(t.Context(), 0, false)
	must(t, err)
	asked := lease.RequestID{Worker: "dead", Shard: lease.ShardID{Generation: 1, Shard: 0}}
	state = c.leader.await("it asks", func(s *lease.Cluster) bool { return s.Requests[asked].Revision != 0 })
	_, err = c.leader.term.OpenSlots(t.Context(), state.Budget, lease.Grant{Request: state.Requests[asked], Range: id})
	must(t, err)
	state = c.leader.await("it is granted", func(s *lease.Cluster) bool { return s.Requests[asked].Granted })
	_, err = own.ClaimSlot(t.Context(), state.Requests[asked], lease.Session{}, 0, c.shards)
	must(t, err)
	must(t, dead.Leave(t.Context()))

	c.leader.setIdle(false)
	c.leader.setStingy(false)
	c.start("e", nil)
	c.awaitLive()
	c.expect(c.shards, 0)
	streams, _ := c.read()
	if first := streams[0][0]; first.ID.Epoch < 2 || first.Type != stream.GapType {
		t.Errorf("the stream begins with %v %s", first.ID, first.Type)
	}
}

// What is only being prepared repairs nothing, though it had a session before: what is kept back of the day's budget is not for it.
func TestMutedShardIsNoRepair(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.leader.setIdle(true)
	c.leader.setStingy(true)
	state := c.leader.await("a plan", func(s *lease.Cluster) bool { return s.Plan.Generation == 1 })
	plan := state.Plan
	plan.Next, plan.Last = lease.Cut{Generation: 2, Shards: plan.Shards, RangeSize: plan.RangeSize}, 2
	_, err := c.leader.term.SetPlan(t.Context(), plan)
	must(t, err)
	claim := func(id lease.RangeID) { // by one who then dies, so that the shard has had an epoch
		t.Helper()
		dead, err := c.store.Register(t.Context(), lease.Worker{ID: "dead"}, testTTL)
		must(t, err)
		c.leader.await("it is there", func(s *lease.Cluster) bool {
			return s.Workers["dead"].Ref() == dead.Ref() && s.Plan.Next.Generation == 2
		})
		c.leader.act(lease.Assign, lease.Range{ID: id}, dead.Ref())
		state := c.leader.await("it owns", func(s *lease.Cluster) bool { return s.Ranges[id].Owner == dead.Ref() })
		own := dead.Own(lease.Assignment{Range: id, Fence: state.Ranges[id].Fence})
		shard := lease.ShardID{Generation: id.Generation, Shard: 0}
		_, err = own.RequestIdentify(t.Context(), 0, false)
		must(t, err)
		asked := lease.RequestID{Worker: "dead", Shard: shard}
		state = c.leader.await("it asks", func(s *lease.Cluster) bool { return s.Requests[asked].Revision != 0 })
		slot := state.Slots[0]
		_, err = c.leader.term.OpenSlots(t.Context(), state.Budget, lease.Grant{Request: state.Requests[asked], Range: id, Slot: slot})
		must(t, err)
		state = c.leader.await("it is granted", func(s *lease.Cluster) bool { return s.Requests[asked].Granted })
		_, err = own.ClaimSlot(t.Context(), state.Requests[asked], lease.Session{}, 0, c.shards)
		must(t, err)
		must(t, dead.Leave(t.Context()))
	}
	repairs := map[int]bool{}
	for generation := 1; generation <= 2; generation++ {
		claim(lease.RangeID{Generation: generation})
	}
	c.start("e", nil)
	state = c.leader.await("e is there", func(s *lease.Cluster) bool {
		return s.Workers["e"].Incarnation != 0 && s.Workers["dead"].Incarnation == 0
	})
	for generation := 1; generation <= 2; generation++ {
		id := lease.RangeID{Generation: generation}
		c.leader.act(lease.Assign, state.Ranges[id], state.Workers["e"].Ref())
		asks := lease.RequestID{Worker: "e", Shard: lease.ShardID{Generation: generation, Shard: 0}}
		repairs[generation] = c.leader.await("it asks", func(s *lease.Cluster) bool { return s.Requests[asks].Revision != 0 }).Requests[asks].Repair
	}
	if !repairs[1] || repairs[2] {
		t.Errorf("repair is said of the shard in force: %v, of that which is being prepared: %v", repairs[1], repairs[2])
	}
}
