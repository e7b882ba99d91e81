package coordinator

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// drained are the workers that an operator ordered to drain.
func drained(state *lease.Cluster) map[lease.Ref]bool {
	refs := map[lease.Ref]bool{}
	for _, w := range state.Workers {
		if toDrain(state, w) {
			refs[w.Ref()] = true
		}
	}
	return refs
}

// toDrain reports whether this very incarnation is to be drained.
func toDrain(state *lease.Cluster, w lease.Worker) bool {
	drain, ok := state.Directives.Drains[w.ID]
	return ok && drain.Incarnation == w.Incarnation
}

// endDrains takes away the drains of incarnations that are gone.
func (l *leader) endDrains(ctx context.Context, state *lease.Cluster, _ time.Time) (time.Time, error) {
	drains := state.Directives.Drains
	for _, id := range slices.Sorted(maps.Keys(drains)) {
		if w, alive := state.Workers[id]; alive && toDrain(state, w) {
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
	if order == nil || !decided.rebalanced {
		return nil
	}
	if err := l.term.DoneRebalance(ctx, *order); err != nil {
		return err
	}
	l.log.Info("rebalanced as ordered")
	state.Directives.Rebalance = nil
	return nil
}
