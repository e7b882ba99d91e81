package worker

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
)

func TestPrepare(t *testing.T) {
	id := lease.RangeID{Generation: 2, Index: 1}
	n := lease.Notice{Range: id, Prepare: true, Move: 20}
	for name, c := range map[string]struct {
		have       int64 // move that is stood by for; 0: none
		noticed    bool
		generation int
		posture    posture
		begin, end bool
	}{
		"nothing":                         {0, false, 2, serving, false, false},
		"noticed":                         {0, true, 2, serving, true, false},
		"standing by":                     {20, true, 2, serving, false, false},
		"the move is no more":             {20, false, 2, serving, false, true},
		"another move":                    {19, true, 2, serving, true, true},
		"the fleet is halted":             {20, true, 2, halted, false, true},
		"noticed while it is":             {0, true, 2, halted, false, false},
		"leaving":                         {20, true, 2, leaving, false, true},
		"of a plan that is not known yet": {0, true, 1, serving, false, false},
		"of a plan that is no more":       {20, true, 3, serving, false, true},
	} {
		have, notices := map[lease.RangeID]int64{}, map[lease.RangeID]lease.Notice{}
		if c.have != 0 {
			have[id] = c.have
		}
		if c.noticed {
			notices[id] = n
		}
		var wantBegin []lease.Notice
		var wantEnd []lease.RangeID
		if c.begin {
			wantBegin = []lease.Notice{n}
		}
		if c.end {
			wantEnd = []lease.RangeID{id}
		}
		begin, end := prepare(have, notices, c.generation, c.posture)
		if !reflect.DeepEqual(begin, wantBegin) || !reflect.DeepEqual(end, wantEnd) {
			t.Errorf("%s: begin %v, end %v", name, begin, end)
		}
	}
}

// pair is a cluster in which worker a owns everything, worker b nothing, and nothing moves unless the test says so.
func pair(t *testing.T, changeA func(*Worker)) (c *cluster, a, b *process) {
	c = newCluster(t, options{})
	a = c.start("a", changeA)
	c.awaitLive()
	c.leader.setIdle(true)
	b = c.start("b", nil)
	c.leader.await("b is there", func(s *lease.Cluster) bool { return s.Workers["b"].Incarnation != 0 })
	return c, a, b
}

// intend tells a to hand a range of two shards, 2 and 3, over.
func (c *cluster) intend(to string) lease.Range {
	c.t.Helper()
	id := lease.RangeID{Generation: 1, Index: 1}
	state, _ := c.leader.look()
	moved, target := state.Ranges[id], state.Workers[to].Ref()
	moved.Move = &lease.Move{To: target, Revision: c.leader.act(lease.Intend, moved, target)} // it may be over before it is seen
	return moved
}

func (c *cluster) awaitOwner(id lease.RangeID, worker string) {
	c.t.Helper()
	c.leader.await(worker+" owns the range", func(s *lease.Cluster) bool { return s.Ranges[id].Owner.Worker == worker })
}

// The target connects while the source still owns the range, and has but to resume when it is handed over.
func TestTargetConnectsBeforeTheHandover(t *testing.T) {
	t.Parallel()
	c, a, b := pair(t, nil)
	var handshakes, early atomic.Int64
	state, _ := c.leader.look()
	source := a.current.Load().reg.Own(lease.Assignment{Range: lease.RangeID{Generation: 1, Index: 1}, Fence: state.Ranges[lease.RangeID{Generation: 1, Index: 1}].Fence})
	c.sim.OnRequest(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Upgrade") == "" {
			return false
		}
		handshakes.Add(1)
		if source.Confirm(context.Background()) == nil {
			early.Add(1)
		}
		return false
	})
	moved := c.intend("b")
	c.awaitOwner(moved.ID, "b")
	c.expect(c.shards, 0)
	if handshakes.Load() != 2 || early.Load() != 2 {
		t.Errorf("%d connections, %d of them before the handover", handshakes.Load(), early.Load())
	}
	if n := c.sim.Stats().Resumes; n != 2 {
		t.Errorf("%d RESUMEs", n)
	}
	for p, part := range map[*process]string{a: "source", b: "target"} {
		want := fmt.Sprintf("muster_worker_move_seconds_count{part=%q} ", part)
		c.await(func() string { // RESUMED is in the stream a moment before the session counts as live
			if _, metrics := p.get("/metrics"); !strings.Contains(metrics, want) || strings.Contains(metrics, want+"0\n") {
				return fmt.Sprintf("the %s counts the move", part)
			}
			return ""
		})
	}
}

// A target that cannot connect ahead says so at once; the handover goes on without.
func TestTargetThatCannotConnectAhead(t *testing.T) {
	t.Parallel()
	c, _, _ := pair(t, nil)
	var refuse atomic.Bool
	refuse.Store(true)
	c.sim.OnRequest(func(w http.ResponseWriter, r *http.Request) bool {
		if refuse.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return refuse.Load()
	})
	moved := c.intend("b")
	c.awaitOwner(moved.ID, "b")
	refuse.Store(false)
	c.expect(c.shards, 0)
}

// Until its target is ready a range runs on, and when it is the source waits no longer.
func TestSourceWaitsForItsTarget(t *testing.T) {
	t.Parallel()
	c, _, _ := pair(t, nil)
	target, err := c.store.Register(t.Context(), lease.Worker{ID: "gone"}, testTTL)
	must(t, err)
	c.leader.await("the target is there", func(s *lease.Cluster) bool { return s.Workers["gone"].Incarnation != 0 })
	moved := c.intend("gone")
	c.await(func() string {
		if c.out.count("step=await") == 0 {
			return "the source waits"
		}
		return ""
	})
	sent := c.newest()[2].Last + 20
	c.await(func() string {
		if log := c.newest()[2]; log.Last < sent || !log.Attached {
			return "events go on"
		}
		return ""
	})
	must(t, target.Ready(t.Context(), lease.Notice{
		Range: moved.ID, Owner: moved.Owner, OwnerFence: moved.Fence, Move: moved.Move.Revision,
	}))
	c.awaitOwner(moved.ID, "gone")
	must(t, target.Leave(t.Context()))
	c.leader.setIdle(false)
	c.awaitLive()
	c.expect(c.shards, 0)
}

// A target that says nothing is not waited for any longer than timings.ready.
func TestSourceDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	c, _, _ := pair(t, func(w *Worker) { w.timings.ready = time.Millisecond })
	target, err := c.store.Register(t.Context(), lease.Worker{ID: "gone"}, testTTL)
	must(t, err)
	c.leader.await("the target is there", func(s *lease.Cluster) bool { return s.Workers["gone"].Incarnation != 0 })
	moved := c.intend("gone")
	c.awaitOwner(moved.ID, "gone")
	must(t, target.Leave(t.Context()))
	c.leader.setIdle(false)
	c.awaitLive()
	c.expect(c.shards, 0)
}

// Connections of a move that is cancelled are closed, and the source, which waits for one that never gets ready, runs on.
func TestCancelClosesConnections(t *testing.T) {
	t.Parallel()
	c, a, b := pair(t, nil)
	var hold atomic.Bool
	hold.Store(true)
	held := make(chan struct{})
	t.Cleanup(func() { close(held) })
	c.sim.OnRequest(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Upgrade") != "" && hold.Swap(false) { // so that b does not get ready
			<-held
		}
		return false
	})
	moved := c.intend("b")
	c.await(func() string {
		if n := c.sim.Stats().Sockets; n != c.shards+1 {
			return fmt.Sprintf("one connection more than shards, there are %d", n)
		}
		return ""
	})
	c.leader.act(lease.Cancel, moved, lease.Ref{})
	c.await(func() string {
		if n := c.sim.Stats().Sockets; n != c.shards {
			return fmt.Sprintf("no more connections than shards, there are %d", n)
		}
		return ""
	})
	c.expect(c.shards, 0)
	if a.metrics.connects.Load() != uint64(c.shards) || b.metrics.connects.Load() != 0 {
		t.Error("sessions were interrupted")
	}
}

// What was opened ahead and is gone when it is needed is made up for: the session dials.
func TestConnectionAheadIsLost(t *testing.T) {
	t.Parallel()
	c, _, _ := pair(t, nil)
	_, err := c.sim.Inject(discordsim.Fault{Kind: discordsim.FaultDrop, Stage: discordsim.StageAfterHello, Times: 2})
	must(t, err)
	moved := c.intend("b")
	c.awaitOwner(moved.ID, "b")
	c.expect(c.shards, 0)
}
