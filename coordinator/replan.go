package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// askEvery is how often Discord is asked whether it recommends another number of shards by now, while the plan's is refused.
const askEvery = time.Minute

// Discord's close codes for a number of shards that it does not accept (Opcodes and Status Codes, Gateway Close Event Codes).
const (
	codeInvalidShard     = 4010 // the number, as such
	codeShardingRequired = 4011 // too few: a shard would have more than 2500 guilds
)

// refusedPlan is what replan decides by: plain values, at one moment.
type refusedPlan struct {
	plan        lease.Plan
	refusals    []lease.Refusal // of the plan's generation, at least one
	configured  int             // MUSTER_SHARDS; 0: whatever Discord recommends
	recommended int             // by Discord, asked after it refused
	budget      lease.Budget    // as Discord said with it
}

// replan decides what follows when Discord refuses the plan's number of shards: another number, or what a person has to do. It is a
// pure function. A number that was just refused is never taken again, so plans do not follow each other without end.
func replan(r refusedPlan) (shards int, alarm string) {
	refused, tooFew := r.plan.Shards, r.tooFew()
	said := fmt.Sprintf("Discord refuses %d shards (close code %d)", refused, r.code())
	switch {
	case r.configured == refused:
		return 0, fmt.Sprintf("%s, and MUSTER_SHARDS is fixed to that: set it to 0, or to a number that Discord accepts (it recommends %d), "+
			"and restart the coordinators", said, r.recommended)
	case r.configured != 0 && tooFew && r.configured < refused:
		return 0, fmt.Sprintf("%s: a shard would have more than 2500 guilds; MUSTER_SHARDS is %d, which is fewer still: set it to 0, "+
			"or to more than %d (Discord recommends %d), and restart the coordinators", said, r.configured, refused, r.recommended)
	case r.configured != 0:
		shards = r.configured
	case tooFew && r.recommended <= refused:
		return 0, fmt.Sprintf("%s: a shard would have more than 2500 guilds; but it recommends no more than %d: set MUSTER_SHARDS to more than %d "+
			"and restart the coordinators", said, r.recommended, refused)
	case r.recommended == refused:
		return 0, fmt.Sprintf("%s, and recommends the same number: set MUSTER_SHARDS to another and restart the coordinators; "+
			"or, if Discord accepts %d by now, restart %s", said, refused, r.workers())
	case r.recommended == r.plan.Refused:
		return 0, fmt.Sprintf("%s, and recommends %d, which it refused before: set MUSTER_SHARDS to a number that it accepts "+
			"and restart the coordinators", said, r.recommended)
	default:
		shards = r.recommended
	}
	switch keep := reserve(r.budget); {
	case r.budget.Total < shards+keep:
		return 0, fmt.Sprintf("%s, and a day's identify budget is never enough for %d instead: set MUSTER_SHARDS to at most %d "+
			"and restart the coordinators", said, shards, r.budget.Total-keep)
	case r.budget.Remaining < shards+keep:
		return 0, fmt.Sprintf("%s; what is left of the day's identify budget, without its reserve of %d, is not enough for %d instead: "+
			"wait until it is reset", said, keep, shards)
	}
	return shards, ""
}

// tooFew reports whether only a larger number helps.
func (r refusedPlan) tooFew() bool {
	return slices.ContainsFunc(r.refusals, func(f lease.Refusal) bool { return f.Code == codeShardingRequired })
}

// code is the one that says most.
func (r refusedPlan) code() int {
	if r.tooFew() {
		return codeShardingRequired
	}
	return r.refusals[0].Code
}

// workers names those who were refused.
func (r refusedPlan) workers() string {
	text := "worker"
	for i, f := range r.refusals {
		if i > 0 {
			text += ","
		}
		text += " " + f.Worker
	}
	return text
}

// refusalsOf are the refusals of a generation, by worker.
func refusalsOf(state *lease.Cluster, generation int) (of []lease.Refusal) {
	for _, id := range slices.SortedFunc(maps.Keys(state.Refusals), lease.RefusalID.Compare) {
		if id.Generation == generation {
			of = append(of, state.Refusals[id])
		}
	}
	return of
}

// useful are the requests that are worth a slot. Where Discord does not accept the number of shards, whoever identifies is refused: it
// looks at that first.
func useful(state *lease.Cluster) map[lease.RequestID]lease.IdentifyRequest {
	refused := map[int]bool{}
	for _, f := range state.Refusals {
		refused[f.Generation] = refused[f.Generation] || f.Code == codeInvalidShard
	}
	if len(refused) == 0 {
		return state.Requests
	}
	requests := maps.Clone(state.Requests)
	maps.DeleteFunc(requests, func(id lease.RequestID, _ lease.IdentifyRequest) bool { return refused[id.Shard.Generation] })
	return requests
}

// heed has Discord asked when it refuses the plan's number of shards, at once and then once in askEvery, for replacePlan to
// decide by the answers; and ends an alarm that is over.
func (l *leader) heed(ctx context.Context, state *lease.Cluster, now time.Time) (time.Time, error) {
	if state.Plan.Generation == 0 || len(refusalsOf(state, state.Plan.Generation)) == 0 {
		l.refused, l.refusedSince = 0, time.Time{}
		return time.Time{}, l.raise(ctx, state, "", now)
	}
	if l.refused != state.Plan.Generation {
		l.refused, l.refusedSince, l.askNext = state.Plan.Generation, now, now
	}
	if !now.Before(l.askNext) {
		l.askNext = now.Add(askEvery)
		l.coordinator.askAgain()
	}
	return l.askNext, nil
}

// replacePlan makes the next generation, if the present one's number of shards is refused and there is another, or else raises an alarm.
// An answer from before the refusal says nothing. What is being prepared already is waited for: it will be in force before anything
// that would have to begin anew.
func (l *leader) replacePlan(ctx context.Context, state *lease.Cluster, bot gatewayBot, now time.Time) error {
	refusals := refusalsOf(state, state.Plan.Generation)
	if len(refusals) == 0 || state.Plan.Next.Generation != 0 || l.refused != state.Plan.Generation || bot.asked.Before(l.refusedSince) {
		return nil
	}
	shards, alarm := replan(refusedPlan{
		plan: state.Plan, refusals: refusals, configured: l.coordinator.cfg.Shards, recommended: bot.Shards, budget: state.Budget,
	})
	if alarm != "" {
		return l.raise(ctx, state, alarm, now)
	}
	former := state.Plan
	l.log.Warn("discord refuses the number of shards; making a new plan", "shards", former.Shards, "code", refusals[0].Code,
		"shard", refusals[0].Shard, "worker", refusals[0].Worker, "new-shards", shards)
	next := lease.Plan{
		Generation: former.NewGeneration(), Shards: shards, RangeSize: rangeSize(shards), GatewayURL: former.GatewayURL,
		Refused: former.Shards, Last: former.NewGeneration(), Revision: former.Revision,
	}
	if err := l.setPlan(ctx, state, next, now); err != nil {
		return err
	}
	return l.raise(ctx, state, "", now)
}

// raise makes an alarm known, or ends it ("").
func (l *leader) raise(ctx context.Context, state *lease.Cluster, text string, now time.Time) error {
	if text != l.alarmed && text != "" {
		l.log.Error("plan refused by discord and not replaced", "alarm", text)
	}
	l.alarmed = text
	if text == state.Alarm.Text {
		return nil
	}
	var alarm lease.Alarm
	if text != "" {
		alarm = lease.Alarm{Text: text, At: now.UTC()}
	}
	if err := l.term.SetAlarm(ctx, alarm); err != nil {
		return err
	}
	state.Alarm = alarm
	return nil
}
