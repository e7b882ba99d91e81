package worker

import (
	"strings"
	"testing"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

func isHalted(s *lease.Cluster) bool { return len(s.Halts) > 0 }

// The token is good for one worker and bad for the other, so that the good one shows what a halt does, and its end.
func TestWrongTokenHaltsTheFleet(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	good := c.start("b", nil)
	c.awaitLive()
	c.leader.setIdle(true)
	bad := c.start("a", func(w *Worker) { w.cfg.Token = "Another-Token.that-is-refused" })
	state := c.leader.await("a is there", func(s *lease.Cluster) bool { return s.Workers["a"].Incarnation != 0 })
	c.leader.act(lease.Intend, state.Ranges[lease.RangeID{Generation: 1}], state.Workers["a"].Ref())
	c.leader.await("the fleet is halted", isHalted)
	c.await(func() string {
		switch {
		case c.sim.Stats().Sockets > 0:
			return "every socket is closed"
		case c.out.count("fleet halted") != 2:
			return "each worker has said so once"
		}
		return ""
	})
	c.leader.await("every shard is reported as halted", func(s *lease.Cluster) bool {
		n := 0
		for _, status := range s.Status {
			for _, shard := range status.Shards {
				if shard.State == lease.StateHalted {
					n++
				}
			}
		}
		return n == c.shards
	})
	refused := c.sim.Stats()
	for _, p := range []*process{good, bad} {
		if _, err := p.ready(); err == nil || !strings.Contains(err.Error(), "halted") {
			t.Errorf("ready: %v", err)
		}
	}
	if strings.Contains(c.out.String(), "Another-Token") {
		t.Error("the refused token is in the log")
	}

	bad.end()
	c.leader.await("the halt is over", func(s *lease.Cluster) bool { return !isHalted(s) })
	c.leader.setIdle(false)
	c.awaitLive()
	if now := c.sim.Stats(); now.Violations != refused.Violations {
		t.Errorf("%d refusals before the halt was lifted, %d after: who was refused tries again", refused.Violations, now.Violations)
	}
	// Discord answered the bad token's RESUME by op 9, and so the sessions of its range count as lost.
	if gaps := c.audit(); gaps == 0 || gaps > 2 {
		t.Errorf("%d gap markers for the two shards that had the wrong token", gaps)
	}
}

func TestPrivilegedIntentsHaltTheFleet(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{sim: discordsim.Options{Rate: 1}})
	c.start("a", func(w *Worker) { w.cfg.Intents = shard.IntentsAll })
	state := c.leader.await("the fleet is halted", isHalted)
	if reason := state.Halts["a"].Reason; !strings.Contains(reason, "4014") {
		t.Errorf("the reason is %q", reason)
	}
	c.await(func() string {
		switch {
		case c.sim.Stats().Sockets > 0:
			return "every socket is closed"
		case c.out.count("fleet halted") != 1:
			return "the worker has said so once"
		}
		return ""
	})
}
