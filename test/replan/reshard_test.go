package replan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/clustertest"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// order writes a directive down, as the API does.
func (c *cluster) order(r lease.Reshard) {
	c.t.Helper()
	r.At = time.Now().UTC()
	must(c.t, c.OpenStore().Direct(c.t.Context(), r))
}

// settleReshard stops the traffic, waits until all of it is in the streams, and audits these across generations.
func (c *cluster) settleReshard(shards int) devstack.Account {
	c.t.Helper()
	_, _ = c.settle(shards)
	return devstack.AuditReshard(c.Sim.Sessions(), c.Read(c.Streams()))
}

// expectClean checks an account, of so many reshard markers and no gaps.
func expectClean(t *testing.T, a devstack.Account, markers int) {
	t.Helper()
	t.Logf("the account is %+v", a)
	if !a.Clean() || a.Gaps != 0 || a.Excused != 0 || a.Reshards != markers || a.Found == 0 {
		t.Errorf("the account is %+v, want %d markers", a, markers)
	}
}

// A running cluster gets another number of shards while it serves: nothing is lost, nothing is marked as missing, what comes twice comes
// after the marker, and there is one IDENTIFY for each new shard.
func TestReshard(t *testing.T) {
	for _, test := range []struct{ before, after int }{{4, 8}, {8, 4}, {4, 6}} {
		t.Run(fmt.Sprintf("from %d to %d", test.before, test.after), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, discordsim.Options{Shards: test.before, MaxConcurrency: 8, Rate: 100, Guilds: 40})
			defer c.Stop()
			c.Coordinate("one", 0)
			for _, id := range []string{"a", "b", "c"} {
				c.Work(id)
			}
			c.AwaitView("live shards", live(1, test.before))
			c.order(lease.Reshard{Shards: test.after})
			c.AwaitView("live shards of the next generation", live(2, test.after))
			c.Await("nothing of the former generation to be left", func() bool { return !c.anythingOf(1) })
			account := c.settleReshard(test.after)
			expectClean(t, account, test.after)
			c.expectWithinLimits()
			if n := c.Sim.Stats().Identifies; n != test.before+test.after {
				t.Errorf("%d IDENTIFYs", n)
			}
			published, err := stream.ReadCluster(t.Context(), c.Redis, clustertest.Name)
			if want := (stream.Cluster{Shards: test.after, Streams: max(test.before, test.after), Generation: 2}); err != nil || published != want {
				t.Errorf("published is %+v, %v", published, err)
			}
		})
	}
}

// muted counts the shards of the generation that is being prepared that say they are ready.
func muted(s *lease.Cluster) (n int) {
	for _, status := range s.Status {
		for _, shard := range status.Next {
			if shard.State == lease.StateMuted {
				n++
			}
		}
	}
	return n
}

// identified counts those that have a session.
func identified(s *lease.Cluster) (n int) {
	for _, status := range s.Status {
		for _, shard := range status.Next {
			if shard.Epoch > 0 {
				n++
			}
		}
	}
	return n
}

// The stages of a reshard from 4 to 8, as etcd has them.
var stages = map[string]func(*lease.Cluster) bool{
	"identifying": func(s *lease.Cluster) bool { return identified(s) >= 3 },
	"muted":       func(s *lease.Cluster) bool { return muted(s) >= 3 },
	"flipped":     func(s *lease.Cluster) bool { return s.Plan.Generation == 2 },
}

// A leader that ends at any stage is followed by one that goes on.
func TestReshardOutlivesItsLeader(t *testing.T) {
	for stage, reached := range stages {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, discordsim.Options{Shards: 4, MaxConcurrency: 4, Rate: 100, Guilds: 40})
			defer c.Stop()
			stop := c.Coordinate("one", 0)
			for _, id := range []string{"a", "b"} {
				c.Work(id)
			}
			c.AwaitView("live shards", live(1, 4))
			c.order(lease.Reshard{Shards: 8})
			c.awaitState(stage, reached)
			stop()
			c.Coordinate("two", 0)
			c.AwaitView("live shards of the next generation", live(2, 8))
			c.Await("nothing of the former generation to be left", func() bool { return !c.anythingOf(1) })
			expectClean(t, c.settleReshard(8), 8)
			c.expectWithinLimits()
			if n := c.Sim.Stats().Identifies; n != 12 {
				t.Errorf("%d IDENTIFYs", n)
			}
		})
	}
}

// A worker that is cut off from etcd at any stage, and goes on with its sockets for as long as Discord has them, is replaced by others:
// its muted shards are resumed, its former ones brought to their ends, and no session is lost.
func TestReshardOutlivesAWorker(t *testing.T) {
	for stage, reached := range stages {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, discordsim.Options{
				Shards: 4, MaxConcurrency: 4, Rate: 100, Guilds: 40, Allow: []discordsim.Rule{discordsim.RuleResumeLive},
			})
			defer c.Stop()
			c.Coordinate("one", 0)
			link := c.Etcd.Link(t)
			store, err := lease.Open(lease.Config{Endpoints: link.Endpoints(), Cluster: clustertest.Name})
			must(t, err)
			t.Cleanup(func() { _ = store.Close() })
			c.WorkOn("cut", store)
			c.Work("a")
			c.AwaitView("live shards", live(1, 4))
			c.order(lease.Reshard{Shards: 8})
			c.awaitState(stage, reached)
			link.Cut()
			c.AwaitView("live shards of the next generation, elsewhere", func(v *api.Cluster) bool { return live(2, 8)(v) && len(v.Workers) == 1 })
			c.Await("nothing of the former generation to be left", func() bool { return !c.anythingOf(1) })
			account := c.settleReshard(8)
			link.Mend()
			expectClean(t, account, 8)
			c.expectWithinLimits()
			if n := c.Sim.Stats().Identifies; n != 12 {
				t.Errorf("%d IDENTIFYs", n)
			}
		})
	}
}

// A worker is cut off when the number changes, and sessions of its former shards are lost with it: their streams end with a gap marker, by
// the one who was to finish them. Everything else goes on.
func TestReshardWithLostSessions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, discordsim.Options{
		Shards: 8, MaxConcurrency: 8, Rate: 100, Guilds: 40, Allow: []discordsim.Rule{discordsim.RuleResumeLive},
	})
	defer c.Stop()
	stop := c.Coordinate("one", 0)
	link := c.Etcd.Link(t)
	store, err := lease.Open(lease.Config{Endpoints: link.Endpoints(), Cluster: clustertest.Name})
	must(t, err)
	t.Cleanup(func() { _ = store.Close() })
	c.WorkOn("cut", store)
	c.Work("a")
	view := c.AwaitView("live shards, of both", func(v *api.Cluster) bool {
		moving := slices.ContainsFunc(v.Ranges, func(r api.Range) bool { return r.Moving })
		idle := slices.ContainsFunc(v.Workers, func(w api.Worker) bool { return w.Shards == 0 })
		return live(1, 8)(v) && len(v.Workers) == 2 && !idle && !moving
	})
	c.order(lease.Reshard{Shards: 4})
	c.awaitState("a new session", func(s *lease.Cluster) bool { return identified(s) == 4 })
	stop()
	c.awaitState("muted shards", func(s *lease.Cluster) bool { return muted(s) == 4 })
	link.Cut()
	lost := 0
	for _, s := range view.ShardStates {
		if s.Worker == "cut" && s.Shard >= 4 { // which no new session has the number of
			lost += c.Sim.Invalidate(s.Shard, false)
		}
	}
	c.Coordinate("two", 0)
	c.AwaitView("live shards of the next generation, elsewhere", func(v *api.Cluster) bool { return live(2, 4)(v) && len(v.Workers) == 1 })
	c.Await("nothing of the former generation to be left", func() bool { return !c.anythingOf(1) })
	account := c.settleReshard(4)
	link.Mend()
	t.Logf("the account is %+v", account)
	if !account.Clean() || lost == 0 || account.Gaps != lost || account.Reshards != 4 {
		t.Errorf("%d sessions were lost: %+v", lost, account)
	}
	c.expectWithinLimits()
	if n := c.Sim.Stats().Identifies; n != 12 {
		t.Errorf("%d IDENTIFYs", n)
	}
}

// What cannot be, or is not wanted any more, changes nothing: the cluster serves on, and nothing is left of what was prepared.
func TestReshardGivenUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, discordsim.Options{
		Shards: 4, ShardMultiple: 4, MaxConcurrency: 4, Rate: 100, Guilds: 40, SessionLimit: discordsim.SessionLimit{Total: 40},
	})
	defer c.Stop()
	c.Coordinate("one", 0)
	for _, id := range []string{"a", "b"} {
		c.Work(id)
	}
	c.AwaitView("live shards", live(1, 4))
	refused := func(r lease.Reshard, why string) {
		t.Helper()
		c.order(r)
		state := c.awaitState("a refusal", func(s *lease.Cluster) bool { return s.Directives.Reshard != nil && s.Directives.Reshard.Refused != "" })
		if got := state.Directives.Reshard.Refused; !strings.Contains(got, why) {
			t.Errorf("%+v is refused: %q, want %q in it", r, got, why)
		}
		if state.Plan.Generation != 1 || state.Plan.Next.Generation != 0 {
			t.Errorf("after %+v the plan is %+v", r, state.Plan)
		}
	}
	refused(lease.Reshard{Shards: 4}, "there are 4 shards already")
	refused(lease.Reshard{Shards: 36}, "is not enough for 36")
	refused(lease.Reshard{Shards: 44}, "never enough for 44")
	refused(lease.Reshard{Abort: true}, "nothing is being prepared")
	refused(lease.Reshard{Shards: 6}, "close code 4010")
	clean := func(generation int) {
		t.Helper()
		c.Await("nothing of a generation that is over to be left", func() bool { return !c.anythingOf(generation) })
	}
	clean(2)

	c.order(lease.Reshard{Shards: 8})
	c.awaitState("sessions", func(s *lease.Cluster) bool { return identified(s) >= 2 })
	c.order(lease.Reshard{Abort: true})
	c.awaitState("the abort", func(s *lease.Cluster) bool { return s.Plan.Next.Generation == 0 && s.Directives.Reshard == nil })
	clean(3)

	c.order(lease.Reshard{Shards: 8})
	c.AwaitView("live shards of the next generation", live(4, 8))
	clean(1)
	expectClean(t, c.settleReshard(8), 8)
	c.expectWithinLimits()
}
