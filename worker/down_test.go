package worker

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

// down orders the cluster down, and waits until every shard is reported so.
func (c *cluster) down(end bool) {
	c.t.Helper()
	must(c.t, c.store.Direct(c.t.Context(), lease.Down{EndSessions: end}))
	c.leader.await("every shard is down", func(s *lease.Cluster) bool { return isDown(s, c.shards) })
	c.unplugged()
}

func isDown(s *lease.Cluster, shards int) bool {
	n := 0
	for _, status := range s.Status {
		for _, shard := range status.Shards {
			if shard.State == lease.StateDown && shard.Generation == 1 {
				n++
			}
		}
	}
	return n == shards
}

// connects is how many sockets workers opened.
func connects(workers ...*process) (n uint64) {
	for _, w := range workers {
		n += w.metrics.connects.Load()
	}
	return n
}

// goesOn waits until Discord has sent more for longer than a shard takes to connect.
func (c *cluster) goesOn() {
	c.t.Helper()
	sent := c.sim.Stats().Dispatched
	c.await(func() string {
		if c.sim.Stats().Dispatched < sent+300 {
			return "discord goes on"
		}
		return ""
	})
}

// Down closes every socket resumably, and up resumes every session: no IDENTIFY, no gap.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", nil)
	c.awaitLive()
	c.down(false)
	c.goesOn()
	if now := c.sim.Stats(); now.Sockets != 0 || connects(a) != uint64(c.shards) {
		t.Errorf("while down %d sockets were opened, and %d are open", connects(a)-uint64(c.shards), now.Sockets)
	}
	if code, body := a.get("/readyz"); code != 200 || !strings.Contains(body, "down by order") {
		t.Errorf("readyz: %d %s", code, body)
	}
	for n, session := range c.newest() {
		if session.Ended != "" || c.record(n).ID == "" {
			t.Errorf("shard %d's session is ended (%s), or not on record", n, session.Ended)
		}
	}
	must(t, c.store.EndDown(t.Context()))
	c.awaitLive()
	if code, body := a.get("/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("readyz: %d %s", code, body)
	}
	c.expect(c.shards, 0)
	if n := c.sim.Stats().Resumes; n != c.shards {
		t.Errorf("%d RESUMEs", n)
	}
	if c.out.count("cluster is down by order") != 1 || c.out.count("cluster is up again") != 1 {
		t.Error("it does not say so, once")
	}
}

// With the sessions ended nothing is left to resume: each shard identifies once, and marks what was missed.
func TestDownEndsSessions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.start("a", nil)
	c.awaitLive()
	before := map[int]lease.Session{}
	for n := range c.shards {
		before[n] = c.record(n)
	}
	c.down(true)
	for n, session := range c.newest() {
		if session.Ended != discordsim.EndClosed {
			t.Errorf("shard %d's session is not ended but %q", n, session.Ended)
		}
	}
	for n := range c.shards {
		if now := c.record(n); now.ID != "" || now.Epoch != before[n].Epoch {
			t.Errorf("shard %d's record is of epoch %d, with %v", n, now.Epoch, now)
		}
	}
	must(t, c.store.EndDown(t.Context()))
	c.awaitLive()
	c.expect(2*c.shards, c.shards)
	if n := c.sim.Stats().Resumes; n != 0 {
		t.Errorf("%d RESUMEs", n)
	}
}

// Ordered when the sockets are closed already, ending the sessions takes them from their records: they are not resumed.
func TestDownFirstAndThenEndSessions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.start("a", nil)
	c.awaitLive()
	c.down(false)
	must(t, c.store.Direct(t.Context(), lease.Down{EndSessions: true}))
	c.await(func() string {
		for n := range c.shards {
			if c.record(n).ID != "" {
				return fmt.Sprintf("shard %d's session is off the record", n)
			}
		}
		return ""
	})
	c.down(true)
	must(t, c.store.EndDown(t.Context()))
	c.awaitLive()
	c.expect(2*c.shards, c.shards)
}

// While the cluster is down workers come and go: they get ranges, and hold them without a socket; and so does a new leader, which
// knows of the order as the old one did.
func TestWorkersComeAndGoWhileDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", patientDrain)
	c.awaitLive()
	c.down(false)
	b := c.start("b", nil)
	c.leader.await("b is there", func(s *lease.Cluster) bool { return s.Workers["b"].Incarnation != 0 })
	a.end()
	c.leader.await("b holds everything", func(s *lease.Cluster) bool { return ownedBy("b")(s) && isDown(s, c.shards) })
	c.goesOn()
	if n := connects(b); n != 0 {
		t.Errorf("b opened %d sockets", n)
	}
	if _, err := b.ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	must(t, c.store.EndDown(t.Context()))
	c.awaitLive()
	c.expect(c.shards, 0)
}

// A worker that starts when the cluster is down connects nothing, not even for the first time.
func TestStartWhileDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	must(t, c.store.Direct(t.Context(), lease.Down{}))
	a := c.start("a", nil)
	c.leader.await("every shard is down", func(s *lease.Cluster) bool { return isDown(s, c.shards) })
	if n := connects(a); n != 0 {
		t.Errorf("%d sockets were opened", n)
	}
	must(t, c.store.EndDown(t.Context()))
	c.awaitLive()
	c.expect(c.shards, 0)
}

// Shards that are about to identify when the order comes do not.
func TestDownBeforeIdentify(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.leader.setStingy(true)
	c.start("a", nil)
	c.leader.await("every shard asks for a slot", func(s *lease.Cluster) bool { return len(s.Requests) == c.shards })
	c.down(false)
	c.leader.await("nobody asks any more", func(s *lease.Cluster) bool { return len(s.Requests) == 0 })
	c.leader.setStingy(false)
	must(t, c.store.EndDown(t.Context()))
	c.awaitLive()
	c.expect(c.shards, 0)
}

func TestWakeSpread(t *testing.T) {
	for shards, want := range map[int]time.Duration{
		0: 0, 16: 8 * time.Millisecond, 1000: 500 * time.Millisecond, 100_000: 50 * time.Second, 1_000_000: time.Minute,
	} {
		if got := wakeSpread(shards); got != want {
			t.Errorf("%d shards wake within %v, want %v", shards, got, want)
		}
	}
}

// Shards that may connect again do so one after the other, over a time: none of them at once, in which there would be neither Redis nor
// Discord here to do it with.
func TestShardsWakeOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &incarnation{
			log: hclog.NewNullLogger(), board: newBoard(), plan: newPlanView(), ranges: map[lease.RangeID]*heldRange{}, ended: make(chan rangeEnd),
			orders: &lease.Orders{
				Plan:        lease.Plan{Generation: 1, Shards: 1_000_000, RangeSize: 2},
				Assignments: map[lease.RangeID]lease.Assignment{one: {Range: one, Fence: 10}},
				Down:        &lease.Down{},
			},
		}
		life, end := context.WithCancel(t.Context())
		in.act(life, serving)
		if states, _, _ := in.board.shards(in.orders.Plan, time.Now()); len(in.ranges) != 0 || states[2].State != lease.StateDown || states[3].State != lease.StateDown {
			t.Errorf("down, the shards are %+v", states)
		}
		in.orders.Down = nil
		in.act(life, serving)
		synctest.Wait()
		if states, _, _ := in.board.shards(in.orders.Plan, time.Now()); len(in.ranges) != 1 || states[2].State != string(shard.StateConnecting) {
			t.Errorf("up again, the shards are %+v", states)
		}
		end()
		<-in.ended
	})
}
