package coordinator

import (
	"context"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// takeAnswer writes what Discord said into the plan and the budget.
func (l *leader) takeAnswer(ctx context.Context, state *lease.Cluster, now time.Time) (time.Time, error) {
	if l.answer == nil {
		return time.Time{}, nil
	}
	bot := *l.answer
	if err := l.updatePlan(ctx, state, bot, now); err != nil {
		return time.Time{}, err
	}
	limit := bot.SessionStartLimit
	remaining, ok := l.clock.remaining(limit.Remaining, bot.asked, now)
	if !ok {
		l.answer = nil
		l.coordinator.askAgain()
		return time.Time{}, nil
	}
	budget := lease.Budget{
		Revision: state.Budget.Revision, Total: limit.Total, MaxConcurrency: limit.MaxConcurrency,
		Remaining: remaining, Foreign: state.Budget.Foreign,
		ResetAt: now.Add(time.Duration(limit.ResetAfter) * time.Millisecond).UTC().Truncate(time.Second),
	}
	revision, err := l.term.SetBudget(ctx, budget)
	if err != nil {
		return time.Time{}, err
	}
	budget.Revision = revision
	state.Budget = budget
	l.leftOut = limit.Remaining - remaining
	l.clock.maxConcurrency = limit.MaxConcurrency
	l.wrote(revision, now)
	if err := l.replacePlan(ctx, state, bot, now); err != nil {
		return time.Time{}, err
	}
	l.answer = nil
	return time.Time{}, l.heedAdvice(ctx, state, bot, now)
}

// updatePlan makes the first plan, and keeps the gateway's address current. An existing plan keeps its number of shards, unless Discord
// refuses it: see replacePlan.
func (l *leader) updatePlan(ctx context.Context, state *lease.Cluster, bot gatewayBot, now time.Time) error {
	want, shards := state.Plan, l.coordinator.cfg.Shards
	if l.otherShards.begins(want.Generation != 0 && shards != 0 && shards != want.Shards) {
		l.log.Warn("MUSTER_SHARDS is not what the cluster has, and is ignored: an existing plan keeps its shards",
			"configured", shards, "shards", want.Shards)
	}
	if want.Generation == 0 {
		if shards == 0 {
			shards = bot.Shards
		}
		want = lease.Plan{Generation: 1, Shards: shards, RangeSize: rangeSize(shards)}
	}
	want.GatewayURL = bot.URL
	if want == state.Plan {
		return nil
	}
	return l.setPlan(ctx, state, want, now)
}

func (l *leader) setPlan(ctx context.Context, state *lease.Cluster, want lease.Plan, now time.Time) error {
	revision, err := l.term.SetPlan(ctx, want)
	if err != nil {
		return err
	}
	want.Revision = revision
	state.Plan = want
	l.wrote(revision, now)
	l.log.Info("plan set", "generation", want.Generation, "shards", want.Shards, "ranges", want.Ranges())
	return nil
}
