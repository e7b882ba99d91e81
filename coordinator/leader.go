package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/lease"
)

// errDeposed says that the term is over.
var errDeposed = errors.New("deposed: another coordinator leads")

// retryAfter is when the leader acts again after etcd failed it or a decision was overtaken.
const retryAfter = time.Second

// leader is what a coordinator remembers while it leads. It belongs to the loop. What it must not forget when it dies is in etcd.
type leader struct {
	coordinator *Coordinator
	term        *lease.Term
	log         hclog.Logger
	answer      *gatewayBot // Discord's last, until it was taken in
	clock       identifyClock
	joined      map[lease.Ref]time.Time
	intended    map[int64]time.Time
	written     int64     // revision of our last write: the state is decided on again once it has that
	patience    time.Time // but not later than this

	noWorkers, noBudget, otherShards alarm
}

// alarm is a lasting trouble, which is logged when it begins and not again before it is over.
type alarm bool

func (a *alarm) begins(trouble bool) bool {
	began := trouble && !bool(*a)
	*a = alarm(trouble)
	return began
}

func newLeader(c *Coordinator, term *lease.Term) *leader {
	return &leader{
		coordinator: c, term: term, log: c.log.With("term", term.Number),
		joined: map[lease.Ref]time.Time{}, intended: map[int64]time.Time{},
	}
}

// act decides on the state and does it. again is when to act at the latest if nothing changes before. Only errDeposed
// is for the caller to act on; any other error was logged.
func (l *leader) act(ctx context.Context, state *lease.Cluster, now time.Time) (again time.Time, err error) {
	if state.Revision < l.written && now.Before(l.patience) {
		return l.patience, nil // our own writes are still on their way back to us
	}
	if state.Leader.Term > l.term.Number {
		return time.Time{}, errDeposed
	}
	l.sight(state, now)
	for _, step := range []func(context.Context, *lease.Cluster, time.Time) (time.Time, error){l.takeAnswer, l.place, l.permit} {
		next, err := step(ctx, state, now)
		if errors.Is(err, errDeposed) || ctx.Err() != nil {
			return time.Time{}, err
		}
		if errors.Is(err, lease.ErrFenced) {
			l.log.Debug("decision was overtaken; deciding again", "error", err)
		} else if err != nil {
			l.log.Warn("leader's write failed; deciding again", "error", err)
		}
		if err != nil {
			next = now.Add(retryAfter)
		}
		again = earliest(again, next)
	}
	return again, nil
}

// sight notes when workers, moves and slots were first seen, by our own clock: no other machine's is compared with it.
func (l *leader) sight(state *lease.Cluster, now time.Time) {
	joined := make(map[lease.Ref]time.Time, len(state.Workers))
	for _, w := range state.Workers {
		joined[w.Ref()] = firstSeen(l.joined, w.Ref(), now)
	}
	intended := map[int64]time.Time{}
	for _, r := range state.Ranges {
		if r.Move != nil {
			intended[r.Move.Revision] = firstSeen(l.intended, r.Move.Revision, now)
		}
	}
	l.joined, l.intended = joined, intended
	l.clock.maxConcurrency = state.Budget.MaxConcurrency
	for _, slot := range state.Slots {
		l.clock.observe(slot, now)
	}
}

func firstSeen[K comparable](before map[K]time.Time, key K, now time.Time) time.Time {
	if at, ok := before[key]; ok {
		return at
	}
	return now
}

// takeAnswer writes what Discord said into the plan and the budget.
func (l *leader) takeAnswer(ctx context.Context, state *lease.Cluster, now time.Time) (time.Time, error) {
	if l.answer == nil {
		return time.Time{}, nil
	}
	bot := *l.answer
	if err := l.updatePlan(ctx, state, bot); err != nil {
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
		Remaining: remaining,
		ResetAt:   now.Add(time.Duration(limit.ResetAfter) * time.Millisecond).UTC().Truncate(time.Second),
	}
	revision, err := l.term.SetBudget(ctx, budget)
	if err != nil {
		return time.Time{}, err
	}
	l.answer = nil
	budget.Revision = revision
	state.Budget = budget
	l.clock.maxConcurrency = limit.MaxConcurrency
	l.wrote(revision, now)
	return time.Time{}, nil
}

// updatePlan makes the first plan, and keeps the gateway's address current. An existing plan keeps its number of shards.
func (l *leader) updatePlan(ctx context.Context, state *lease.Cluster, bot gatewayBot) error {
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
	revision, err := l.term.SetPlan(ctx, want)
	if err != nil {
		return err
	}
	want.Revision = revision
	state.Plan = want
	l.log.Info("plan set", "generation", want.Generation, "shards", want.Shards, "ranges", want.Ranges())
	return nil
}

// place gives ranges to workers and moves them.
func (l *leader) place(ctx context.Context, state *lease.Cluster, now time.Time) (time.Time, error) {
	if state.Plan.Generation == 0 {
		return time.Time{}, nil
	}
	decided := plan(snapshot{
		now: now, plan: state.Plan, workers: state.Workers, ranges: state.Ranges, joined: l.joined, intended: l.intended,
	})
	if l.noWorkers.begins(decided.unassigned > 0 && decided.nobody) {
		l.log.Error("ranges have no worker to run them: start workers", "ranges", decided.unassigned)
	}
	if len(decided.actions) == 0 {
		return decided.again, nil
	}
	taken, revision, err := l.term.Apply(ctx, decided.actions)
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
	if len(taken) < len(decided.actions) { // overtaken by events that are on their way to us
		return earliest(decided.again, now.Add(retryAfter)), nil
	}
	return decided.again, nil
}

// permit opens identify slots and takes unused ones back.
func (l *leader) permit(ctx context.Context, state *lease.Cluster, now time.Time) (time.Time, error) {
	unused, again := l.clock.stale(state.Requests, now)
	for _, slot := range unused {
		revision, err := l.term.VoidSlot(ctx, slot, state.Budget)
		if err != nil {
			return time.Time{}, err
		}
		state.Budget.Remaining++
		state.Budget.Revision = revision
		slot.State, slot.Revision = lease.SlotVoid, revision
		l.clock.observe(slot, now)
		l.wrote(revision, now)
	}
	if len(state.Halts) > 0 || state.Plan.Generation == 0 {
		return again, nil
	}
	granted, next := l.clock.grants(state.Requests, state.Budget, now)
	again = earliest(again, next)
	for _, g := range granted {
		err := l.open(ctx, state, g, now)
		if errors.Is(err, lease.ErrFenced) { // this one was overtaken; the others must not wait for it
			l.log.Debug("identify slot not opened; deciding again", "error", err)
			again = earliest(again, now.Add(retryAfter))
		} else if err != nil {
			return time.Time{}, err
		}
	}
	b := state.Budget
	if l.noBudget.begins(len(state.Requests) > 0 && b.Total > 0 && b.Remaining <= reserve(b)) {
		l.log.Error("identify budget is down to its reserve: until it resets, only shards that had a session may identify",
			"remaining", b.Remaining, "total", b.Total, "reset-at", b.ResetAt)
	}
	return again, nil
}

// open grants one request. A request that its worker can no longer use is dropped.
func (l *leader) open(ctx context.Context, state *lease.Cluster, g grant, now time.Time) error {
	if l.abandoned(state, g.request) {
		if err := l.term.DropRequest(ctx, g.request); err != nil && !errors.Is(err, lease.ErrFenced) {
			return err
		}
		delete(state.Requests, lease.RequestID{Worker: g.request.Worker, Shard: g.request.Shard})
		return nil
	}
	revision, err := l.term.OpenSlot(ctx, g.request, state.Plan.RangeOf(g.request.Shard.Shard), g.slot, state.Budget)
	if err != nil {
		return err
	}
	state.Budget.Remaining--
	state.Budget.Revision = revision
	l.clock.observe(lease.Slot{
		Bucket: g.slot.Bucket, Revision: revision, State: lease.SlotOpen,
		Shard: g.request.Shard, Worker: lease.Ref{Worker: g.request.Worker, Incarnation: g.request.Incarnation},
	}, now)
	l.wrote(revision, now)
	l.coordinator.metrics.slots.Inc()
	return nil
}

// abandoned reports whether the shard is no longer the requesting worker's, or of another plan.
func (l *leader) abandoned(state *lease.Cluster, request lease.IdentifyRequest) bool {
	worker, alive := state.Workers[request.Worker]
	in, owned := state.Ranges[state.Plan.RangeOf(request.Shard.Shard)]
	return request.Shard.Generation != state.Plan.Generation ||
		request.Shard.Shard >= state.Plan.Shards ||
		!owned || in.Fence != request.Fence ||
		!alive || worker.Incarnation != request.Incarnation
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
