package deploy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

const never = -1

// What Prometheus makes of the rules. Each has a case in which it fires and one, as near to it as can be, in which it does not. A value of a
// series is scraped every half minute.
func TestAlertsFire(t *testing.T) {
	rules := alertRules(t)
	fired, kept := map[string]bool{}, map[string]bool{}
	for _, c := range []struct {
		name, alert string
		series      []string
		after       time.Duration // never: it does not fire in half an hour
		says        string
	}{
		{"halted, as one of two replicas knows", "MusterHalted",
			[]string{`muster_cluster_halts{instance="c1"} 0x60`, `muster_cluster_halts{instance="c2"} 0x9 1x51`}, 5 * time.Minute, "Discord refuses the bot"},
		{"no halt", "MusterHalted", []string{`muster_cluster_halts{instance="c1"} 0x60`}, never, ""},

		{"nobody leads", "MusterNoLeader", []string{`muster_coordinator_leading{instance="c1"} 1x9 0x51`, `muster_coordinator_leading{instance="c2"} 0x60`}, 6 * time.Minute, "No coordinator leads"},
		{"two believe that they lead", "MusterNoLeader", []string{`muster_coordinator_leading{instance="c1"} 1x60`, `muster_coordinator_leading{instance="c2"} 0x9 1x51`}, 6 * time.Minute, ""},
		{"no coordinator is there to be scraped", "MusterNoLeader", []string{`muster_worker_ready{instance="w1"} 1x60`}, time.Minute, "No coordinator leads"},
		{"all coordinators go away", "MusterNoLeader", []string{`muster_coordinator_leading{instance="c1"} 1x9 stale`}, 6 * time.Minute, ""},
		{"a change of leader", "MusterNoLeader", []string{`muster_coordinator_leading{instance="c1"} 1x9 0x51`, `muster_coordinator_leading{instance="c2"} 0x10 1x50`}, never, ""},

		{"shards without a worker", "MusterShardsUnassigned", []string{`muster_cluster_shards_unassigned 0x9 7x51`}, 6 * time.Minute, "7 shards have no worker"},
		{"shards change hands", "MusterShardsUnassigned", []string{`muster_cluster_shards_unassigned 0x9 7 0x50`}, never, ""},

		{"a deaf shard", "MusterShardsNotLive", []string{`muster_cluster_shards 16x60`, `muster_cluster_shards_live 16x9 15x51`}, 10 * time.Minute, "1 shards have no live session"},
		{"a slow deploy", "MusterShardsNotLive", []string{`muster_cluster_shards 16x60`, `muster_cluster_shards_live 16x9 12x8 16x43`}, never, ""},

		{"an alarm", "MusterNeedsAPerson", []string{`muster_cluster_alarms 0x9 1x51`}, 5 * time.Minute, "muster status"},
		{"none", "MusterNeedsAPerson", []string{`muster_cluster_alarms 0x60`}, never, ""},

		{"four fifths are spent", "MusterIdentifyBudgetLow", []string{`muster_identify_budget_limit 1000x60`, `muster_identify_budget_remaining 200x9 199x51`}, 5 * time.Minute, "199 IDENTIFYs"},
		{"not yet", "MusterIdentifyBudgetLow", []string{`muster_identify_budget_limit 1000x60`, `muster_identify_budget_remaining 200x60`}, never, ""},
		{"Discord was not asked yet", "MusterIdentifyBudgetLow", []string{`muster_identify_budget_limit 0x60`, `muster_identify_budget_remaining 0x60`}, never, ""},

		{"only the reserve is left", "MusterIdentifyBudgetSpent", []string{`muster_identify_budget_limit 1000x60`, `muster_identify_budget_remaining 101x9 100x51`}, 5 * time.Minute, "resets the limit"},
		{"one more", "MusterIdentifyBudgetSpent", []string{`muster_identify_budget_limit 1000x60`, `muster_identify_budget_remaining 101x60`}, never, ""},
		{"a coordinator that knows no budget yet", "MusterIdentifyBudgetSpent", []string{`muster_identify_budget_limit 0x60`, `muster_identify_budget_remaining 0x60`}, never, ""},

		{"a session is lost", "MusterSessionsLost", []string{`muster_worker_gaps_total{instance="w1"} 3x9 4x51`}, 5 * time.Minute, "sessions began anew"},
		{"what was lost before", "MusterSessionsLost", []string{`muster_worker_gaps_total{instance="w1"} 3x60`}, never, ""},

		{"a refusal", "MusterShardsRefused", []string{`muster_worker_refusals_total{code="4004"} 0x60`, `muster_worker_refusals_total{code="4011"} 0x9 1x51`}, 5 * time.Minute, "code 4011"},
		{"none yet", "MusterShardsRefused", []string{`muster_worker_refusals_total{code="4011"} 0x60`}, never, ""},

		{"a worker is not ready", "MusterWorkerNotReady", []string{`muster_worker_ready{instance="w1"} 1x60`, `muster_worker_ready{instance="w2"} 1x9 0x51`}, 8 * time.Minute, "Worker w2"},
		{"a worker starts", "MusterWorkerNotReady", []string{`muster_worker_ready{instance="w2"} 0x4 1x56`}, never, ""},

		{"Redis is slow", "MusterRedisSlow", []string{`muster_worker_buffered_bytes{instance="w1"} 0x9 33554432x51`}, 6 * time.Minute, "32MiB wait on w1"},
		{"a burst", "MusterRedisSlow", []string{`muster_worker_buffered_bytes{instance="w1"} 0x9 33554432 0x50`}, never, ""},

		{"heartbeats are answered late", "MusterHeartbeatSlow", []string{`muster_worker_heartbeat_latency_seconds{instance="w1",over_shards="mean"} 0.1x9 3x51`}, 10 * time.Minute, "w1 only after 3 s"},
		{"those of one shard", "MusterHeartbeatSlow", []string{`muster_worker_heartbeat_latency_seconds{instance="w1",over_shards="mean"} 0.1x60`, `muster_worker_heartbeat_latency_seconds{instance="w1",over_shards="max"} 9x60`}, never, ""},

		{"consumers are behind", "MusterConsumersBehind", []string{`muster_worker_consumer_lag_ratio{group="bot",instance="w1"} 0x60`, `muster_worker_consumer_lag_ratio{group="bot",instance="w2"} 0x9 0.6x51`}, 7 * time.Minute, "Group bot has left 60%"},
		{"half of it", "MusterConsumersBehind", []string{`muster_worker_consumer_lag_ratio{group="bot",instance="w1"} 0.5x60`}, never, ""},

		{"two owners write", "MusterStreamsContested", []string{`muster_worker_batches_refused_total{instance="w1"} 0x9 1+1x50`, `muster_worker_batches_refused_total{instance="w2"} 0x9 1+1x50`}, 10 * time.Minute, ""},
		{"a takeover", "MusterStreamsContested", []string{`muster_worker_batches_refused_total{instance="w1"} 0x9 16x51`}, never, ""},

		{"Redis lost its end", "MusterRedisLostEntries", []string{`muster_worker_streams_rewound_total{instance="w1"} 0x9 2x51`}, 5 * time.Minute, ""},
		{"long ago", "MusterRedisLostEntries", []string{`muster_worker_streams_rewound_total{instance="w1"} 2x60`}, never, ""},

		{"a bad command", "MusterBadCommands", []string{`muster_worker_commands_dropped_total{reason="bad"} 0x9 1x51`}, 5 * time.Minute, ""},
		{"commands that came too late", "MusterBadCommands", []string{`muster_worker_commands_dropped_total{reason="bad"} 0x60`, `muster_worker_commands_dropped_total{reason="expired"} 0x9 5x51`}, never, ""},
	} {
		rule, known := rules[c.alert]
		if !known {
			t.Fatalf("there is no alert %s", c.alert)
		}
		got := fire(t, rule, c.series...)
		switch {
		case c.after == never:
			kept[c.alert] = true
			if got != nil {
				t.Errorf("%s: %s fires after %v", c.name, c.alert, got.after)
			}
		case got == nil:
			t.Errorf("%s: %s does not fire", c.name, c.alert)
		case got.after != c.after || !strings.Contains(got.summary, c.says):
			t.Errorf("%s: %s fires after %v, want %v, and says %q", c.name, c.alert, got.after, c.after, got.summary)
		}
		fired[c.alert] = fired[c.alert] || c.after != never
	}
	for name := range rules {
		if !fired[name] || !kept[name] {
			t.Errorf("%s is not tried: fires %v, does not fire %v", name, fired[name], kept[name])
		}
	}
}

// A counter with a label has to be there, with 0, before it counts: Prometheus sees no increase in a series that begins with 1.
func TestAlertsOnCountersThatAreThere(t *testing.T) {
	m := load(t, "everything")
	p := m.workload(t, "muster-worker")
	served := programOf(t, "worker").alone(t, p.main().Args, m.env(t, p))
	for _, series := range []string{
		`muster_worker_refusals_total{code="4004"} 0`, `muster_worker_refusals_total{code="4010"} 0`, `muster_worker_refusals_total{code="4011"} 0`,
		`muster_worker_refusals_total{code="4012"} 0`, `muster_worker_refusals_total{code="4013"} 0`, `muster_worker_refusals_total{code="4014"} 0`,
		`muster_worker_commands_dropped_total{reason="bad"} 0`, `muster_worker_gaps_total 0`, `muster_worker_batches_refused_total 0`,
		`muster_worker_streams_rewound_total 0`,
	} {
		if !strings.Contains(served, "\n"+series+"\n") {
			t.Errorf("a worker that has just started does not serve %s", series)
		}
	}
}

// Every expression of the dashboard is one that Prometheus understands.
func TestDashboardExpressions(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "k8s/monitoring/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			if _, err := promQL.ParseExpr(target.Expr); err != nil {
				t.Errorf("%s: %s: %v", panel.Title, target.Expr, err)
			}
		}
	}
}
