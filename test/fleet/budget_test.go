package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/clustertest"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// Discord's budget covers 20 IDENTIFYs, of which two are kept back; the bot has 24 shards. The leader may reckon with less than Discord does, for
// permits that ran out unused, as on a busy machine; with more it never does.
func shortOfBudget(t *testing.T, resetAfter time.Duration) *clustertest.Cluster {
	c := clustertest.Start(t, clustertest.Options{Sim: discordsim.Options{
		Shards: 24, MaxConcurrency: 24, SessionLimit: discordsim.SessionLimit{Total: 20, ResetAfter: resetAfter}, Guilds: 48, Rate: 100,
	}})
	c.Coordinate("one", 0)
	c.Work("a")
	c.Work("b")
	view := c.AwaitView("all that the budget covers to be live", func(v *api.Cluster) bool {
		return live(v) == 18 && v.Budget.Waiting == 6 && v.Budget.Remaining <= 2 && v.Budget.ResetAt.After(v.At)
	})
	if view.Budget.Reserve != 2 {
		t.Errorf("the budget is %+v", view.Budget)
	}
	return c
}

func live(v *api.Cluster) (n int) {
	for _, s := range v.ShardStates {
		if s.State == "live" {
			n++
		}
	}
	return n
}

// A first start that the budget does not cover goes as far as it does, says so, and goes on by itself when Discord's budget is reset.
func TestAFirstStartLargerThanTheBudget(t *testing.T) {
	t.Parallel()
	c := shortOfBudget(t, 45*time.Second) // long enough for a busy machine to use up what there is before
	defer c.Stop()
	view := c.AwaitView("the others to be live after the reset", clustertest.Live(24))
	if view.Budget.Waiting != 0 {
		t.Errorf("%d shards still wait", view.Budget.Waiting)
	}
	for _, text := range []string{"identify budget is down to its reserve", "no shard waits for the identify budget any more"} {
		if n := strings.Count(c.Log.String(), text); n != 1 {
			t.Errorf("the log says %q %d times", text, n)
		}
	}
	if account := c.Settle(); !account.Clean() || account.Identifies != 24 {
		t.Errorf("the account is %+v", account)
	}
}

// While shards wait for the budget, its reserve begins another session for one that has lost its own.
func TestTheReserveIsForRepairs(t *testing.T) {
	t.Parallel()
	c := shortOfBudget(t, 24*time.Hour)
	defer c.Stop()
	var lost int
	for _, session := range c.Sim.Sessions() {
		lost = session.Shard
	}
	c.Sim.Invalidate(lost, false)
	c.AwaitView("another session", func(v *api.Cluster) bool { return live(v) == 18 && v.ShardStates[lost].Epoch == 2 })
	view := c.AwaitView("that to be counted", func(v *api.Cluster) bool { return v.Budget.Remaining <= 1 })
	if view.Budget.Waiting != 6 {
		t.Errorf("%d shards wait, want 6", view.Budget.Waiting)
	}
	if stats := c.Sim.Stats(); stats.Identifies != 19 || stats.IdentifiesRefused != 0 || stats.BudgetRemaining != 1 {
		t.Errorf("discord counts %+v", stats)
	}
}
