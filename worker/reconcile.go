package worker

import (
	"maps"
	"slices"

	"github.com/muster-gateway/muster/pkg/lease"
)

// stage is how far this worker is with a range.
type stage int

const (
	running  stage = iota + 1 // its shards run
	stopping                  // its shards are being closed
	spent                     // its shards are closed, and this worker has done with it what its move asked for
)

// held is a range that this worker runs, or ran under the ownership it has not seen end yet.
type held struct {
	fence int64
	stage stage
	move  int64 // if spent: the move that was carried out, or could not be; 0: it was released
}

// stepKind is what to do about a range.
type stepKind int

const (
	start    stepKind = iota + 1 // run its shards
	stop                         // close its shards; whose it is was decided by others
	handOver                     // close its shards, if they run, and carry out the move
	release                      // close its shards, if they run, and give it up
	forget                       // it is not ours any more, and nothing of it runs
)

func (k stepKind) String() string {
	return [...]string{start: "start", stop: "stop", handOver: "hand over", release: "release", forget: "forget"}[k]
}

// step is one decision of reconcile.
type step struct {
	kind       stepKind
	rng        lease.RangeID
	assignment lease.Assignment // but for stop and forget
}

// posture is what the worker as a whole is about.
type posture int

const (
	serving posture = iota // run what is assigned
	halted                 // run nothing, but keep what is owned
	leaving                // there is no time to hand over: release everything
)

// reconcile compares what this worker holds with what it is ordered to, and says what to do about the difference. It
// is pure, and ordered by range. A range that is stopping gets no step: the end of stopping brings it here again. A range of
// an earlier generation than the one in force is not run any more, but released.
func reconcile(
	have map[lease.RangeID]held, orders map[lease.RangeID]lease.Assignment, generation int, p posture,
) (steps []step) {
	for _, id := range sortedRanges(have, orders) {
		h, isHeld := have[id]
		a, isOrdered := orders[id]
		if isHeld && (!isOrdered || a.Fence != h.fence) {
			if kind := end(h); kind != 0 {
				steps = append(steps, step{kind: kind, rng: id})
			}
			continue // if it is ordered under a new fence, it starts when the old run has ended
		}
		p := p
		if id.Generation < generation {
			p = leaving
		}
		if kind := next(h, a, p); kind != 0 {
			steps = append(steps, step{kind, id, a})
		}
	}
	return steps
}

// end is what to do about a range that this worker lost.
func end(h held) stepKind {
	switch h.stage {
	case running:
		return stop
	case spent:
		return forget
	default:
		return 0
	}
}

// next is what to do about a range that this worker owns. h is zero if it does not run.
func next(h held, a lease.Assignment, p posture) stepKind {
	done := h.stage == spent && h.move == a.Move // what is asked for was done, or failed for good
	switch {
	case h.stage == stopping:
		return 0
	case a.HandOver && done:
		return 0
	case a.HandOver && a.To.Worker == "", p == leaving && !done:
		return release
	case a.HandOver:
		return handOver
	case p == leaving:
		return 0
	case p == halted && h.stage == running:
		return stop
	case p == serving && h.stage != running:
		return start
	default:
		return 0
	}
}

func sortedRanges(have map[lease.RangeID]held, orders map[lease.RangeID]lease.Assignment) []lease.RangeID {
	all := map[lease.RangeID]bool{}
	for id := range have {
		all[id] = true
	}
	for id := range orders {
		all[id] = true
	}
	return slices.SortedFunc(maps.Keys(all), lease.RangeID.Compare)
}
