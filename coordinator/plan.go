package coordinator

import (
	"cmp"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

const (
	// Workers start together, and the first must not be given everything: while all workers there are joined within the last
	// joinPatience, orphans wait until none joined within the last joinSettle. A fleet of which one worker is older does not
	// wait, so a takeover is never held up by a worker that joins.
	joinSettle   = time.Second
	joinPatience = 5 * time.Second
	// forceAfter is how long an owner that is alive may take to hand a range over.
	forceAfter = 10 * time.Second
	// maxMoves bounds the handovers under way.
	maxMoves = 64
)

// decision is what plan wants done, and when it wants to be asked again if nothing changes before (zero: not at all).
type decision struct {
	actions    []lease.Action
	again      time.Time
	unassigned int  // ranges that are left without an owner for now
	nobody     bool // no worker may be given any
	full       int  // ranges that find no worker with room: unassigned, or kept by a worker that drains

	quarantined int  // workers that are given nothing because they restart again and again
	rebalanced  bool // nothing is left to do for the operator's order to rebalance

	// For the leader to remember: see deeds.note.
	starts    map[lease.Ref]int // sessions that workers are told to start by taking over
	moved     []lease.RangeID   // ranges moved for balance
	searched  bool              // balance has looked for moves
	balancing bool              // and goes on
}

// plan decides what becomes of every range. It is a pure function, deterministic, and does not depend on the order of anything. In this order:
// handovers that take too long or lost their target are ended; ranges whose owner is nobody or dead are given to somebody (repair); ranges of
// workers that drain, or are cut off from Redis, are moved away; and, if nothing of that is to be done, load is evened out (balance).
func plan(s snapshot) decision {
	p := planner{snapshot: s}
	p.count()
	p.nobody = len(p.eligible)+len(p.reserve) == 0
	var orphans, drains []*part
	for i := range p.parts {
		x := &p.parts[i]
		owner := p.living(x.Owner)
		switch {
		case owner == nil:
			orphans = append(orphans, x)
		case x.Move != nil:
			p.watchMove(x)
			p.departing = p.departing || owner.leaving
		case owner.leaving:
			drains = append(drains, x)
		case x.inForce:
			owner.movable = append(owner.movable, x)
		}
	}
	for _, x := range heaviestFirst(orphans) {
		p.repair(x)
	}
	for _, x := range heaviestFirst(drains) {
		p.drain(x)
	}
	if len(p.actions) == 0 && !p.waiting && !p.departing {
		p.balance()
	} else {
		p.decision.balancing = p.deeds.balancing
	}
	return p.decision
}

type planner struct {
	snapshot
	decision
	parts    []part // of all plans, by generation and index
	loads    map[string]*load
	eligible []*load // workers that may be given ranges, by id
	reserve  []*load // those in quarantine, by id: they are given ranges only if there is nobody else
	last     []*load // those that are to drain by order, by id: they are given ranges that nobody runs only if there is nobody at all
	weight   float64 // of all ranges
	events   float64 // a second, of all ranges

	moving    int  // handovers under way or decided on
	waiting   bool // orphans will be given to somebody in a moment
	departing bool // ranges are leaving workers that drain, or end with a former generation: the load is not what it soon will be

	firstJoin, lastJoin time.Time // of the eligible
}

// heaviestFirst sorts by weight; ranges of one weight stay in order.
func heaviestFirst(parts []*part) []*part {
	slices.SortStableFunc(parts, func(a, b *part) int { return cmp.Compare(b.weight, a.weight) })
	return parts
}

// repair gives a range without a living owner to a worker: the target of its move, if that lives, else the owner's next
// incarnation, else whoever has the least to do; if all are to drain, one that lives on though it is to drain. A worker that was told to
// start enough for this second gets it in the next: to spread it elsewhere would only have it moved again.
func (p *planner) repair(x *part) {
	heir := x.heir
	if heir == nil {
		heir = p.sameWorker(x)
		if heir == nil && p.waitForWorkers() {
			p.waiting = true
			p.unassigned++
			return
		}
		if heir == nil {
			heir = p.lightest(x)
		}
		if heir == nil && p.nobody {
			heir = x.lightestOf(p.last, false)
		}
		if heir == nil {
			p.unassigned++
			p.findsNoRoom()
			return
		}
		p.give(x, heir)
	}
	if !p.mayStart(heir, x.size) {
		p.waiting = true
		p.unassigned++
		return
	}
	p.act(lease.Assign, x, heir.worker.Ref())
}

// sameWorker is the living incarnation of the range's dead owner, if giving it back does not overload it.
func (p *planner) sameWorker(x *part) *load {
	l := p.loads[x.Owner.Worker]
	if l == nil || l.leaving || !l.room(x.size) || slices.Contains(p.reserve, l) {
		return nil
	}
	if least := p.lightest(x); least != nil && least.with(x.weight) < l.with(0) {
		return nil
	}
	return l
}

// watchMove ends a handover whose target died or wants to leave itself, or that takes too long.
func (p *planner) watchMove(x *part) {
	nobody := x.Move.To.Worker == ""
	if target := p.living(x.Move.To); !nobody && (target == nil || target.leaving) {
		p.act(lease.Cancel, x, lease.Ref{})
		return
	}
	due := p.intended[x.Move.Revision].Add(forceAfter)
	switch {
	case p.now.Before(due):
		p.askAgain(due)
	case nobody:
		p.act(lease.Cancel, x, lease.Ref{})
	default:
		p.act(lease.Force, x, x.Move.To)
	}
}

// drain moves a range away from a worker that is to have none. If there is nobody to take it, a worker that wants to leave is to release it;
// one that stays alive keeps it, as does one whose ranges would be taken if there was room: its sessions are better than none.
func (p *planner) drain(x *part) {
	if p.moving >= maxMoves {
		p.departing = true
		return // the end of one of the moves brings us here again
	}
	target := p.lightest(x)
	switch {
	case target != nil:
		p.give(x, target)
		p.act(lease.Intend, x, target.worker.Ref())
	case p.nobody && p.workers[x.Owner.Worker].Draining:
		p.act(lease.Intend, x, lease.Ref{})
	default:
		p.findsNoRoom()
		return
	}
	p.moving++
}

// findsNoRoom counts a range that nobody can have, though workers are there.
func (p *planner) findsNoRoom() {
	if !p.nobody {
		p.full++
	}
}

// waitForWorkers reports whether more workers are likely to join in a moment.
func (p *planner) waitForWorkers() bool {
	if len(p.eligible) == 0 {
		return false
	}
	settled, patience := p.lastJoin.Add(joinSettle), p.firstJoin.Add(joinPatience)
	return p.wait(earliest(settled, patience))
}

// wait reports whether that time is still to come, and if so asks to be called then.
func (p *planner) wait(until time.Time) bool {
	if !p.now.Before(until) {
		return false
	}
	p.askAgain(until)
	return true
}

func (p *planner) askAgain(at time.Time) {
	p.again = earliest(p.again, at)
}

func (p *planner) act(kind lease.ActionKind, x *part, to lease.Ref) {
	p.actions = append(p.actions, lease.Action{Kind: kind, Range: x.Range, To: to})
}

// rangeSize cuts the shards into about 256 ranges, until a range has 16 shards: small enough to balance well, large enough that
// the number of keys stays small at any size.
func rangeSize(shards int) int {
	size := 1
	for size < 16 && shards/(2*size) >= 256 {
		size *= 2
	}
	return size
}
