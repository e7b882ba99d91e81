package coordinator

import "math"

// zoneMargin is by how much a zone's part of all weight may exceed its part of all capacity.
const zoneMargin = 0.10

// zone is the workers of a failure domain that may be given ranges.
type zone struct{ weight, capacity, limit float64 }

// divideZones gives each zone its limit, if there are several.
func (p *planner) divideZones() {
	zones := map[string]*zone{}
	var capacity float64
	for _, l := range p.eligible {
		if zones[l.worker.Zone] == nil {
			zones[l.worker.Zone] = &zone{}
		}
		zones[l.worker.Zone].capacity += l.capacity
		capacity += l.capacity
	}
	if len(zones) < 2 {
		return
	}
	for i := range p.parts {
		x := &p.parts[i]
		if i > 0 && p.parts[i-1].ID.Generation == x.ID.Generation {
			x.beside[0], p.parts[i-1].beside[1] = &p.parts[i-1], x
		}
	}
	for _, z := range zones {
		z.limit = (z.capacity/capacity + zoneMargin) * p.weight
	}
	for _, l := range p.eligible {
		l.zone = zones[l.worker.Zone]
	}
}

// lightest is who is least utilised with a range more: of those that may be given any and have room, within the limit of their zone if that
// can be, and in quarantine only if there is no other. It is nil if nobody can have it.
func (p *planner) lightest(x *part) *load {
	if l := x.lightestOf(p.eligible, true); l != nil {
		return l
	}
	if l := x.lightestOf(p.eligible, false); l != nil {
		return l
	}
	return x.lightestOf(p.reserve, false)
}

func (x *part) lightestOf(loads []*load, zones bool) (best *load) {
	lowest := math.Inf(1)
	for _, l := range loads { // most of a plan's cost: what is quick to find out comes first
		u := l.with(x.weight)
		if u > lowest || u == lowest && !x.prefers(l, best) {
			continue
		}
		if !l.room(x.size) || zones && l.zone != nil && l.zone.weight+x.weight > l.zone.limit {
			continue
		}
		best, lowest = l, u
	}
	return best
}

// prefers says which of two that would be utilised equally is to have a range: the smaller, since the larger misses it less; then the one in
// another zone than the range's neighbours. Otherwise the first stays, by id.
func (x *part) prefers(l, best *load) bool {
	if l.capacity != best.capacity {
		return l.capacity < best.capacity
	}
	return l.zone != best.zone && x.crowd(l) < x.crowd(best)
}

// crowd is how many of the range's neighbours are in the worker's zone.
func (x *part) crowd(l *load) (n int) {
	if l.zone == nil {
		return 0
	}
	for _, y := range x.beside {
		if y != nil && y.heir != nil && y.heir.zone == l.zone {
			n++
		}
	}
	return n
}
