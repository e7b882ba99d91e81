package worker

import (
	"maps"
	"slices"

	"github.com/muster-gateway/muster/pkg/lease"
)

// stage is how far this worker is with a range.
type stage int

const (
	running   stage = iota + 1 // its shards run
	finishing                  // its shards run to their ends, and then it is retired
	stopping                   // its shards are being closed
	spent                      // its shards are closed, and this worker has done with it what its move asked for
	ended                      // its shards are closed, and their sessions are ended
)

// active reports whether something of the range may still run.
func (s stage) active() bool { return s == running || s == finishing || s == stopping }

// held is a range that this worker runs, or ran under the ownership it has not seen end yet.
type held struct {
	fence int64
	stage stage
	move  int64 // if spent: the move that was carried out, or could not be; 0: it was released, or finished

	awaited int64 // the last move whose target was, or is, waited for
	late    bool  // for long enough
}

// stepKind is what to do about a range.
type stepKind int

const (
	start       stepKind = iota + 1 // run its shards
	await                           // run them on until the target of its move is ready, but not for long
	stop                            // close its shards; whose it is was decided by others
	handOver                        // close its shards, if they run, and carry out the move
	release                         // close its shards, if they run, and give it up
	finish                          // run its shards to their ends, and retire it
	endSessions                     // close its shards, if they run, so that their sessions end, and keep it
	forget                          // it is not ours any more, and nothing of it runs
)

func (k stepKind) String() string {
	return [...]string{
		start: "start", await: "await", stop: "stop", handOver: "hand over", release: "release", finish: "finish",
		endSessions: "end sessions", forget: "forget",
	}[k]
}

// step is one decision of reconcile.
type step struct {
	kind       stepKind
	rng        lease.RangeID
	assignment lease.Assignment // but for stop and forget
}

// reconcile compares what this worker holds with what it is ordered to, and says what to do about the difference. It
// is pure, and ordered by range. A range that is stopping gets no step: the end of stopping brings it here again. A range of
// a generation that is over is not run any more, but released, and one of the generation that was in force before a prepared one is finished.
func reconcile(
	have map[lease.RangeID]held, orders map[lease.RangeID]lease.Assignment, plan lease.Plan, p posture,
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
		p, standing := p, plan.Standing(id.Generation)
		if standing == lease.Over {
			p = leaving
		}
		if kind := next(h, a, p, standing == lease.Finishing); kind != 0 {
			steps = append(steps, step{kind, id, a})
		}
	}
	return steps
}

// end is what to do about a range that this worker lost.
func end(h held) stepKind {
	switch h.stage {
	case running, finishing:
		return stop
	case spent, ended:
		return forget
	default:
		return 0
	}
}

// next is what to do about a range that this worker owns. h is zero if it does not run. former says that its generation is not in force
// any more, but to be finished.
func next(h held, a lease.Assignment, p posture, former bool) stepKind {
	runs := h.stage == running || h.stage == finishing
	done := h.stage == spent && h.move == a.Move // what is asked for was done, or failed for good
	switch {
	case h.stage == stopping:
		return 0
	case a.HandOver && done:
		return 0
	case a.HandOver && a.To.Worker == "", p == leaving && !done:
		return release
	case a.HandOver && p == serving && h.stage == running && !a.Ready && h.awaited != a.Move:
		return await
	case a.HandOver && p == serving && h.stage == running && !a.Ready && !h.late:
		return 0
	case a.HandOver:
		return handOver
	case p == leaving:
		return 0
	case p == halted && runs:
		return stop
	case p == ending && h.stage != ended:
		return endSessions
	case former && done:
		return 0
	case p == serving && !runs:
		return start
	case p == serving && former && h.stage == running:
		return finish
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
