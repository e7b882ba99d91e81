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
	// balanceSettle is how long after a worker joined running ranges may be moved.
	balanceSettle = 3 * time.Second
	// forceAfter is how long an owner that is alive may take to hand a range over.
	forceAfter = 10 * time.Second
	// maxMoves bounds the handovers under way; within it, maxBalanceShare is the part of all ranges that balancing may move at
	// once, though it may always move two.
	maxMoves        = 64
	maxBalanceShare = 0.02
)

// snapshot is what plan decides by: plain values, at one moment.
type snapshot struct {
	now     time.Time
	plan    lease.Plan
	workers map[string]lease.Worker
	ranges  map[lease.RangeID]lease.Range
	cut     map[string]bool // workers that are cut off from Redis while others are not

	// When this leader first saw an incarnation, and the intent of a move (by its revision).
	joined   map[lease.Ref]time.Time
	intended map[int64]time.Time
}

// decision is what plan wants done, and when it wants to be asked again if nothing changes before (zero: not at all).
type decision struct {
	actions    []lease.Action
	again      time.Time
	unassigned int  // ranges that are left without an owner for now
	nobody     bool // no worker may be given any
}

// plan decides what becomes of every range. It is a pure function, and deterministic. In this order:
// ranges whose owner is nobody or dead are given to somebody (repair); handovers that take too long or lost their target are ended;
// ranges of workers that drain, or are cut off from Redis, are moved away; and, if nothing of that is to be done, load is evened out (balance).
func plan(s snapshot) decision {
	p := planner{snapshot: s}
	p.count()
	for index := range s.plan.Ranges() {
		id := lease.RangeID{Generation: s.plan.Generation, Index: index}
		r := s.ranges[id]
		r.ID = id
		p.settle(r)
	}
	if len(p.actions) == 0 && p.again.IsZero() { // nothing is under way, nor waited for
		p.balance()
	}
	return p.decision
}

type planner struct {
	snapshot
	decision
	eligible []*load // workers that may be given ranges, by id
	byWorker map[string]*load
	moves    int // handovers under way or decided on

	firstJoin, lastJoin time.Time // of the eligible
}

// load is what a worker carries when all moves under way are done.
type load struct {
	worker   lease.Worker
	shards   int
	draining bool
	ranges   []lease.Range // those that could be moved away
}

// relative is the load in proportion to capacity, if extra shards were added.
func (l *load) relative(extra int) float64 {
	return float64(l.shards+extra) / float64(max(l.worker.Capacity, 1))
}

func (p *planner) count() {
	p.byWorker = make(map[string]*load, len(p.workers))
	for id, w := range p.workers {
		l := &load{worker: w, draining: w.Draining || p.cut[id]}
		p.byWorker[id] = l
		if !l.draining {
			p.eligible = append(p.eligible, l)
			p.sawJoin(p.joined[w.Ref()])
		}
	}
	p.nobody = len(p.eligible) == 0
	slices.SortFunc(p.eligible, func(a, b *load) int { return cmp.Compare(a.worker.ID, b.worker.ID) })
	for _, r := range p.ranges {
		if r.ID.Generation != p.plan.Generation || r.ID.Index >= p.plan.Ranges() {
			continue
		}
		if r.Move != nil {
			p.moves++
		}
		if l := p.heir(r); l != nil {
			l.shards += p.size(r.ID)
		}
	}
}

func (p *planner) sawJoin(at time.Time) {
	if len(p.eligible) == 1 || at.Before(p.firstJoin) {
		p.firstJoin = at
	}
	p.lastJoin = latest(p.lastJoin, at)
}

// heir is the worker that will have the range when its move, if it can succeed, is done; nil if nobody living has it.
func (p *planner) heir(r lease.Range) *load {
	if r.Move != nil && p.fit(r.Move.To) {
		return p.byWorker[r.Move.To.Worker]
	}
	if p.alive(r.Owner) {
		return p.byWorker[r.Owner.Worker]
	}
	return nil
}

func (p *planner) alive(w lease.Ref) bool {
	l := p.byWorker[w.Worker]
	return l != nil && l.worker.Ref() == w
}

// fit reports whether a worker may be given ranges.
func (p *planner) fit(w lease.Ref) bool { return p.alive(w) && !p.byWorker[w.Worker].draining }

// size is how many shards a range has: all have as many but the last, which has the rest.
func (p *planner) size(id lease.RangeID) int {
	return min(p.plan.RangeSize, p.plan.Shards-id.Index*p.plan.RangeSize)
}

// settle decides what becomes of one range, but for balance.
func (p *planner) settle(r lease.Range) {
	switch {
	case !p.alive(r.Owner):
		p.repair(r)
	case r.Move != nil:
		p.watchMove(r)
	case p.byWorker[r.Owner.Worker].draining:
		p.drain(r)
	default:
		l := p.byWorker[r.Owner.Worker]
		l.ranges = append(l.ranges, r)
	}
}

// repair gives a range without a living owner to a worker: the target of its move, if that lives, else the owner's next
// incarnation, else whoever has the least to do.
func (p *planner) repair(r lease.Range) {
	size := p.size(r.ID)
	heir := p.heir(r)
	if heir == nil {
		heir = p.sameWorker(r, size)
		if heir == nil && p.waitForWorkers() {
			p.unassigned++
			return
		}
		if heir == nil {
			heir = p.leastLoaded(size)
		}
		if heir == nil {
			p.unassigned++
			return
		}
		heir.shards += size
	}
	p.act(lease.Assign, r, heir.worker.Ref())
}

// sameWorker is the living incarnation of the range's dead owner, if giving it back does not overload it.
func (p *planner) sameWorker(r lease.Range, size int) *load {
	l := p.byWorker[r.Owner.Worker]
	if l == nil || l.draining {
		return nil
	}
	if least := p.leastLoaded(size); least.relative(size) < l.relative(0) {
		return nil
	}
	return l
}

// watchMove ends a handover whose target died or wants to leave itself, or that takes too long.
func (p *planner) watchMove(r lease.Range) {
	nobody := r.Move.To.Worker == ""
	if !nobody && !p.fit(r.Move.To) {
		p.act(lease.Cancel, r, lease.Ref{})
		return
	}
	due := p.intended[r.Move.Revision].Add(forceAfter)
	switch {
	case p.now.Before(due):
		p.askAgain(due)
	case nobody:
		p.act(lease.Cancel, r, lease.Ref{})
	default:
		p.act(lease.Force, r, r.Move.To)
	}
}

// drain moves a range away from a worker that wants to leave; if there is nobody to take it, the worker is to release it.
func (p *planner) drain(r lease.Range) {
	if p.moves >= maxMoves {
		return // the end of one of the moves brings us here again
	}
	p.moves++
	size := p.size(r.ID)
	target := p.leastLoaded(size)
	if target == nil {
		p.act(lease.Intend, r, lease.Ref{})
		return
	}
	target.shards += size
	p.act(lease.Intend, r, target.worker.Ref())
}

// balance moves ranges from the most loaded worker to the one that they load least, while that leaves the receiver with less
// than the giver had. So every move makes the load more even, none is undone by the next decision, and a balanced cluster is
// left alone.
func (p *planner) balance() {
	if len(p.eligible) < 2 || p.wait(p.lastJoin.Add(balanceSettle)) {
		return
	}
	limit := min(maxMoves, max(2, int(maxBalanceShare*float64(p.plan.Ranges()))))
	for p.moves < limit {
		giver := slices.MaxFunc(p.eligible, func(a, b *load) int { return cmp.Compare(a.relative(0), b.relative(0)) })
		if len(giver.ranges) == 0 {
			return
		}
		r := giver.ranges[0] // in order, so that the last range, which may be short, is not sent to and fro to even out a little
		size := p.size(r.ID)
		taker := p.leastLoaded(size)
		if taker.relative(size) >= giver.relative(0) {
			return
		}
		giver.ranges = giver.ranges[1:]
		giver.shards -= size
		taker.shards += size
		p.moves++
		p.act(lease.Intend, r, taker.worker.Ref())
	}
}

// leastLoaded is who has the least to do with so many shards more; nil if nobody may be given anything.
func (p *planner) leastLoaded(size int) *load {
	if p.nobody {
		return nil
	}
	least, lowest := p.eligible[0], p.eligible[0].relative(size)
	for _, l := range p.eligible[1:] { // not slices.MinFunc, which works each load out twice: this is most of a plan's cost
		if load := l.relative(size); load < lowest {
			least, lowest = l, load
		}
	}
	return least
}

// waitForWorkers reports whether more workers are likely to join in a moment.
func (p *planner) waitForWorkers() bool {
	if p.nobody {
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

func (p *planner) act(kind lease.ActionKind, r lease.Range, to lease.Ref) {
	p.actions = append(p.actions, lease.Action{Kind: kind, Range: r, To: to})
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
