package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

const (
	// flipPatience is how long a generation that is ready waits for shards of the one in force that have no session: put in force
	// meanwhile, it leaves a gap in their streams, if they cannot be resumed.
	flipPatience = time.Minute
	// countEvery is how often the shards that are ready are counted.
	countEvery = 500 * time.Millisecond
	// adviceAgain is how long after it was refused Discord's recommendation is heeded again, if it still is the same.
	adviceAgain = time.Hour

	// What Discord recommends is a shard for each guildsAdvised guilds; it refuses more than guildsMost in one (close code 4011).
	guildsAdvised = 1000
	guildsMost    = 2500
)

// resharding is what reshard decides by: plain values, at one moment.
type resharding struct {
	now       time.Time
	plan      lease.Plan
	directive *lease.Reshard // nil: none
	budget    lease.Budget
	refusals  []lease.Refusal // of the generation that is being prepared
	tidy      bool            // nothing is left of other generations
	ready     int             // shards of the generation that is being prepared, of those that may be put in force
	serving   int             // shards in force that have a live session
	readyAt   time.Time       // since when all are ready; zero while they are not
}

// reshardKind is what to do next.
type reshardKind int

const (
	reshardNothing reshardKind = iota
	reshardRefuse              // the directive
	reshardPrepare             // a generation with what the directive wants
	reshardFlip                // put in force what was prepared
	reshardAbort               // give up what is being prepared
)

// reshardStep is one decision of reshard. again is when to decide anew if nothing changes before; zero: not at all.
type reshardStep struct {
	kind  reshardKind
	why   string // of a refusal, and of an abort that nobody asked for: for people, with the cure
	again time.Time
}

// reshard decides what follows from what operators want and from how far the generation beside the one in force has come. It is a pure
// function. Until the flip everything can be given up again; after it there is nothing more to decide.
func reshard(r resharding) reshardStep {
	switch {
	case r.plan.Next.Generation != 0:
		return r.beside()
	case r.directive == nil || r.directive.Refused != "":
		return reshardStep{}
	}
	if why := r.objection(); why != "" {
		return reshardStep{kind: reshardRefuse, why: why}
	}
	if !r.tidy || r.budget.Total == 0 {
		return reshardStep{} // what is under way, or Discord's answer, brings us here again
	}
	return reshardStep{kind: reshardPrepare}
}

// beside decides while a generation is being prepared.
func (r resharding) beside() reshardStep {
	next, d := r.plan.Next, r.directive
	switch {
	case d != nil && d.Abort && d.Refused == "":
		return reshardStep{kind: reshardAbort}
	case len(r.refusals) > 0:
		f := r.refusals[0]
		return reshardStep{kind: reshardAbort, why: fmt.Sprintf("Discord refuses %d shards (close code %d: %s): ask for another number", next.Shards, f.Code, f.Reason)}
	case d != nil && d.Refused == "" && d.Shards != next.Shards:
		return reshardStep{kind: reshardRefuse, why: fmt.Sprintf("a generation with %d shards is being prepared: wait for it, or abort it first", next.Shards)}
	case r.ready < next.Shards:
		return reshardStep{}
	case r.serving < r.plan.Shards && r.now.Before(r.readyAt.Add(flipPatience)):
		return reshardStep{again: r.readyAt.Add(flipPatience)}
	default:
		return reshardStep{kind: reshardFlip}
	}
}

// objection is why a directive is not to be followed; "" if it is.
func (r resharding) objection() string {
	d, keep := r.directive, reserve(r.budget)
	switch {
	case d.Abort:
		return "nothing is being prepared that could be aborted"
	case d.Shards < 1 || d.Shards > lease.MaxShards:
		return fmt.Sprintf("%d shards: want 1 to %d", d.Shards, lease.MaxShards)
	case d.Shards == r.plan.Shards:
		return fmt.Sprintf("there are %d shards already", d.Shards)
	case r.budget.Total == 0:
		return "" // not known yet
	case r.budget.Total < d.Shards+keep:
		return fmt.Sprintf("a day's identify budget of %d, without its reserve of %d, is never enough for %d shards", r.budget.Total, keep, d.Shards)
	case r.budget.Remaining < d.Shards+keep:
		return fmt.Sprintf("what is left of the day's identify budget, %d, without its reserve of %d, is not enough for %d shards: ask again when it is reset, at %s",
			r.budget.Remaining, keep, d.Shards, r.budget.ResetAt.Format(time.RFC3339))
	}
	return ""
}

// advised reports whether Discord's recommendation says that the plan's shards have more than so many percent of the guilds that a
// shard can have, and there should be as many as it recommends.
func advised(plan lease.Plan, percent, recommended int) bool {
	return percent > 0 && recommended > plan.Shards && recommended*guildsAdvised*100 > percent*plan.Shards*guildsMost
}

// reshard has the cluster's number of shards changed as operators want it, without downtime.
func (l *leader) reshard(ctx context.Context, state *lease.Cluster, now time.Time) (time.Time, error) {
	plan, d := state.Plan, state.Directives.Reshard
	if plan.Generation == 0 {
		return time.Time{}, nil
	}
	r := resharding{
		now: now, plan: plan, directive: d, budget: state.Budget, refusals: refusalsOf(state, plan.Next.Generation),
		tidy: l.tidy == plan.Revision,
	}
	recount := l.progress(state, &r)
	step := reshard(r)
	switch step.kind {
	case reshardRefuse:
		l.log.Warn("reshard refused", "shards", d.Shards, "reason", step.why)
		err := l.term.RefuseReshard(ctx, *d, step.why)
		if err == nil {
			refused := *d
			refused.Refused, refused.Revision = step.why, 0 // until we see what we wrote, it compares to nothing
			state.Directives.Reshard = &refused
		}
		return recount, err
	case reshardPrepare:
		next := lease.Cut{Generation: plan.NewGeneration(), Shards: d.Shards, RangeSize: rangeSize(d.Shards)}
		l.log.Info("preparing another number of shards", "generation", next.Generation, "shards", next.Shards)
		return now.Add(countEvery), l.replaced(state, now)(l.term.Prepare(ctx, plan, next, d))
	case reshardAbort:
		l.log.Warn("what was being prepared is given up", "generation", plan.Next.Generation, "shards", plan.Next.Shards, "reason", step.why)
		return time.Time{}, l.replaced(state, now)(l.term.Abort(ctx, plan, d, step.why))
	case reshardFlip:
		l.log.Info("number of shards changes", "generation", plan.Next.Generation, "shards", plan.Next.Shards, "before", plan.Shards)
		return time.Time{}, l.replaced(state, now)(l.term.Flip(ctx, plan, d))
	}
	return earliest(step.again, recount), nil
}

// replaced takes note of the plan that a write has made.
func (l *leader) replaced(state *lease.Cluster, now time.Time) func(lease.Plan, error) error {
	return func(plan lease.Plan, err error) error {
		if err == nil {
			state.Plan = plan
			l.wrote(plan.Revision, now)
		}
		return err
	}
}

// progress counts how far the generation beside the one in force has come, now and then.
func (l *leader) progress(state *lease.Cluster, r *resharding) (recount time.Time) {
	if r.plan.Next.Generation == 0 {
		l.prepared = struct {
			generation, ready, serving int
			counted, readyAt           time.Time
		}{}
		return time.Time{}
	}
	p := &l.prepared
	if due := p.counted.Add(countEvery); p.generation != r.plan.Next.Generation || !r.now.Before(due) {
		p.generation, p.counted = r.plan.Next.Generation, r.now
		next, _ := r.plan.Of(r.plan.Next.Generation)
		p.ready = inState(state, next, lease.StateMuted, nextShards)
		p.serving = inState(state, r.plan, string(shard.StateLive), func(s lease.Status) map[int]lease.ShardStatus { return s.Shards })
	}
	if p.ready < r.plan.Next.Shards {
		p.readyAt = time.Time{}
	} else if p.readyAt.IsZero() {
		p.readyAt = r.now
	}
	r.ready, r.serving, r.readyAt = p.ready, p.serving, p.readyAt
	return p.counted.Add(countEvery)
}

func nextShards(s lease.Status) map[int]lease.ShardStatus { return s.Next }

// inState counts the shards of a plan that their living owners report to be in a state.
func inState(state *lease.Cluster, plan lease.Plan, want string, reported func(lease.Status) map[int]lease.ShardStatus) (n int) {
	for index := range plan.Ranges() {
		id := lease.RangeID{Generation: plan.Generation, Index: index}
		owner := state.Ranges[id].Owner
		if w, lives := state.Workers[owner.Worker]; !lives || w.Ref() != owner {
			continue
		}
		shards := reported(state.Status[owner.Worker])
		for _, index := range plan.ShardsOf(id) {
			if s := shards[index]; s.Generation == plan.Generation && s.State == want {
				n++
			}
		}
	}
	return n
}

// heedAdvice has the number of shards changed to what Discord recommends, if the configuration says from when on, and no person
// wants something of the kind.
func (l *leader) heedAdvice(ctx context.Context, state *lease.Cluster, bot gatewayBot, now time.Time) error {
	cfg, d := l.coordinator.cfg, state.Directives.Reshard
	if cfg.Shards != 0 || state.Plan.Next.Generation != 0 || d != nil && d.Refused == "" || !advised(state.Plan, cfg.ReshardAt, bot.Shards) {
		return nil
	}
	if d != nil && d.Shards == bot.Shards && now.Before(d.At.Add(adviceAgain)) {
		return nil
	}
	l.log.Info("discord recommends more shards, which is past the configured share of what a shard can have", "shards", state.Plan.Shards, "recommended", bot.Shards)
	return l.term.DirectReshard(ctx, d, lease.Reshard{Shards: bot.Shards, At: now.UTC()})
}
