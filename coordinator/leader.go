package coordinator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-gateway/muster/pkg/lease"
)

// errDeposed says that the term is over.
var errDeposed = errors.New("deposed: another coordinator leads")

// retryAfter is when the leader acts again after etcd failed it or a decision was overtaken.
const retryAfter = time.Second

// astrayFor is how long the leader waits for a state of its own era.
const astrayFor = 5 * time.Second

// leader is what a coordinator remembers while it leads. It belongs to the loop. What it must not forget when it dies is in etcd.
type leader struct {
	coordinator *Coordinator
	term        *lease.Term
	log         hclog.Logger
	answer      *gatewayBot // Discord's last, until it was taken in
	clock       identifyClock
	*sightings  // the coordinator's
	deeds
	redisWays   map[lease.Ref]redisWay // of those workers with which something is, or lately was, wrong
	written     int64                  // revision of our last write: the state is decided on again once it has that
	patience    time.Time              // but not later than this
	astraySince time.Time              // since when the state is of another era

	noWorkers, noRoom, flapping, noBudget, otherShards, redisCut, untidy alarm

	writes   trouble
	deserted time.Time // since when ranges have no worker to run them; zero: they have
	leftOut  int       // of the budget: IDENTIFYs that Discord had perhaps counted already
	asked    time.Time // when Discord was asked again about the budget because of a shortage; zero: not

	// Of a plan whose number of shards Discord refuses: its generation (0: it does not), since when we know, and when to ask again.
	refused               int
	refusedSince, askNext time.Time
	alarmed               string // what we last said of it

	// Of a change of generation: the plan that nothing of another is left of (by its revision), the last generation that nothing was
	// left of when it began, when we first saw the present plan, and when to look for session records of others again.
	tidy     int64
	began    int
	planSeen struct {
		revision int64
		at       time.Time
	}
	carryNext time.Time

	// Of the generation that is being prepared: how many of its shards are ready, and of those in force live, when that was counted,
	// and since when all are ready.
	prepared struct {
		generation, ready, serving int
		counted, readyAt           time.Time
	}
}

// alarm is a lasting trouble, which is logged when it begins and not again before it is over.
type alarm bool

func (a *alarm) begins(trouble bool) bool {
	began := trouble && !bool(*a)
	*a = alarm(trouble)
	return began
}

func newLeader(c *Coordinator, term *lease.Term, now time.Time) *leader {
	return &leader{coordinator: c, term: term, log: c.log.With("term", term.Number), sightings: &c.sightings, deeds: newDeeds(now)}
}

// act decides on the state and does it. again is when to act at the latest if nothing changes before. Only errDeposed
// is for the caller to act on; any other error was logged.
func (l *leader) act(ctx context.Context, state *lease.Cluster, now time.Time) (again time.Time, err error) {
	if state.Era != l.term.Era() {
		return l.astray(now)
	}
	l.astraySince = time.Time{}
	if state.Revision < l.written && now.Before(l.patience) {
		return l.patience, nil // our own writes are still on their way back to us
	}
	if state.Leader.Term > l.term.Number {
		return time.Time{}, errDeposed
	}
	defer timed(l.coordinator.metrics.decided)()
	l.sight(state, now)
	written, failed := l.written, error(nil)
	for _, step := range []func(context.Context, *lease.Cluster, time.Time) (time.Time, error){
		l.heed, l.takeAnswer, l.reshard, l.place, l.permit, l.endDrains,
	} {
		next, err := step(ctx, state, now)
		if errors.Is(err, errDeposed) || ctx.Err() != nil {
			return time.Time{}, err
		}
		if errors.Is(err, lease.ErrFenced) {
			l.log.Debug("decision was overtaken; deciding again", "error", err)
		} else if err != nil {
			failed = err
		}
		if err != nil {
			next = now.Add(retryAfter)
		}
		again = earliest(again, next)
	}
	l.tellTrouble(failed, l.written > written, now)
	return again, nil
}

// tellTrouble says that writes fail, and that they do not any more: which only one that succeeds can tell.
func (l *leader) tellTrouble(failed error, wrote bool, now time.Time) {
	switch {
	case failed != nil:
		if l.writes.fails(now) {
			l.log.Warn("leader's writes fail; deciding again until they do not", "error", failed)
		}
	case wrote:
		if lasted, say := l.writes.succeeds(now); say {
			l.log.Warn("leader's writes succeed again", "failed-for", lasted)
		}
	}
}

// timed starts a clock that the function returned stops.
func timed(in prometheus.Observer) (stop func()) {
	began := time.Now()
	return func() { in.Observe(time.Since(began).Seconds()) }
}

// astray is for a state of another era, whose revisions mean nothing to this term. The state is about to be replaced, or we have missed
// that etcd was restored, and our term is void.
func (l *leader) astray(now time.Time) (again time.Time, err error) {
	if l.astraySince.IsZero() {
		l.astraySince = now
	}
	if now.Sub(l.astraySince) >= astrayFor {
		return time.Time{}, errDeposed
	}
	return l.astraySince.Add(astrayFor), nil
}

// sight notes when workers, moves and slots were first seen, by our own clock: no other machine's is compared with it.
func (l *leader) sight(state *lease.Cluster, now time.Time) {
	l.observe(state, now)
	l.redisWays = seeRedisWays(l.redisWays, state, now)
	l.clock.maxConcurrency = state.Budget.MaxConcurrency
	for _, slot := range state.Slots {
		l.clock.observe(slot, now)
	}
}

// place gives ranges to workers and moves them.
func (l *leader) place(ctx context.Context, state *lease.Cluster, now time.Time) (time.Time, error) {
	if state.Plan.Generation == 0 {
		return time.Time{}, nil
	}
	tidyNext, err := l.tidyUp(ctx, state, now)
	if errors.Is(err, errDeposed) || !l.alone(state.Plan) {
		return tidyNext, err
	}
	if l.untidy.begins(err != nil) {
		l.log.Warn("what is left of other generations could not be removed; trying again", "error", err)
	}
	if err != nil { // what is over can wait; what is to run cannot
		tidyNext = now.Add(retryAfter)
	}
	cut, cutNext := redisCut(state, l.redisWays)
	planned := timed(l.coordinator.metrics.planned)
	decided := plan(l.snapshot(state, cut, now))
	planned()
	if err := l.endRebalance(ctx, state, decided); err != nil {
		return time.Time{}, err
	}
	told := l.tellPlacement(decided, cut, now)
	for _, next := range []time.Time{cutNext, tidyNext, told} {
		decided.again = earliest(decided.again, next)
	}
	again, err := l.apply(ctx, decided.actions, decided.again, now)
	if err == nil {
		l.note(decided, now)
	}
	return again, err
}

// tellPlacement says what keeps ranges from running where they should. That there are no workers is not said of a cluster whose workers are
// about to join. again is when there may be more to say if nothing changes before.
func (l *leader) tellPlacement(d decision, cut map[string]bool, now time.Time) (again time.Time) {
	if l.redisCut.begins(len(cut) > 0) {
		l.log.Warn("workers are cut off from redis while others are not; their ranges are moved", "workers", slices.Sorted(maps.Keys(cut)))
	}
	if l.noRoom.begins(d.full > 0) {
		l.log.Error("ranges find no worker with room: all are at their limit of shards (MUSTER_MAX_SHARDS); start workers", "ranges", d.full)
	}
	if l.flapping.begins(d.quarantined > 0) {
		l.log.Warn("workers restart again and again; they are given nothing new for a while", "workers", d.quarantined)
	}
	if d.unassigned == 0 || !d.nobody {
		l.deserted, l.noWorkers = time.Time{}, false
		return time.Time{}
	}
	if l.deserted.IsZero() {
		l.deserted = now
	}
	if late := l.deserted.Add(joinPatience); now.Before(late) {
		return late
	}
	if l.noWorkers.begins(true) {
		l.log.Error("ranges have no worker to run them: start workers", "ranges", d.unassigned)
	}
	return time.Time{}
}

// apply takes steps on ranges. again is when to decide anew if nothing changes before, once they are taken.
func (l *leader) apply(ctx context.Context, actions []lease.Action, again, now time.Time) (time.Time, error) {
	if len(actions) == 0 {
		return again, nil
	}
	taken, revision, err := l.term.Apply(ctx, actions)
	for _, action := range taken {
		l.log.Debug("range placed", "action", action.Kind, "range", action.Range.ID, "from", action.Range.Owner.Worker, "to", action.To.Worker)
		l.coordinator.metrics.actions.WithLabelValues(action.Kind.String()).Inc()
	}
	l.wrote(revision, now)
	if errors.Is(err, lease.ErrFenced) {
		return time.Time{}, errDeposed
	}
	if err != nil {
		return time.Time{}, err
	}
	if len(taken) < len(actions) { // overtaken by events that are on their way to us
		return earliest(again, now.Add(retryAfter)), nil
	}
	return again, nil
}

// wrote makes the next decision wait for the state to have what we wrote.
func (l *leader) wrote(revision int64, now time.Time) {
	if revision > l.written {
		l.written = revision
		l.patience = now.Add(retryAfter)
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
