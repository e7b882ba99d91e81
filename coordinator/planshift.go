package coordinator

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// maxExchanges is among how many workers one is sought to exchange ranges with: the search is what takes a plan most time.
const maxExchanges = 32

// shift is a move of give from one worker to another, in exchange for take unless that is nil.
type shift struct {
	from, to   *load
	give, take *part
	gain       float64 // by how much it lowers the strain
	crowd      int     // neighbours of the range in the zone it goes to
}

// step decides on the best shift from the most utilised workers that can give any, and reports whether there is one.
func (e *evening) step(limit int) bool {
	slices.SortStableFunc(e.loads, func(a, b *load) int { return cmp.Compare(b.with(0), a.with(0)) })
	var best shift
	for _, from := range e.loads {
		if from.gives >= maxGives || from.with(0) <= e.mean {
			continue
		}
		if best.from != nil && from.with(0) < best.from.with(0) {
			break
		}
		if best.from != nil && from.capacity == best.from.capacity { // of equals only the size makes a difference
			continue
		}
		s, found := e.best(from, len(e.loads), e.move)
		if !found && e.over(from, stopBand) && e.moving+2 <= limit && from.takes < maxTakes {
			s, found = e.best(from, maxExchanges, e.exchange)
		}
		if found && (best.from == nil || s.gain > best.gain) {
			best = s
		}
	}
	if best.from != nil {
		e.decide(best)
	}
	return best.from != nil
}

// best compares the shifts to the least utilised workers that may take one, at most so many of them.
func (e *evening) best(from *load, among int, shiftTo func(from, to *load) (shift, bool)) (best shift, found bool) {
	for _, to := range slices.Backward(e.loads) {
		if to == from || !to.settled || to.takes >= maxTakes || to.with(0) >= from.with(0) || !e.over(from, stopBand) && !e.under(to, stopBand) {
			continue
		}
		if among--; among < 0 {
			break
		}
		s, ok := shiftTo(from, to)
		if !ok || !e.worth(s.gain) || found && (s.gain < best.gain || s.gain == best.gain && s.compare(best) >= 0) {
			continue
		}
		best, found = s, true
	}
	return best, found
}

// compare orders shifts of one gain.
func (s shift) compare(o shift) int {
	return cmp.Or(cmp.Compare(s.crowd, o.crowd), cmp.Compare(s.to.worker.ID, o.to.worker.ID))
}

// ideal is the weight whose shift would make both workers equal, and most is the largest that the target may be given.
func (e *evening) ideal(from, to *load) (ideal, most float64) {
	ideal = (from.with(0) - to.with(0)) / (1/from.capacity + 1/to.capacity)
	bound := max((1+targetBand)*e.mean, relief*from.with(0))
	most = max(ideal, (bound-to.with(0))*to.capacity)
	if to.zone != nil && to.zone != from.zone {
		most = min(most, to.zone.limit-to.zone.weight)
	}
	return ideal, most
}

// strain is a worker's part of what balance lowers, with so much more.
func (l *load) strain(weight float64) float64 { return l.with(weight) * l.with(weight) * l.capacity }

// gain is what shifting a weight lowers the strain by.
func gain(from, to *load, weight float64) float64 {
	return from.strain(0) + to.strain(0) - from.strain(-weight) - to.strain(weight)
}

// move is the best move of one range between two workers.
func (e *evening) move(from, to *load) (best shift, found bool) {
	ideal, most := e.ideal(from, to)
	for _, x := range nearest(e.movable(from, to), ideal, most) {
		if x == nil {
			continue
		}
		if g := gain(from, to, x.weight); to.room(x.size) && (!found || g > best.gain) {
			best, found = shift{from: from, to: to, give: x, gain: g, crowd: x.crowd(to)}, true
		}
	}
	return best, found
}

// exchange is the best exchange of two ranges between two workers.
func (e *evening) exchange(from, to *load) (best shift, found bool) {
	ideal, most := e.ideal(from, to)
	back := e.movable(to, from)
	if to.gives >= maxGives || len(back) == 0 {
		return best, false
	}
	for _, x := range e.movable(from, to) {
		if x.weight <= back[0].weight || !to.room(x.size) {
			continue
		}
		for _, y := range nearest(back, x.weight-ideal, x.weight) {
			if y == nil {
				continue
			}
			net := x.weight - y.weight
			if net < exchangeWorth*e.mean*from.capacity {
				continue
			}
			if g := gain(from, to, net); net <= most && from.room(y.size) && (!found || g > best.gain) {
				best, found = shift{from: from, to: to, give: x, take: y, gain: g, crowd: x.crowd(to)}, true
			}
		}
	}
	return best, found
}

// worth leaves out what only rounding makes a gain.
func (e *evening) worth(gain float64) bool { return gain > 1e-9*e.mean*e.mean }

// movable are a worker's ranges that may be moved to another, lightest first: those that do not rest. One that balance moved rests for
// balanceCooldown, but not from a worker that joined since: it cannot be going back to where it was, and had it waited, the new one might have
// been the better target.
func (e *evening) movable(from, to *load) []*part {
	if !from.sorted {
		from.sorted = true
		slices.SortStableFunc(from.movable, func(a, b *part) int { return cmp.Compare(a.weight, b.weight) })
		from.free = e.free(from.movable, time.Time{})
		for _, x := range from.movable {
			from.firstMoved = earliest(from.firstMoved, e.balanced[x.ID])
		}
	}
	joined := e.joined[to.worker.Ref()]
	if from.firstMoved.IsZero() || !joined.After(from.firstMoved) {
		return from.free
	}
	return e.free(from.movable, joined)
}

// free leaves out what rests from a worker that joined then.
func (e *evening) free(parts []*part, joined time.Time) (free []*part) {
	for _, x := range parts {
		if !e.rests(x, joined) {
			free = append(free, x)
		}
	}
	return free
}

// rests reports whether a range is not to be moved to a worker that joined then.
func (e *evening) rests(x *part, joined time.Time) bool {
	at, moved := e.balanced[x.ID]
	return moved && !e.rebalance && e.now.Before(at.Add(balanceCooldown)) && !joined.After(at)
}

// nearest are the ranges next to a weight, one not below it and one below, of those that weigh at most that, nil where there is none. Of
// equal ones it is the first.
func nearest(sorted []*part, weight, most float64) (near [2]*part) {
	from := func(w float64) int {
		return sort.Search(len(sorted), func(i int) bool { return sorted[i].weight >= w })
	}
	at := from(weight)
	if at < len(sorted) && sorted[at].weight <= most {
		near[0] = sorted[at]
	}
	if most < weight {
		at = sort.Search(len(sorted), func(i int) bool { return sorted[i].weight > most })
	}
	if at > 0 {
		near[1] = sorted[from(sorted[at-1].weight)]
	}
	return near
}

// decide has the shift done.
func (e *evening) decide(s shift) {
	e.shift(s.give, s.from, s.to)
	if s.take != nil {
		e.shift(s.take, s.to, s.from)
	}
}

func (e *evening) shift(x *part, from, to *load) {
	e.give(x, to)
	moved := func(y *part) bool { return y == x }
	from.movable, from.free = slices.DeleteFunc(from.movable, moved), slices.DeleteFunc(from.free, moved)
	from.gives++
	to.takes++
	e.moving++
	e.moved = append(e.moved, x.ID)
	e.act(lease.Intend, x, to.worker.Ref())
}
