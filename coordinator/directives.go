package coordinator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// withDrains are the workers as the planner is to see them: those that are drained by order drain. While nobody else could take over,
// since all others drain too, or cannot write to Redis, a drain by order waits: unlike a worker that leaves, the one that is drained
// can go on. It is a pure function.
func withDrains(state *lease.Cluster) map[string]lease.Worker {
	workers := maps.Clone(state.Workers)
	heirs := false
	for id, w := range workers {
		if ordered(state, w) {
			w.Draining = true
			workers[id] = w
		}
		heirs = heirs || !w.Draining && !state.Status[id].RedisFailing
	}
	if !heirs {
		return state.Workers
	}
	return workers
}

// ordered reports whether this very incarnation is to be drained.
func ordered(state *lease.Cluster, w lease.Worker) bool {
	drain, ok := state.Directives.Drains[w.ID]
	return ok && drain.Incarnation == w.Incarnation
}

// endDrains takes away the drains of incarnations that are gone.
func (l *leader) endDrains(ctx context.Context, state *lease.Cluster, _ time.Time) (time.Time, error) {
	drains := state.Directives.Drains
	for _, id := range slices.Sorted(maps.Keys(drains)) {
		if w, alive := state.Workers[id]; alive && ordered(state, w) {
			continue
		}
		if err := l.term.DoneDrain(ctx, id, drains[id]); err != nil {
			return time.Time{}, err
		}
		l.log.Info("worker that was to be drained is gone", "worker", id)
		delete(drains, id)
	}
	return time.Time{}, nil
}

// endRebalance takes the order away when it is carried out.
func (l *leader) endRebalance(ctx context.Context, state *lease.Cluster, decided decision) error {
	order := state.Directives.Rebalance
	if order == nil || !even(state, decided) {
		return nil
	}
	if err := l.term.DoneRebalance(ctx, *order); err != nil {
		return err
	}
	l.log.Info("rebalanced as ordered")
	state.Directives.Rebalance = nil
	return nil
}

// even reports whether nothing moves, and nothing is to be moved, now or when a wait is over.
func even(state *lease.Cluster, decided decision) bool {
	moving := func(r lease.Range) bool { return r.Move != nil }
	return len(decided.actions) == 0 && decided.again.IsZero() && decided.unassigned == 0 &&
		!slices.ContainsFunc(slices.Collect(maps.Values(state.Ranges)), moving)
}
