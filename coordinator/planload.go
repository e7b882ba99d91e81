package coordinator

import (
	"cmp"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// baseWeight is what a shard weighs beside its events a second: it holds a socket, buffers and a decompressor, and must be resumed wherever it
// goes, even if nothing happens in it. Where no rates are known, ranges weigh as their shards count.
const baseWeight = 10

// part is a range as the planner sees it.
type part struct {
	lease.Range
	size    int // shards
	weight  float64
	heir    *load // who will have it when all moves are done; nil: nobody living
	beside  [2]*part
	inForce bool // is of the plan in force: balance may move it
}

// load is what a worker carries when all moves under way are done.
type load struct {
	worker   lease.Worker
	leaving  bool
	weight   float64
	capacity float64 // as far as it counts by now: see ramp
	shards   int     // that it has, those it gives away too, or is to have
	zone     *zone   // nil if all workers are in one
	settled  bool    // joined long enough ago to be given running ranges

	gives, takes int // moves under way or decided on

	// What balance could move away; once it looked, lightest first.
	movable    []*part
	sorted     bool
	free       []*part   // those that do not rest
	firstMoved time.Time // when balance moved the first of them, zero if it moved none
}

// with is the utilisation with so much more.
func (l *load) with(weight float64) float64 { return (l.weight + weight) / l.capacity }

// room reports whether so many shards more stay within the worker's limit.
func (l *load) room(shards int) bool {
	return l.worker.MaxShards <= 0 || l.shards+shards <= l.worker.MaxShards
}

// count finds out who may be given ranges, and what everybody carries.
func (p *planner) count() {
	p.loads = make(map[string]*load, len(p.workers))
	for _, plan := range p.plans {
		p.parts = slices.Grow(p.parts, plan.Ranges())
	}
	for id, w := range p.workers {
		l := &load{worker: w, capacity: float64(max(w.Capacity, 1))}
		l.leaving = w.Draining || p.cut[id] || p.draining[w.Ref()]
		p.loads[id] = l
		if l.leaving {
			if !w.Draining && !p.cut[id] {
				p.last = append(p.last, l)
			}
			continue
		}
		if until := quarantined(p.incarnations[id], p.now); !until.IsZero() {
			p.reserve = append(p.reserve, l)
			p.askAgain(until)
			continue
		}
		p.eligible = append(p.eligible, l)
	}
	p.quarantined = len(p.reserve)
	byID := func(a, b *load) int { return cmp.Compare(a.worker.ID, b.worker.ID) }
	slices.SortFunc(p.eligible, byID)
	slices.SortFunc(p.reserve, byID)
	slices.SortFunc(p.last, byID)
	for _, l := range p.eligible {
		p.sawJoin(p.joined[l.worker.Ref()])
	}
	for i, plan := range p.plans {
		p.weigh(plan, i == 0)
	}
	if p.former.Generation != 0 {
		before := len(p.parts)
		p.weigh(p.former, false)
		p.departing = len(p.parts) > before
	}
	p.rampUp()
	p.divideZones()
	for i := range p.parts {
		p.carry(&p.parts[i])
	}
}

// weigh makes the parts of a plan. A range whose rate is not known counts with the mean of those of which it is.
func (p *planner) weigh(plan lease.Plan, inForce bool) {
	first := len(p.parts)
	var rate float64
	known := 0
	for index := range plan.Ranges() {
		id := lease.RangeID{Generation: plan.Generation, Index: index}
		x := part{Range: p.ranges[id], size: min(plan.RangeSize, plan.Shards-index*plan.RangeSize), weight: -1, inForce: inForce}
		x.ID = id
		if x.Fence == 0 && plan.Generation == p.former.Generation {
			continue // it is at its end: nobody begins it again
		}
		if r, ok := p.rates[id]; ok {
			x.weight = r
			rate += r
			known += x.size
		}
		p.parts = append(p.parts, x)
	}
	mean := rate / float64(max(known, 1))
	parts := p.parts[first:]
	for i := range parts {
		x := &parts[i]
		if x.weight < 0 {
			x.weight = mean * float64(x.size)
		}
		p.events += x.weight
		x.weight += baseWeight * float64(x.size)
		p.weight += x.weight
	}
}

// rampUp has workers that joined a loaded cluster count with part of their capacity.
func (p *planner) rampUp() {
	var capacity float64
	for _, l := range p.eligible {
		capacity += l.capacity
		l.settled = !p.now.Before(p.joined[l.worker.Ref()].Add(balanceSettle))
	}
	if p.events <= loadedFrom*capacity || !p.now.Before(p.lastJoin.Add(rampTime)) {
		return
	}
	for _, l := range p.eligible {
		l.capacity *= ramp(p.now.Sub(p.joined[l.worker.Ref()]))
	}
	p.askAgain(p.now.Add(rampStep))
}

// carry adds a range to the load of who has it and of who will have it.
func (p *planner) carry(x *part) {
	if x.Move != nil {
		p.moving++
	}
	owner, target := p.living(x.Owner), (*load)(nil)
	if x.Move != nil {
		target = p.living(x.Move.To)
	}
	if target != nil && target.leaving {
		target = nil
	}
	if owner != nil {
		owner.shards += x.size
		x.heir = owner
	}
	if target == nil {
		x.add(x.heir)
		return
	}
	if target != owner {
		target.shards += x.size
	}
	target.takes++
	if owner != nil {
		owner.gives++
	}
	x.add(target)
}

// add makes l the heir, with all the weight.
func (x *part) add(l *load) {
	if x.heir = l; l == nil {
		return
	}
	l.weight += x.weight
	if l.zone != nil {
		l.zone.weight += x.weight
	}
}

// give decides that l shall have a range that another, or nobody, had.
func (p *planner) give(x *part, l *load) {
	if x.heir != nil {
		x.heir.weight -= x.weight
		if x.heir.zone != nil {
			x.heir.zone.weight -= x.weight
		}
	}
	l.shards += x.size
	x.add(l)
}

// living is the load of an incarnation, nil if it does not live.
func (p *planner) living(w lease.Ref) *load {
	if l := p.loads[w.Worker]; l != nil && l.worker.Ref() == w {
		return l
	}
	return nil
}

func (p *planner) sawJoin(at time.Time) {
	if p.firstJoin.IsZero() || at.Before(p.firstJoin) {
		p.firstJoin = at
	}
	p.lastJoin = latest(p.lastJoin, at)
}
