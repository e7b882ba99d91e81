package replan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/clustertest"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// A cluster whose number Discord does not accept comes up on the number that it recommends by then, by itself.
func TestARefusedNumberIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, discordsim.Options{Shards: 8, ShardMultiple: 4, MaxConcurrency: 4, Rate: 100, Guilds: 40})
	defer c.Stop()
	c.advice.Store(6)
	c.Coordinate("one", 0)
	c.AwaitView("the plan", func(v *api.Cluster) bool { return v.Shards == 6 })
	c.advice.Store(0)
	for _, id := range []string{"a", "b", "c"} {
		c.Work(id)
	}
	view := c.AwaitView("eight live shards", live(2, 8))
	if view.Alarm != "" || len(view.Refused) != 0 {
		t.Errorf("alarm %q, refusals %v", view.Alarm, view.Refused)
	}
	c.expectNothingOf(1)
	c.expectWithinLimits()
	stats := c.Sim.Stats()
	if stats.IdentifiesRefused > 6 || stats.Identifies != 8 { // each shard once, at most
		t.Errorf("%d IDENTIFYs refused, %d taken", stats.IdentifiesRefused, stats.Identifies)
	}
	if n := c.asked.Load(); n > 10 {
		t.Errorf("discord was asked %d times", n)
	}
	published, err := stream.ReadCluster(t.Context(), c.Redis, clustertest.Name)
	if err != nil || published != (stream.Cluster{Shards: 8, Streams: 8, Generation: 2}) {
		t.Errorf("published is %+v, %v", published, err)
	}
	if _, account := c.settle(8); !account.Clean() || account.Found == 0 {
		t.Errorf("the account is %+v", account)
	}
}

// A cluster that runs gets more or fewer shards when a shard is refused on reconnecting. Streams go on under their keys.
func TestARunningClusterIsReplanned(t *testing.T) {
	for _, test := range []struct {
		code          discordsim.CloseCode
		before, after int
		leaderEnds    bool // in between
	}{
		{discordsim.CloseShardingRequired, 4, 8, false},
		{discordsim.CloseShardingRequired, 4, 8, true},
		{discordsim.CloseInvalidShard, 8, 4, false},
	} {
		t.Run(fmt.Sprintf("from %d to %d, leader ends %v", test.before, test.after, test.leaderEnds), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, discordsim.Options{Shards: 4, MaxConcurrency: 8, Rate: 200, Guilds: 40})
			defer c.Stop()
			c.advice.Store(int32(test.before))
			stop := c.Coordinate("one", 0)
			for _, id := range []string{"a", "b", "c"} {
				c.Work(id)
			}
			c.AwaitView("live shards", live(1, test.before))
			c.advice.Store(int32(test.after))
			c.Sim.Disconnect(2, test.code)
			if test.leaderEnds {
				c.AwaitView("the next plan", func(v *api.Cluster) bool { return v.Generation == 2 })
				stop()
				c.Coordinate("two", 0)
			}
			c.AwaitView("live shards of the next generation", live(2, test.after))
			c.expectNothingOf(1)
			c.expectWithinLimits()
			if n := c.Sim.Stats().Identifies; n != test.before+test.after {
				t.Errorf("%d IDENTIFYs", n)
			}
			streams, account := c.settle(min(test.before, test.after)) // the others end without a marker, since nothing follows
			if !account.Clean() {
				t.Errorf("the account is %+v", account)
			}
			for n := range max(test.before, test.after) {
				gaps := 0
				for i, e := range streams[n] {
					if e.Type == stream.GapType && i > 0 { // one at the beginning: a permit ran out unused, as on a busy machine
						gaps++
					}
				}
				want := 0
				if n < min(test.before, test.after) {
					want = 1
				}
				if gaps != want {
					t.Errorf("shard %d's stream has %d gap markers, want %d", n, gaps, want)
				}
			}
		})
	}
}

// MUSTER_SHARDS is fixed to a number that Discord refuses: the cluster says what to do, and does nothing until that is done.
func TestAFixedNumberThatIsRefused(t *testing.T) {
	for _, test := range []struct {
		name         string
		sim          discordsim.Options
		fixed, right int
		code         int
	}{
		{"not a multiple", discordsim.Options{Shards: 8, ShardMultiple: 4, MaxConcurrency: 4, Guilds: 40}, 6, 8, 4010},
		{"too many guilds", discordsim.Options{Shards: 2, MaxConcurrency: 2, Guilds: 3000}, 1, 2, 4011},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, test.sim)
			defer c.Stop()
			c.intents = shard.IntentGuildMessages // the guilds are not sent
			stop := c.Coordinate("one", test.fixed)
			workers := map[string]*clustertest.Worker{}
			for _, id := range []string{"a", "b"} {
				workers[id] = c.Work(id)
			}
			view := c.AwaitView("an alarm", func(v *api.Cluster) bool { return v.Alarm != "" })
			for _, part := range []string{fmt.Sprint(test.code), "MUSTER_SHARDS is fixed", "set it to 0", fmt.Sprintf("recommends %d", test.right)} {
				if !strings.Contains(view.Alarm, part) {
					t.Errorf("alarm %q does not say %q", view.Alarm, part)
				}
			}
			if view.Generation != 1 || len(view.Refused) == 0 || view.Refused[0].Code != test.code {
				t.Errorf("generation %d, refusals %+v", view.Generation, view.Refused)
			}
			if body := c.Get("/metrics"); !strings.Contains(body, "muster_cluster_alarms 1") {
				t.Error("the coordinator's metrics do not say so")
			}
			refuser := view.Refused[0].Worker
			if body := workers[refuser].Get(c.Cluster, "/metrics"); !strings.Contains(body, fmt.Sprintf(`muster_worker_refusals_total{code="%d"}`, test.code)) {
				t.Errorf("the metrics of %s do not say so", refuser)
			}

			// Another worker makes ranges move, and another leader with the same number finds all as it was.
			c.Work("c")
			stop()
			stop = c.Coordinate("two", test.fixed)
			c.AwaitView("the next leader", func(v *api.Cluster) bool { return v.Leader == "two" && len(v.Workers) == 3 })
			c.Await("its alarm", func() bool { return strings.Count(c.Log.String(), "plan refused by discord and not replaced") == 2 })
			if n := c.asked.Load(); n > 10 {
				t.Errorf("discord was asked %d times", n)
			}
			if n := c.Sim.Stats().IdentifiesRefused; n > test.fixed { // each shard once, at most
				t.Errorf("%d IDENTIFYs were refused", n)
			}

			stop()
			c.Coordinate("three", 0)
			view = c.AwaitView("live shards of the recommended number", live(2, test.right))
			if view.Alarm != "" {
				t.Errorf("the alarm stands: %q", view.Alarm)
			}
			c.expectNothingOf(1)
			c.expectWithinLimits()
			if n := c.Sim.Stats().Identifies; n != test.right {
				t.Errorf("%d IDENTIFYs for %d shards", n, test.right)
			}
		})
	}
}
