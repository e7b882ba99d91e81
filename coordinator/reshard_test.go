package coordinator

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/lease"
)

// serving4 is a plan of four shards, and preparing8 the same with eight being prepared.
var (
	serving4   = lease.Plan{Generation: 1, Shards: 4, RangeSize: 1, Revision: 9}
	preparing8 = lease.Plan{Generation: 1, Shards: 4, RangeSize: 1, Revision: 9, Next: lease.Cut{Generation: 2, Shards: 8, RangeSize: 1}, Last: 2}
)

func TestReshardDecision(t *testing.T) {
	budget := lease.Budget{Total: 100, Remaining: 50, ResetAt: epoch.Add(time.Hour)}
	for _, test := range []struct {
		name string
		r    resharding
		kind reshardKind
		why  string // part of it
	}{
		{"nobody wants anything", resharding{plan: serving4}, reshardNothing, ""},
		{"what was refused stays so", resharding{plan: serving4, directive: &lease.Reshard{Shards: 8, Refused: "no"}}, reshardNothing, ""},
		{"more", resharding{plan: serving4, directive: &lease.Reshard{Shards: 8}}, reshardPrepare, ""},
		{"fewer", resharding{plan: serving4, directive: &lease.Reshard{Shards: 1}}, reshardPrepare, ""},
		{"as many as the budget allows", resharding{plan: serving4, directive: &lease.Reshard{Shards: 40}}, reshardPrepare, ""},
		{"more than the budget allows", resharding{plan: serving4, directive: &lease.Reshard{Shards: 41}}, reshardRefuse, "what is left of the day's identify budget, 50, without its reserve of 10, is not enough for 41"},
		{"more than it ever allows", resharding{plan: serving4, directive: &lease.Reshard{Shards: 91}}, reshardRefuse, "never enough for 91"},
		{"the same number", resharding{plan: serving4, directive: &lease.Reshard{Shards: 4}}, reshardRefuse, "already"},
		{"none", resharding{plan: serving4, directive: &lease.Reshard{}}, reshardRefuse, "want 1 to"},
		{"more than there can be", resharding{plan: serving4, directive: &lease.Reshard{Shards: math.MaxInt}}, reshardRefuse, "want 1 to"},
		{"an abort of nothing", resharding{plan: serving4, directive: &lease.Reshard{Abort: true}}, reshardRefuse, "nothing is being prepared"},

		{"it is being prepared", resharding{plan: preparing8, directive: &lease.Reshard{Shards: 8}, ready: 7, serving: 4}, reshardNothing, ""},
		{"it is prepared, whoever wanted it", resharding{plan: preparing8, ready: 8, serving: 4, readyAt: epoch}, reshardFlip, ""},
		{"it is prepared", resharding{plan: preparing8, directive: &lease.Reshard{Shards: 8}, ready: 8, serving: 4, readyAt: epoch}, reshardFlip, ""},
		{"it is prepared, and a refusal of another stands", resharding{plan: preparing8, directive: &lease.Reshard{Shards: 9, Refused: "no"}, ready: 8, serving: 4, readyAt: epoch}, reshardFlip, ""},
		{"a shard in force is away", resharding{plan: preparing8, ready: 8, serving: 3, readyAt: epoch}, reshardNothing, ""},
		{"a shard in force stays away", resharding{plan: preparing8, ready: 8, serving: 3, readyAt: epoch.Add(-flipPatience)}, reshardFlip, ""},
		{"another number meanwhile", resharding{plan: preparing8, directive: &lease.Reshard{Shards: 16}, ready: 8, serving: 4, readyAt: epoch}, reshardRefuse, "8 shards is being prepared"},
		{"the same number as before meanwhile", resharding{plan: preparing8, directive: &lease.Reshard{Shards: 4}}, reshardRefuse, "abort it first"},
		{"an abort", resharding{plan: preparing8, directive: &lease.Reshard{Abort: true}, ready: 8, serving: 4, readyAt: epoch}, reshardAbort, ""},
		{"an abort that was refused before", resharding{plan: preparing8, directive: &lease.Reshard{Abort: true, Refused: "no"}, ready: 8, serving: 4, readyAt: epoch}, reshardFlip, ""},
		{"discord refuses it", resharding{plan: preparing8, refusals: []lease.Refusal{{Code: 4010, Reason: "said so"}}, ready: 8, serving: 4, readyAt: epoch}, reshardAbort, "refuses 8 shards (close code 4010: said so)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.r.now, test.r.tidy, test.r.budget = epoch, true, budget
			step := reshard(test.r)
			if step.kind != test.kind || !strings.Contains(step.why, test.why) || (test.why == "") != (step.why == "") {
				t.Errorf("decided on %d, %q", step.kind, step.why)
			}
		})
	}
	// What has to be waited for.
	wanted := resharding{now: epoch, plan: serving4, directive: &lease.Reshard{Shards: 8}, budget: budget}
	if step := reshard(wanted); step.kind != reshardNothing {
		t.Errorf("while something is left of other generations: %+v", step)
	}
	wanted.tidy, wanted.budget = true, lease.Budget{}
	if step := reshard(wanted); step.kind != reshardNothing {
		t.Errorf("while the budget is not known: %+v", step)
	}
	away := resharding{now: epoch, plan: preparing8, ready: 8, serving: 3, readyAt: epoch.Add(-time.Second)}
	if step := reshard(away); !step.again.Equal(epoch.Add(flipPatience - time.Second)) {
		t.Errorf("with a shard away it is decided again at %v", step.again)
	}
}

// Whatever comes together: nothing flips that is not ready or that an operator takes back, nothing is begun twice or beyond the budget,
// and what is refused says why.
func TestReshardDecisions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		small := func(name string) int { return rapid.IntRange(0, 9).Draw(t, name) }
		r := resharding{
			now: epoch, plan: rapid.SampledFrom([]lease.Plan{serving4, preparing8}).Draw(t, "plan"),
			budget: lease.Budget{Total: 10 * small("total"), Remaining: small("remaining")}, tidy: rapid.Bool().Draw(t, "tidy"),
			ready: small("ready"), serving: small("serving"), readyAt: epoch.Add(-time.Duration(small("since")) * 20 * time.Second),
		}
		if rapid.Bool().Draw(t, "directed") {
			r.directive = &lease.Reshard{Shards: small("shards"), Abort: rapid.Bool().Draw(t, "abort"), Refused: rapid.SampledFrom([]string{"", "no"}).Draw(t, "refused")}
		}
		if rapid.Bool().Draw(t, "discord refuses") {
			r.refusals = []lease.Refusal{{Code: 4010}}
		}
		step, preparing := reshard(r), r.plan.Next.Generation != 0
		stands := r.directive != nil && r.directive.Refused == ""
		switch step.kind {
		case reshardRefuse:
			if !stands || step.why == "" {
				t.Fatalf("refused %+v: %q", r.directive, step.why)
			}
		case reshardPrepare:
			if preparing || !stands || !r.tidy || r.directive.Abort || r.budget.Remaining < r.directive.Shards+reserve(r.budget) || r.directive.Shards == r.plan.Shards {
				t.Fatalf("prepared: %+v", r)
			}
		case reshardFlip:
			if !preparing || r.ready < r.plan.Next.Shards || len(r.refusals) > 0 || stands && (r.directive.Abort || r.directive.Shards != r.plan.Next.Shards) {
				t.Fatalf("flipped: %+v", r)
			}
		case reshardAbort:
			if !preparing || len(r.refusals) == 0 && (!stands || !r.directive.Abort) {
				t.Fatalf("given up: %+v", r)
			}
		}
	})
}

// 80 percent of 2500 guilds are 2000: a recommendation, of a shard for each 1000, of more than twice as many shards passes that.
func TestAdvised(t *testing.T) {
	for _, test := range []struct {
		percent, shards, recommended int
		want                         bool
	}{
		{80, 4, 8, false}, {80, 4, 9, true}, {80, 4, 3, false}, {0, 4, 100, false}, {40, 4, 4, false}, {40, 4, 5, true}, {100, 4, 10, false}, {100, 4, 11, true},
		{10, 8, 4, false}, // fewer are never needed
	} {
		if got := advised(lease.Plan{Shards: test.shards}, test.percent, test.recommended); got != test.want {
			t.Errorf("%d %% with %d shards, %d recommended: %v", test.percent, test.shards, test.recommended, got)
		}
	}
}

// Only what a living owner says of a shard of that very generation counts.
func TestInState(t *testing.T) {
	own := func(incarnation int64) lease.Range {
		return lease.Range{Owner: lease.Ref{Worker: "a", Incarnation: incarnation}}
	}
	for _, test := range []struct {
		name  string
		owner lease.Range
		says  lease.ShardStatus
		want  int
	}{
		{"ready", own(5), lease.ShardStatus{Generation: 2, State: "muted"}, 1},
		{"not ready", own(5), lease.ShardStatus{Generation: 2, State: "live"}, 0},
		{"of another generation", own(5), lease.ShardStatus{Generation: 1, State: "muted"}, 0},
		{"of a former incarnation", own(4), lease.ShardStatus{Generation: 2, State: "muted"}, 0},
		{"nobody's", lease.Range{}, lease.ShardStatus{Generation: 2, State: "muted"}, 0},
	} {
		state := &lease.Cluster{
			Workers: map[string]lease.Worker{"a": {ID: "a", Incarnation: 5}},
			Ranges:  map[lease.RangeID]lease.Range{{Generation: 2}: test.owner},
			Status:  map[string]lease.Status{"a": {Next: map[int]lease.ShardStatus{0: test.says}}},
		}
		if got := inState(state, lease.Plan{Generation: 2, Shards: 1, RangeSize: 1}, "muted", nextShards); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// beside is an office in which eight shards are being prepared beside four, and a owns all of them.
func beside(t *testing.T) *office {
	o := newOffice(t, 4, 1, 50)
	must(t, o.store.Direct(t.Context(), lease.Reshard{Shards: 8}))
	for range 3 {
		o.act()
	}
	if p := o.fresh().Plan; p.Next != (lease.Cut{Generation: 2, Shards: 8, RangeSize: 1}) || p.Generation != 1 {
		t.Fatalf("the plan is %+v", p)
	}
	if old, now := o.ranges(1), o.ranges(2); old != 4 || now != 8 {
		t.Fatalf("there are %d and %d ranges", old, now)
	}
	return o
}

// say has a report so many of each generation's shards to be well.
func (o *office) say(serving, ready int) {
	o.t.Helper()
	status := lease.Status{Shards: map[int]lease.ShardStatus{}, Next: map[int]lease.ShardStatus{}}
	for shard := range serving {
		status.Shards[shard] = lease.ShardStatus{Generation: 1, State: "live"}
	}
	for shard := range ready {
		status.Next[shard] = lease.ShardStatus{Generation: 2, State: lease.StateMuted}
	}
	o.status = status
	o.pass(countEvery)
}

// A request of the generation in force is granted before one of the generation that is being prepared, of whichever shard.
func TestWhatServesIdentifiesFirst(t *testing.T) {
	o := beside(t)
	c := o.fresh()
	own := o.a.Own(order(c.Ranges[lease.RangeID{Generation: 2, Index: 0}]))
	_, err := own.RequestIdentify(t.Context(), 0, false)
	must(t, err)
	o.request(3, true)
	o.act()
	if slot := o.fresh().Slots[0]; slot.Shard != (lease.ShardID{Generation: 1, Shard: 3}) {
		t.Errorf("the slot is %+v", slot)
	}
	o.claim(3)
	o.pass(10 * time.Second)
	o.act()
	o.pass(10 * time.Second)
	o.act()
	if slot := o.fresh().Slots[0]; slot.Shard != (lease.ShardID{Generation: 2, Shard: 0}) || slot.State != lease.SlotOpen {
		t.Errorf("then the slot is %+v", slot)
	}
}

func TestLeaderFlipsWhenAllAreReady(t *testing.T) {
	o := beside(t)
	for _, step := range []struct{ serving, ready int }{{4, 0}, {4, 7}, {3, 8}} {
		o.say(step.serving, step.ready)
		o.act()
		if p := o.fresh().Plan; p.Generation != 1 {
			t.Fatalf("with %+v the plan is %+v", step, p)
		}
	}
	o.say(4, 8)
	o.act()
	c := o.fresh()
	if c.Plan.Generation != 2 || c.Plan.Former != (lease.Cut{Generation: 1, Shards: 4, RangeSize: 1}) || c.Directives.Reshard != nil {
		t.Fatalf("the plan is %+v, the directive %+v", c.Plan, c.Directives.Reshard)
	}
	// Its ranges go on; those of the former generation are neither taken nor begun.
	o.act()
	if old, now := o.ranges(1), o.ranges(2); old != 4 || now != 8 {
		t.Errorf("there are %d and %d ranges", old, now)
	}
}

// Of ranges that are to be finished a dead worker's go to another; those that are gone stay so; and the next reshard waits for all of them.
func TestFormerRangesAreFinished(t *testing.T) {
	o := beside(t)
	o.say(4, 8)
	o.act()
	b := register(t, o.store, "b")
	for range 2 {
		o.act()
		o.pass(time.Minute)
	}
	c := o.fresh()
	for id, r := range c.Ranges {
		if id.Generation == 1 && r.Move != nil {
			t.Errorf("range %v is moved to even out load", id)
		}
	}
	must(t, o.a.Own(order(c.Ranges[lease.RangeID{Generation: 1, Index: 0}])).Retire(t.Context()))
	must(t, o.a.Own(order(c.Ranges[lease.RangeID{Generation: 1, Index: 1}])).Release(t.Context()))
	o.act()
	c = o.fresh()
	if _, there := c.Ranges[lease.RangeID{Generation: 1, Index: 0}]; there {
		t.Error("a range that was finished is begun again")
	}
	if owner := c.Ranges[lease.RangeID{Generation: 1, Index: 1}].Owner; owner.Worker == "" {
		t.Error("a range that was released is nobody's")
	}
	must(t, o.store.Direct(t.Context(), lease.Reshard{Shards: 16}))
	o.act()
	if p := o.fresh().Plan; p.Next.Generation != 0 {
		t.Errorf("the next is prepared while the former is not finished: %+v", p)
	}
	for id, r := range o.fresh().Ranges {
		if id.Generation == 1 {
			owner := o.a
			if r.Owner.Worker == "b" {
				owner = b
			}
			must(t, owner.Own(lease.Assignment{Range: id, Fence: r.Fence}).Retire(t.Context()))
		}
	}
	for range 4 {
		o.pass(unmutedEvery)
		o.act()
	}
	if p := o.fresh().Plan; p.Next.Generation != 3 {
		t.Errorf("the next is not prepared: %+v", p)
	}
}

// Ranges of a generation that was given up are taken away, and its number is not used again.
func TestLeaderGivesUp(t *testing.T) {
	o := beside(t)
	must(t, o.store.Direct(t.Context(), lease.Reshard{Abort: true}))
	o.act()
	c := o.fresh()
	if c.Plan.Next.Generation != 0 || c.Directives.Reshard != nil {
		t.Fatalf("the plan is %+v, the directive %+v", c.Plan, c.Directives.Reshard)
	}
	o.act()
	o.pass(forceAfter)
	o.act()
	if old, now := o.ranges(1), o.ranges(2); old != 4 || now != 0 {
		t.Errorf("there are %d and %d ranges", old, now)
	}
	must(t, o.store.Direct(t.Context(), lease.Reshard{Shards: 8}))
	for range 3 {
		o.act()
	}
	if p := o.fresh().Plan; p.Next.Generation != 3 {
		t.Errorf("the plan is %+v", p)
	}
}

// Discord's recommendation is heeded where the configuration says so, and not again for a while when it was refused.
func TestLeaderHeedsAdvice(t *testing.T) {
	o := newOffice(t, 4, 1, 50)
	o.lead.coordinator.cfg.Shards, o.lead.coordinator.cfg.ReshardAt = 0, 80
	o.advised(8)
	o.act()
	if d := o.fresh().Directives.Reshard; d != nil {
		t.Fatalf("at 80 %%: %+v", d)
	}
	o.advised(95)
	for range 2 {
		o.act()
	}
	if d := o.fresh().Directives.Reshard; d == nil || d.Shards != 95 || d.Refused == "" {
		t.Fatalf("beyond the budget: %+v", d)
	}
	before := o.fresh().Directives.Reshard.Revision
	o.advised(95)
	o.act()
	if d := o.fresh().Directives.Reshard; d.Revision != before {
		t.Error("what was refused is tried again at once")
	}
	o.advised(9)
	for range 3 {
		o.act()
	}
	if p := o.fresh().Plan; p.Next.Shards != 9 {
		t.Errorf("the plan is %+v", p)
	}
}
