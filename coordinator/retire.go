package coordinator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// carriesPerAct bounds how long the leader carries epochs before it looks at what else there is to do.
const carriesPerAct = 20

// former decides what becomes of ranges of earlier generations: those that nobody living owns are retired. A living owner closes its
// sockets, writes what it still has, and releases the range, and is given as long for that as for a handover, from when the plan
// was first seen. done says that none is left. It is a pure function.
func former(state *lease.Cluster, planSeen, now time.Time) (retire []lease.Action, again time.Time, done bool) {
	done = true
	late := planSeen.Add(forceAfter)
	for _, id := range slices.SortedFunc(maps.Keys(state.Ranges), lease.RangeID.Compare) {
		if id.Generation >= state.Plan.Generation {
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

// retire removes what is left of the generation before this one. Until that is done nothing of this one may be placed: two
// generations of a shard must not write to its stream at once. What is done and what is not is in etcd, for the next leader to go on.
func (l *leader) retire(ctx context.Context, state *lease.Cluster, now time.Time) (done bool, again time.Time, err error) {
	generation := state.Plan.Generation
	if generation == 1 || l.alone == generation {
		return true, time.Time{}, nil
	}
	if state.Revision < state.Plan.Revision { // what was placed just before the plan may be unknown to us as well
		return false, now.Add(retryAfter), nil
	}
	if l.planSeen.generation != generation {
		l.planSeen.generation, l.planSeen.at = generation, now
	}
	actions, again, none := former(state, l.planSeen.at, now)
	if !none {
		again, err = l.apply(ctx, actions, again, now)
		return false, again, err
	}
	for range carriesPerAct {
		more, err := l.term.CarryEpochs(ctx, generation-1)
		if errors.Is(err, lease.ErrFenced) {
			return false, time.Time{}, errDeposed
		}
		if err != nil {
			return false, time.Time{}, err
		}
		if !more {
			l.alone = generation
			return true, time.Time{}, nil
		}
	}
	return false, now, nil
}
