package worker

import (
	"sync"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// flip puts another generation in force, whose ranges the leader gives to nobody.
func (c *cluster) flip() {
	c.t.Helper()
	c.leader.setIdle(true)
	plan := c.leader.await("a plan", func(s *lease.Cluster) bool { return s.Plan.Generation == 1 }).Plan
	plan.Generation, plan.Former, plan.Last = 2, lease.Cut{Generation: 1, Shards: plan.Shards, RangeSize: plan.RangeSize}, 2
	_, err := c.leader.term.SetPlan(c.t.Context(), plan)
	must(c.t, err)
}

// retired waits until the ranges of the former generation are brought to their ends.
func (c *cluster) retired() {
	c.t.Helper()
	c.leader.await("the former ranges are retired", func(s *lease.Cluster) bool { return len(s.Ranges) == 0 })
}

// What is on its way when another generation is put in force comes into the stream before the range is retired.
func TestFinishWaitsForAllThatWasSent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{distance: 400 * time.Millisecond})
	c.start("a", nil)
	c.awaitLive()
	sent := map[int]int64{}
	for n, session := range c.newest() {
		sent[n] = session.Last
	}
	c.flip()
	c.retired()
	for n, last := range sent {
		tail, err := stream.Tail(t.Context(), c.client, c.name, n)
		must(t, err)
		if tail.Seq < last {
			t.Errorf("shard %d's stream ends with %v, and %d had been sent", n, tail, last)
		}
	}
}

// A shard that is being brought to its end sends no commands any more: the answers would come to a session that is closed by then. Here it asks
// Discord whether all has come, and is not answered before there are commands.
func TestFinishingShardSendsNoCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", nil)
	c.awaitLive()
	p := c.produce()
	asked, answer := make(chan struct{}), make(chan struct{})
	ask, goOn := sync.OnceFunc(func() { close(asked) }), sync.OnceFunc(func() { close(answer) })
	t.Cleanup(goOn)
	c.sim.OnMessage(func(m *discordsim.Message) bool {
		if m.Op == 1 && m.Shard == p.shard && a.finishing(p.shard) { // and not because it was time for a heartbeat
			ask()
			<-answer
		}
		return false
	})
	c.flip()
	<-asked
	p.send(3)
	c.await(func() string {
		if c.out.count("the session is about to end") < 3 {
			return "the commands are read and left"
		}
		return ""
	})
	goOn()
	c.retired()
	if n := p.waiting(); n != 3 || a.sent() != 0 {
		t.Errorf("%d commands wait, %d were sent", n, a.sent())
	}
}

// finishing reports whether a shard is being brought to its end.
func (p *process) finishing(n int) bool {
	b := p.current.Load().board
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.runners {
		if r.id.Shard == n && r.finishing() {
			return true
		}
	}
	return false
}
