package coordinator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

const (
	// carriesPerAct bounds how long the leader carries epochs before it looks at what else there is to do.
	carriesPerAct = 20
	// unmutedEvery is how often the leader looks whether all shards of a new generation are unmuted.
	unmutedEvery = 5 * time.Second
)

// former decides what becomes of ranges of generations that are over: those that nobody living owns are retired. A living owner closes
// its sockets, writes what it still has, and releases the range, and is given as long for that as for a handover, from when the plan
// was first seen. done says that none is left. It is a pure function.
func former(state *lease.Cluster, planSeen, now time.Time) (retire []lease.Action, again time.Time, done bool) {
	done = true
	late := planSeen.Add(forceAfter)
	for _, id := range slices.SortedFunc(maps.Keys(state.Ranges), lease.RangeID.Compare) {
		if state.Plan.Standing(id.Generation) != lease.Over {
			continue
		}
		done = false
		r := state.Ranges[id]
		owner, lives := state.Workers[r.Owner.Worker]
		if lives && owner.Ref() == r.Owner && now.Before(late) {
			again = late
			continue
		}
		retire = append(retire, lease.Action{Kind: lease.Retire, Range: r})
	}
	return retire, again, done
}

// finishing reports whether ranges of the former generation are being brought to their ends.
func finishing(state *lease.Cluster) bool {
	for id := range state.Ranges {
		if state.Plan.Standing(id.Generation) == lease.Finishing {
			return true
		}
	}
	return false
}

// alone reports whether ranges of the plan may be given out: two generations of a shard must not write to its stream at once. Where
// the plan was prepared its shards see to that themselves; else nothing may be left of those before.
func (l *leader) alone(plan lease.Plan) bool {
	return plan.Generation == 1 || plan.Former.Generation != 0 || l.began == plan.Generation
}

// tidyUp removes what is left of generations that are over. What is done and what is not is in etcd, for the next leader to go on.
func (l *leader) tidyUp(ctx context.Context, state *lease.Cluster, now time.Time) (again time.Time, err error) {
	plan := state.Plan
	if l.tidy == plan.Revision {
		return time.Time{}, nil
	}
	if state.Revision < plan.Revision { // what was placed just before the plan may be unknown to us as well
		return now.Add(retryAfter), nil
	}
	if l.planSeen.revision != plan.Revision {
		l.planSeen.revision, l.planSeen.at, l.carryNext = plan.Revision, now, now
	}
	actions, again, none := former(state, l.planSeen.at, now)
	switch {
	case !none:
		return l.apply(ctx, actions, again, now)
	case finishing(state):
		return time.Time{}, nil
	case now.Before(l.carryNext):
		return l.carryNext, nil
	}
	return l.carry(ctx, state, now)
}

// carry moves epochs of session records to the plan's generation.
func (l *leader) carry(ctx context.Context, state *lease.Cluster, now time.Time) (again time.Time, err error) {
	plan := state.Plan
	for range carriesPerAct {
		more, left, err := l.term.CarryEpochs(ctx, plan)
		switch {
		case errors.Is(err, lease.ErrFenced):
			return time.Time{}, errDeposed
		case err != nil:
			return time.Time{}, err
		case more:
		case left:
			l.carryNext = now.Add(unmutedEvery)
			return l.carryNext, nil
		default:
			l.tidy, l.began = plan.Revision, plan.Generation
			if state.Directives.Reshard != nil { // it may have waited for this
				again = now
			}
			return again, nil
		}
	}
	return now, nil
}
