package coordinator

import (
	"slices"
	"time"
)

const (
	// Balance begins when a worker's utilisation is further than startBand from the mean, up or down, and goes on until none is further than
	// stopBand.
	startBand = 0.20
	stopBand  = 0.10
	// A move leaves its target below (1 + targetBand) times the mean, or, where ranges are too coarse for that, at no more than its source has left,
	// or at no more than relief times what that had: so no move is worth undoing.
	targetBand = 0.05
	relief     = 0.90
	// exchangeWorth is what an exchange must shift at least, in proportion to the mean: in a small cluster there is always one of two nearly equal
	// ranges that gains a little, and with the next measurement one that gains it back.
	exchangeWorth = 0.10
	// balanceSettle is how long after a worker joined running ranges may be moved to it.
	balanceSettle = 3 * time.Second
	// balancePatience is how long one that waits for its first range waits for others to join, so that all can be given their share in one go.
	balancePatience = 10 * time.Second
	// balancePause is how long balance rests when it has come to an end, unless a worker joined since that has nothing.
	balancePause = 30 * time.Second
	// balanceCooldown is how long a range that balance moved is not moved by it again, but to a worker that joined since.
	balanceCooldown = 5 * time.Minute
	// maxBalanceShare is the part of all ranges that may be under way while balance moves some, though it may always move two. A worker gives at
	// most maxGives of them at a time, and takes at most maxTakes.
	maxBalanceShare = 0.02
	maxGives        = 2
	maxTakes        = 2
)

// balance evens out load among the workers that may be given ranges. It moves ranges of the plan in force only, and as few as bring everybody
// within stopBand of the mean: each time the one whose move, or else the two whose exchange, lowers the strain most. What a move costs is the same
// for all, the resumes of a range's shards, so what it gains is all that is compared. Since the strain strictly falls, no
// sequence of moves repeats itself.
//
// The strain is the sum of the squared utilisations, each times the worker's capacity: it is least when all utilisations are equal. (Without
// the capacities it would be least where large workers are more utilised than small ones.)
func (p *planner) balance() {
	e := p.newEvening()
	if !p.due(e) {
		p.rebalanced = p.rebalance && p.moving == 0 && !e.unsettled
		return
	}
	p.searched = true
	limit := min(maxMoves, max(2, int(maxBalanceShare*float64(len(p.parts)))))
	for p.moving < limit && e.uneven(stopBand) && e.step(limit) {
	}
	p.decision.balancing = p.moving > 0 && e.uneven(stopBand)
	p.rebalanced = p.rebalance && p.moving == 0 && !e.unsettled
	if !p.decision.balancing && e.uneven(startBand) {
		for _, at := range p.balanced { // what rests now may be moved then
			if until := at.Add(balanceCooldown); p.now.Before(until) {
				p.askAgain(until)
			}
		}
	}
}

// due reports whether load is to be evened out now.
func (p *planner) due(e *evening) bool {
	switch {
	case len(e.loads) < 2:
		return false
	case p.rebalance:
		return e.uneven(stopBand)
	case p.wait(p.massLossUntil()):
		return false
	case p.deeds.balancing:
		return e.uneven(stopBand)
	case !e.uneven(startBand), e.unsettled && p.wait(e.idle.Add(balancePatience)):
		return false
	default:
		return e.newcomer() || !p.wait(p.balanceEnded.Add(balancePause))
	}
}

// massLossUntil is when balance may go on after workers were lost in a mass; zero if they were not.
func (p *planner) massLossUntil() time.Time {
	if p.massLoss.IsZero() {
		return time.Time{}
	}
	return p.massLoss.Add(massLossFreeze)
}

// evening is one evening out of the load.
type evening struct {
	*planner
	loads     []*load   // of those that may be given ranges
	mean      float64   // utilisation
	unsettled bool      // some could be given more, but joined too short ago
	idle      time.Time // when the first that has nothing joined, if there is one
}

func (p *planner) newEvening() *evening {
	e := &evening{planner: p, loads: slices.Clone(p.eligible)}
	var weight, capacity float64
	for _, l := range e.loads {
		weight += l.weight
		capacity += l.capacity
	}
	if capacity > 0 {
		e.mean = weight / capacity
	}
	for _, l := range e.loads {
		joined := p.joined[l.worker.Ref()]
		if l.weight == 0 {
			e.idle = earliest(e.idle, joined)
		}
		if !l.settled && l.with(0) < e.mean {
			e.unsettled = true
			p.askAgain(joined.Add(balanceSettle))
		}
	}
	return e
}

// uneven reports whether anybody is further from the mean than that. Who just joined does not count yet. Zones need no look of their own: one that
// is above its limit has workers that are too utilised, or another has such that are too little.
func (e *evening) uneven(band float64) bool {
	return slices.ContainsFunc(e.loads, func(l *load) bool { return e.over(l, band) || e.under(l, band) })
}

func (e *evening) over(l *load, band float64) bool {
	return l.with(0) > (1+band)*e.mean
}

func (e *evening) under(l *load, band float64) bool {
	return l.settled && l.with(0) < (1-band)*e.mean
}

// newcomer reports whether somebody has nothing who was not there yet when balance last came to an end.
func (e *evening) newcomer() bool {
	return slices.ContainsFunc(e.loads, func(l *load) bool {
		return l.settled && l.weight == 0 && e.joined[l.worker.Ref()].Add(balanceSettle).After(e.balanceEnded)
	})
}
