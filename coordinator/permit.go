package coordinator

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

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
	if len(state.Halts) > 0 || state.Directives.Down != nil || state.Plan.Generation == 0 {
		return again, nil
	}
	granted, next := l.clock.grants(useful(state), state.Budget, now)
	again = earliest(again, next)
	grants, err := l.usable(ctx, state, granted)
	if err != nil {
		return time.Time{}, err
	}
	for batch := range slices.Chunk(grants, lease.MaxGrants) {
		overtaken, err := l.open(ctx, state, batch, now)
		if err != nil {
			return time.Time{}, err
		}
		if overtaken {
			again = earliest(again, now.Add(retryAfter))
		}
	}
	return earliest(again, l.tellShortage(state, now)), nil
}

// tellShortage says when the budget is used up but for its reserve while shards want to identify, and when that is over. Whenever what was
// left out of the budget would let some of them, it has Discord asked again; and before it says so, if Discord did not say when the budget is
// reset, as of one that nothing was taken from. Just after the reset it is asked again (pollAfter).
func (l *leader) tellShortage(state *lease.Cluster, now time.Time) (again time.Time) {
	b, told := state.Budget, bool(l.noBudget)
	short := 0
	if b.Total > 0 && b.Remaining <= reserve(b) {
		short = shortage(state.Requests, b)
	}
	most := b
	most.Remaining += l.leftOut
	if short > 0 && (shortage(state.Requests, most) < short || !told && !b.ResetAt.After(now)) {
		if l.clock.outstanding(now) > 0 { // an answer now would be reckoned too low: see identifyClock.remaining
			return now.Add(retryAfter)
		}
		if l.asked.IsZero() {
			l.asked = now
			l.coordinator.askAgain()
		}
		if late := l.asked.Add(askTimeout); now.Before(late) {
			return late
		}
	}
	l.asked = time.Time{}
	if l.noBudget.begins(short > 0) {
		l.log.Error("identify budget is down to its reserve, which is for shards that had a session: the others wait until it is reset",
			"waiting-shards", short, "remaining", b.Remaining, "reserve", reserve(b), "total", b.Total, "reset-at", b.ResetAt)
	}
	if told && short == 0 {
		l.log.Warn("no shard waits for the identify budget any more", "remaining", b.Remaining, "total", b.Total)
	}
	return time.Time{}
}

// shortage is how many of the shards that want to identify cannot before the budget is reset.
func shortage(requests map[lease.RequestID]lease.IdentifyRequest, b lease.Budget) int {
	if len(requests) <= b.Remaining-reserve(b) {
		return 0
	}
	first, repair := 0, 0 // those that never had a session, and the others
	for _, r := range requests {
		switch {
		case r.Granted:
		case r.Repair:
			repair++
		default:
			first++
		}
	}
	started := min(first, max(b.Remaining-reserve(b), 0))
	return first - started + max(repair-(b.Remaining-started), 0)
}

// usable makes grants of those that their workers can still use, and drops the requests of the others.
func (l *leader) usable(ctx context.Context, state *lease.Cluster, granted []grant) (usable []lease.Grant, err error) {
	for _, g := range granted {
		if !l.abandoned(state, g.request) {
			plan, _ := state.Plan.Of(g.request.Shard.Generation)
			usable = append(usable, lease.Grant{Request: g.request, Range: plan.RangeOf(g.request.Shard.Shard), Slot: g.slot})
			continue
		}
		if err := l.term.DropRequest(ctx, g.request); err != nil && !errors.Is(err, lease.ErrFenced) {
			return nil, err
		}
		delete(state.Requests, lease.RequestID{Worker: g.request.Worker, Shard: g.request.Shard})
	}
	return usable, nil
}

// open opens slots, all in one transaction; or, if one of them was overtaken, which the others must not wait for, each by itself.
func (l *leader) open(ctx context.Context, state *lease.Cluster, grants []lease.Grant, now time.Time) (overtaken bool, err error) {
	revision, err := l.term.OpenSlots(ctx, state.Budget, grants...)
	if errors.Is(err, lease.ErrFenced) && len(grants) > 1 {
		for _, grant := range grants {
			failed, err := l.open(ctx, state, []lease.Grant{grant}, now)
			if err != nil {
				return true, err
			}
			overtaken = overtaken || failed
		}
		return overtaken, nil
	}
	if errors.Is(err, lease.ErrFenced) {
		l.log.Debug("identify slot not opened; deciding again", "error", err)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	state.Budget.Remaining -= len(grants)
	state.Budget.Revision = revision
	for _, g := range grants {
		g.Request.Granted = true // or it would count as one that waits
		state.Requests[lease.RequestID{Worker: g.Request.Worker, Shard: g.Request.Shard}] = g.Request
		l.clock.observe(lease.Slot{
			Bucket: g.Slot.Bucket, Revision: revision, State: lease.SlotOpen,
			Shard: g.Request.Shard, Worker: lease.Ref{Worker: g.Request.Worker, Incarnation: g.Request.Incarnation},
		}, now)
	}
	l.wrote(revision, now)
	l.coordinator.metrics.slots.Add(float64(len(grants)))
	return false, nil
}

// abandoned reports whether the shard is no longer the requesting worker's, or of another plan.
func (l *leader) abandoned(state *lease.Cluster, request lease.IdentifyRequest) bool {
	worker, alive := state.Workers[request.Worker]
	standing := state.Plan.Standing(request.Shard.Generation)
	if standing != lease.InForce && standing != lease.Preparing {
		return true
	}
	plan, _ := state.Plan.Of(request.Shard.Generation)
	in, owned := state.Ranges[plan.RangeOf(request.Shard.Shard)]
	return request.Shard.Shard >= plan.Shards ||
		!owned || in.Fence != request.Fence ||
		!alive || worker.Incarnation != request.Incarnation
}
