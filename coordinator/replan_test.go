package coordinator

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/lease"
)

func TestReplan(t *testing.T) {
	plenty := lease.Budget{Total: 1000, Remaining: 1000} // 100 in reserve
	for _, test := range []struct {
		name                    string
		code                    int
		before                  int // the number that was refused before this one
		configured, recommended int
		budget                  lease.Budget
		shards                  int
		alarm                   []string // parts of it
	}{
		{"another is recommended", 4010, 0, 0, 8, plenty, 8, nil},
		{"fewer are recommended", 4010, 0, 0, 2, plenty, 2, nil},
		{"more are recommended, as there are too few", 4011, 0, 0, 8, plenty, 8, nil},
		{"another is configured", 4010, 0, 12, 8, plenty, 12, nil},
		{"more are configured", 4011, 0, 12, 8, plenty, 12, nil},
		{"a person may choose what was refused before", 4010, 12, 12, 8, plenty, 12, nil},
		{"one of two codes says too few", 4011, 0, 0, 4, plenty, 0, []string{"4011", "more than 2500 guilds", "recommends no more than 4", "MUSTER_SHARDS to more than 6"}},

		{"the refused one is configured", 4010, 0, 6, 8, plenty, 0, []string{"6 shards", "4010", "MUSTER_SHARDS is fixed", "set it to 0", "recommends 8"}},
		{"too few are configured", 4011, 0, 6, 8, plenty, 0, []string{"4011", "MUSTER_SHARDS is fixed", "set it to 0", "recommends 8"}},
		{"still fewer are configured", 4011, 0, 5, 8, plenty, 0, []string{"MUSTER_SHARDS is 5", "set it to 0", "more than 6", "recommends 8"}},
		{"the refused one is recommended", 4010, 0, 0, 6, plenty, 0, []string{"recommends the same number", "set MUSTER_SHARDS to another", "restart worker a"}},
		{"no more are recommended", 4011, 0, 0, 6, plenty, 0, []string{"recommends no more than 6", "MUSTER_SHARDS to more than 6"}},
		{"what was refused before is recommended", 4010, 8, 0, 8, plenty, 0, []string{"recommends 8, which it refused before", "set MUSTER_SHARDS"}},

		{"the budget is just enough", 4010, 0, 0, 8, lease.Budget{Total: 1000, Remaining: 108}, 8, nil},
		{"it would take from the reserve", 4010, 0, 0, 8, lease.Budget{Total: 1000, Remaining: 107}, 0, []string{"reserve of 100", "wait until it is reset"}},
		{"it is never enough", 4010, 0, 901, 8, plenty, 0, []string{"never enough for 901", "at most 900"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			refusals := []lease.Refusal{{Worker: "a", Code: codeInvalidShard}}
			if test.code == codeShardingRequired {
				refusals = append(refusals, lease.Refusal{Worker: "b", Code: codeShardingRequired})
			}
			shards, alarm := replan(refusedPlan{
				plan:     lease.Plan{Generation: 3, Shards: 6, RangeSize: 1, Refused: test.before},
				refusals: refusals, configured: test.configured, recommended: test.recommended, budget: test.budget,
			})
			if shards != test.shards || (alarm == "") != (test.alarm == nil) {
				t.Errorf("got %d shards and alarm %q, want %d and %q", shards, alarm, test.shards, test.alarm)
			}
			for _, part := range test.alarm {
				if !strings.Contains(alarm, part) {
					t.Errorf("alarm %q does not say %q", alarm, part)
				}
			}
		})
	}
}

// Whatever Discord answers and refuses, it comes to rest: in a number that is accepted or in an alarm. Nobody changes
// MUSTER_SHARDS meanwhile, and Discord knows one number or, at most, wavers between two.
func TestReplanNeverLoops(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		recommended := rapid.SliceOfN(rapid.IntRange(1, 9), 1, 2).Draw(t, "recommended")
		configured := rapid.IntRange(0, 9).Draw(t, "configured")
		p := lease.Plan{Generation: 1, Shards: rapid.IntRange(1, 9).Draw(t, "shards"), RangeSize: 1}
		for round := range 20 {
			code := rapid.SampledFrom([]int{codeInvalidShard, codeShardingRequired}).Draw(t, "code")
			shards, alarm := replan(refusedPlan{
				plan: p, refusals: []lease.Refusal{{Worker: "a", Code: code}}, configured: configured,
				recommended: recommended[round%len(recommended)], budget: lease.Budget{Total: 1000, Remaining: 1000},
			})
			if (shards == 0) != (alarm != "") {
				t.Fatalf("%d shards and alarm %q", shards, alarm)
			}
			if alarm != "" {
				return
			}
			if shards == p.Shards {
				t.Fatalf("%d shards again", shards)
			}
			p = lease.Plan{Generation: p.Generation + 1, Shards: shards, RangeSize: 1, Refused: p.Shards}
		}
		t.Fatal("plans without end")
	})
}

// advised has Discord recommend so many shards now.
func (o *office) advised(shards int) {
	o.told(1, 100)
	o.lead.answer.Shards = shards
}

// refuse has a tell that Discord refuses its generation's number.
func (o *office) refuse(generation, code int) {
	o.t.Helper()
	must(o.t, o.a.Refuse(o.t.Context(), lease.Refusal{Generation: generation, Shard: 2, Code: code, Reason: "refused"}))
}

// asked reports whether Discord is to be asked anew, and takes note.
func (o *office) asked() bool {
	select {
	case <-o.lead.coordinator.ask:
		return true
	default:
		return false
	}
}

func TestRefusedPlanIsReplaced(t *testing.T) {
	o := newOffice(t, 4, 1, 100)
	o.lead.coordinator.cfg.Shards = 0
	o.advised(8)
	o.act()
	if p := o.fresh().Plan; p.Generation != 1 || o.asked() {
		t.Fatalf("a plan that nobody refuses became %+v", p)
	}
	o.refuse(9, codeInvalidShard) // of another generation
	o.advised(8)
	o.act()
	if p := o.fresh().Plan; p.Generation != 1 || o.asked() {
		t.Fatalf("another plan's refusal made %+v", p)
	}

	o.pass(time.Second)
	o.refuse(1, codeInvalidShard)
	o.refuse(9, codeInvalidShard) // which does not take its place
	o.advised(8)
	o.lead.answer.asked = o.now.Add(-1)
	if again := o.act(); again != askEvery || !o.asked() {
		t.Errorf("with a refused plan the leader acts again in %v, and has not asked Discord", again)
	}
	if p := o.fresh().Plan; p.Generation != 1 {
		t.Fatalf("an answer from before the refusal made %+v", p)
	}
	o.advised(8)
	o.act()
	if p := o.fresh().Plan; p.Generation != 2 || p.Shards != 8 || p.RangeSize != rangeSize(8) || p.Refused != 4 || p.GatewayURL != "wss://gateway.test" {
		t.Fatalf("plan is %+v", p)
	}
	o.advised(16) // the refusal is of the former plan now
	o.act()
	if p := o.fresh().Plan; p.Generation != 2 || o.asked() {
		t.Errorf("plan is %+v", p)
	}
}

// While every IDENTIFY would be refused none is granted. Shards that are not too full may identify, whatever becomes of those that are.
func TestGrantsOfARefusedPlan(t *testing.T) {
	for code, slots := range map[int]int{codeInvalidShard: 0, codeShardingRequired: 1} {
		o := newOffice(t, 4, 1, 100)
		o.refuse(1, code)
		o.request(0, false)
		o.act()
		if got := o.fresh().Slots; len(got) != slots {
			t.Errorf("after %d slots are %v", code, got)
		}
	}
}

func TestAlarmOfARefusedPlan(t *testing.T) {
	var log bytes.Buffer
	logger := hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
	o := newOffice(t, 4, 1, 100)
	o.lead.log = logger
	o.refuse(1, codeInvalidShard)
	o.act()
	if !o.asked() {
		t.Fatal("Discord is not asked")
	}
	o.advised(8)
	o.act()
	raised := o.fresh()
	if !strings.Contains(raised.Alarm.Text, "MUSTER_SHARDS is fixed") || raised.Plan.Generation != 1 {
		t.Fatalf("alarm is %+v, plan %+v", raised.Alarm, raised.Plan)
	}
	questions := 0
	for range 60 { // ten minutes
		o.pass(10 * time.Second)
		if o.act(); o.asked() {
			questions++
			o.advised(8)
			o.act()
		}
	}
	if questions != 10 {
		t.Errorf("Discord was asked %d times in ten minutes", questions)
	}
	if n := strings.Count(log.String(), "plan refused by discord and not replaced"); n != 1 {
		t.Errorf("it was logged %d times:\n%s", n, &log)
	}

	// It outlives its leader: the next neither drops nor writes it anew, but says it in its own log.
	o.lead.term.Resign()
	o.elect(Config{ID: "next", Shards: 4, Store: o.store, Logger: logger})
	o.act()
	o.advised(8)
	o.act()
	if now := o.fresh().Alarm; now != raised.Alarm {
		t.Errorf("the alarm became %+v", now)
	}
	if n := strings.Count(log.String(), "plan refused by discord and not replaced"); n != 2 {
		t.Errorf("it was logged %d times by two leaders:\n%s", n, &log)
	}

	// A person sets MUSTER_SHARDS to 0.
	o.lead.coordinator.cfg.Shards = 0
	o.advised(8)
	o.act()
	if c := o.fresh(); c.Plan.Shards != 8 || c.Alarm != (lease.Alarm{}) {
		t.Errorf("plan is %+v, alarm %+v", c.Plan, c.Alarm)
	}
}

func TestAlarmEndsWithTheRefusal(t *testing.T) {
	o := newOffice(t, 4, 1, 100)
	b := register(t, o.store, "b")
	must(t, b.Refuse(t.Context(), lease.Refusal{Generation: 1, Code: codeInvalidShard}))
	o.act()
	o.advised(8)
	o.act()
	if o.fresh().Alarm.Text == "" {
		t.Fatal("no alarm")
	}
	must(t, b.Leave(t.Context()))
	o.act()
	if alarm := o.fresh().Alarm; alarm != (lease.Alarm{}) {
		t.Errorf("alarm is %+v", alarm)
	}
}
