package coordinator

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/lease"
)

// mirror works out a second time, in the plainest way, what the planner decides by.
type mirror struct {
	s      snapshot
	weight map[string]float64 // of workers, when all moves are done
	shards map[string]int     // that they have or are to have
	heirs  map[lease.RangeID]string
	fit    []string // workers that may be given ranges, those in quarantine left out unless there are no others
	loaded bool     // who joined lately counts with part of its capacity
	moves  int      // under way
}

func newMirror(s snapshot) *mirror {
	m := &mirror{s: s, weight: map[string]float64{}, shards: map[string]int{}, heirs: map[lease.RangeID]string{}}
	var flapping []string
	for id, w := range s.workers {
		switch {
		case m.leaving(w):
		case !quarantined(s.incarnations[id], s.now).IsZero():
			flapping = append(flapping, id)
		default:
			m.fit = append(m.fit, id)
		}
	}
	var events, capacity float64
	for id := range m.all() {
		events += m.weigh(id) - baseWeight*float64(m.size(id))
	}
	for _, id := range m.fit {
		capacity += m.capacity(id)
	}
	m.loaded = events > loadedFrom*capacity
	if len(m.fit) == 0 {
		m.fit, m.loaded = flapping, false
	}
	slices.Sort(m.fit)
	for id := range m.all() {
		r := s.ranges[id]
		owner, target := m.alive(r.Owner), false
		if owner {
			m.shards[r.Owner.Worker] += m.size(id)
			m.heirs[id] = r.Owner.Worker
		}
		if r.Move != nil {
			m.moves++
			if target = m.alive(r.Move.To) && !m.leaving(s.workers[r.Move.To.Worker]); target {
				m.heirs[id] = r.Move.To.Worker
			}
			if target && r.Move.To != r.Owner {
				m.shards[r.Move.To.Worker] += m.size(id)
			}
		}
		if heir := m.heirs[id]; heir != "" {
			m.weight[heir] += m.weigh(id)
		}
	}
	return m
}

// all are the ranges of all plans.
func (m *mirror) all() map[lease.RangeID]lease.Plan {
	all := map[lease.RangeID]lease.Plan{}
	for _, p := range m.s.plans {
		for index := range p.Ranges() {
			all[lease.RangeID{Generation: p.Generation, Index: index}] = p
		}
	}
	return all
}

func (m *mirror) alive(r lease.Ref) bool { w, ok := m.s.workers[r.Worker]; return ok && w.Ref() == r }

func (m *mirror) leaving(w lease.Worker) bool {
	return w.Draining || m.s.cut[w.ID] || m.s.draining[w.Ref()]
}

func (m *mirror) size(id lease.RangeID) int {
	for _, p := range m.s.plans {
		if p.Generation == id.Generation {
			return len(p.ShardsOf(id))
		}
	}
	return 0
}

func (m *mirror) weigh(id lease.RangeID) float64 {
	if rate, ok := m.s.rates[id]; ok {
		return rate + baseWeight*float64(m.size(id))
	}
	var rates, shards float64
	for other, rate := range m.s.rates {
		if n := m.size(other); n > 0 && other.Generation == id.Generation {
			rates, shards = rates+rate, shards+float64(n)
		}
	}
	return (rates/max(shards, 1) + baseWeight) * float64(m.size(id))
}

func (m *mirror) capacity(worker string) float64 {
	return float64(max(m.s.workers[worker].Capacity, 1))
}

func (m *mirror) used(worker string) float64 { return m.weight[worker] / m.capacity(worker) }

func (m *mirror) mean() float64 {
	var weight, capacity float64
	for _, id := range m.fit {
		weight, capacity = weight+m.weight[id], capacity+m.capacity(id)
	}
	return weight / capacity
}

// strain is the sum of the squared utilisations, each times the capacity.
func (m *mirror) strain() (sum float64) {
	for id := range m.s.workers {
		sum += m.used(id) * m.used(id) * m.capacity(id)
	}
	return sum
}

func (m *mirror) room(worker string, size int) bool {
	limit := m.s.workers[worker].MaxShards
	return limit == 0 || m.shards[worker]+size <= limit
}

// couldMove describes a move that balance should have made, if it had begun. (That only the last range, which may be short, finds room within a
// worker's limit is not looked for.)
func (m *mirror) couldMove() string {
	mean := m.mean()
	if !slices.ContainsFunc(m.fit, func(w string) bool { return math.Abs(m.used(w)-mean) > startBand*mean*1.001 }) {
		return ""
	}
	zones := map[string]bool{}
	for _, id := range m.fit {
		zones[m.s.workers[id].Zone] = true
	}
	for id, r := range m.s.ranges {
		from := r.Owner.Worker
		if id.Generation != 1 || !m.alive(r.Owner) || !slices.Contains(m.fit, from) {
			continue
		}
		for _, to := range m.fit {
			after, left := (m.weight[to]+m.weigh(id))/m.capacity(to), (m.weight[from]-m.weigh(id))/m.capacity(from)
			if to == from || len(zones) > 1 && m.s.workers[to].Zone != m.s.workers[from].Zone || !m.room(to, m.s.plans[0].RangeSize) ||
				m.used(from) <= 1.001*mean || m.used(to) >= m.used(from) ||
				m.used(from) <= (1+stopBand)*1.001*mean && m.used(to) >= (1-stopBand)*0.999*mean ||
				after > 0.999*max((1+targetBand)*mean, relief*m.used(from), left) {
				continue
			}
			before := m.used(from)*m.used(from)*m.capacity(from) + m.used(to)*m.used(to)*m.capacity(to)
			if left*left*m.capacity(from)+after*after*m.capacity(to) < 0.999*before {
				return fmt.Sprintf("range %v could move from %s to %s", id, from, to)
			}
		}
	}
	return ""
}

// checkDecision checks what must hold of every decision.
func checkDecision(t failer, s snapshot, d decision) {
	t.Helper()
	m := newMirror(s)
	acted := map[lease.RangeID]bool{}
	intended := 0
	for _, a := range d.actions {
		if acted[a.Range.ID] {
			t.Fatalf("two actions for range %v: %v", a.Range.ID, d.actions)
		}
		acted[a.Range.ID] = true
		m.checkTarget(t, a)
		switch a.Kind {
		case lease.Assign:
			if m.alive(a.Range.Owner) {
				t.Fatalf("%v: its owner is alive", a)
			}
		case lease.Intend:
			intended++
			if !m.alive(a.Range.Owner) || a.Range.Move != nil || a.To == a.Range.Owner {
				t.Fatalf("%v: its owner %v has move %v", a, a.Range.Owner, a.Range.Move)
			}
		case lease.Force, lease.Cancel:
			if !m.alive(a.Range.Owner) || a.Range.Move == nil {
				t.Fatalf("%v: its owner %v has move %v", a, a.Range.Owner, a.Range.Move)
			}
		}
	}
	if intended > 0 && m.moves+intended > maxMoves {
		t.Fatalf("%d moves under way and %d more intended", m.moves, intended)
	}
	for worker, sessions := range d.starts {
		if sessions > maxStarts {
			t.Fatalf("worker %v is told to start %d sessions at once", worker, sessions)
		}
	}
	m.checkNothingForgotten(t, d, acted)
	m.checkBalance(t, d)
}

// checkTarget: whom an action names may have the range, and has room for it; and now counts it.
func (m *mirror) checkTarget(t failer, a lease.Action) {
	t.Helper()
	nobody := a.To == (lease.Ref{})
	if a.Kind == lease.Cancel != nobody && !(a.Kind == lease.Intend && nobody) {
		t.Fatalf("%v has target %v", a, a.To)
	}
	if nobody {
		return
	}
	w := m.s.workers[a.To.Worker]
	lastResort := a.Kind == lease.Assign && len(m.fit) == 0 && !w.Draining && !m.s.cut[w.ID]
	if !m.alive(a.To) || m.leaving(w) && !lastResort {
		t.Fatalf("%v: the target is dead or draining", a)
	}
	if m.heirs[a.Range.ID] == w.ID { // as was decided before
		return
	}
	size := m.size(a.Range.ID)
	if !m.room(w.ID, size) {
		t.Fatalf("%v: the target has %d shards of %d already", a, m.shards[w.ID], w.MaxShards)
	}
	if !slices.Contains(m.fit, w.ID) && slices.ContainsFunc(m.fit, func(id string) bool { return m.room(id, size) }) {
		t.Fatalf("%v: the target is in quarantine, and %v are not", a, m.fit)
	}
	m.shards[w.ID] += size
}

// checkNothingForgotten: every range runs, or is being given to somebody, or is counted; and what waits is waited for.
func (m *mirror) checkNothingForgotten(t failer, d decision, acted map[lease.RangeID]bool) {
	t.Helper()
	orphans := 0
	for id := range m.all() {
		r := m.s.ranges[id]
		if !m.alive(r.Owner) && !acted[id] {
			orphans++
		}
		if m.alive(r.Owner) && r.Move != nil && !acted[r.ID] && d.again.IsZero() {
			t.Fatalf("nothing waits for the end of the move of range %v", r.ID)
		}
	}
	if orphans != d.unassigned {
		t.Fatalf("%d ranges have nobody and no action, %d are counted", orphans, d.unassigned)
	}
	if orphans > 0 && !d.nobody && d.full == 0 && d.again.IsZero() {
		t.Fatalf("%d ranges are left without a worker, without an alarm, and nothing waits", orphans)
	}
	if d.nobody != (len(m.fit) == 0) {
		t.Fatalf("nobody may have ranges: %v; but %v are fit", d.nobody, m.fit)
	}
	if !d.again.IsZero() && !d.again.After(m.s.now) {
		t.Fatalf("again at %v is not after now, %v", d.again, m.s.now)
	}
}

// checkBalance: what is moved for balance makes the load more even, step by step, within its bounds.
func (m *mirror) checkBalance(t failer, d decision) {
	t.Helper()
	if len(d.moved) == 0 {
		return
	}
	if len(d.moved) != len(d.actions) {
		t.Fatalf("load is balanced beside something more urgent: %v", d.actions)
	}
	for id, r := range m.s.ranges {
		if m.alive(r.Owner) && m.leaving(m.s.workers[r.Owner.Worker]) && (r.Move != nil || d.full == 0) && m.size(id) > 0 {
			t.Fatalf("load is balanced while range %v leaves a draining worker", id)
		}
	}
	gives, takes := map[string]int{}, map[string]int{}
	for _, r := range m.s.ranges {
		if r.Move != nil && m.size(r.ID) > 0 {
			gives[r.Owner.Worker]++
			takes[r.Move.To.Worker]++
		}
	}
	strain := m.strain()
	for i, a := range d.actions {
		if a.Range.ID.Generation != m.s.plans[0].Generation {
			t.Fatalf("%v: not of the generation in force", a)
		}
		m.weight[a.Range.Owner.Worker] -= m.weigh(a.Range.ID)
		m.weight[a.To.Worker] += m.weigh(a.Range.ID)
		gives[a.Range.Owner.Worker]++
		takes[a.To.Worker]++
		if gives[a.Range.Owner.Worker] > maxGives || takes[a.To.Worker] > maxTakes {
			t.Fatalf("%v: too many moves of one worker at once", a)
		}
		if i+1 < len(d.actions) && d.actions[i+1].To == a.Range.Owner && d.actions[i+1].Range.Owner == a.To {
			continue // in exchange for the next
		}
		if now := m.strain(); now >= strain {
			t.Fatalf("%v does not make the load more even: strain %v after %v", a, now, strain)
		} else {
			strain = now
		}
	}
	ranges := len(m.all())
	if under := m.moves + len(d.moved); under > 2 && float64(under) > maxBalanceShare*float64(ranges) {
		t.Fatalf("%d of %d ranges are under way", under, ranges)
	}
}

// anySnapshot draws a snapshot without regard to whether a history could lead to it.
func anySnapshot(t *rapid.T) snapshot {
	count, size := rapid.IntRange(1, 40).Draw(t, "ranges"), rapid.IntRange(1, 4).Draw(t, "size")
	s := newScene(0)
	s.plans = []lease.Plan{{Generation: 1, RangeSize: size, Shards: count*size - rapid.IntRange(0, size-1).Draw(t, "short")}}
	if rapid.IntRange(0, 3).Draw(t, "prepared") == 0 {
		s.plans = append(s.plans, lease.Plan{Generation: 2, RangeSize: 1, Shards: rapid.IntRange(1, 9).Draw(t, "shards")})
	}
	s.rates, s.rebalance, s.draining = map[lease.RangeID]float64{}, rapid.Bool().Draw(t, "rebalance"), map[lease.Ref]bool{}
	s.incarnations = map[string][]time.Time{}
	refs := []lease.Ref{{}}
	for i := range rapid.IntRange(0, 6).Draw(t, "workers") {
		dead, living := lease.Ref{Worker: fmt.Sprint("w", i), Incarnation: int64(2*i + 1)}, lease.Ref{Worker: fmt.Sprint("w", i), Incarnation: int64(2*i + 2)}
		refs = append(refs, dead, living)
		if rapid.Bool().Draw(t, "alive") {
			s.workers[living.Worker] = lease.Worker{
				ID: living.Worker, Incarnation: living.Incarnation, Zone: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "zone"),
				Capacity: rapid.IntRange(0, 5).Draw(t, "capacity"), Draining: rapid.IntRange(0, 3).Draw(t, "draining") == 0,
				MaxShards: rapid.SampledFrom([]int{0, 0, 0, 5, 20}).Draw(t, "limit"),
			}
			s.joined[living] = s.now.Add(-time.Duration(rapid.IntRange(0, 6000).Draw(t, "joined")) * time.Millisecond)
			s.draining[living] = rapid.IntRange(0, 5).Draw(t, "ordered to drain") == 0
			s.incarnations[living.Worker] = slices.Repeat([]time.Time{s.joined[living]}, rapid.SampledFrom([]int{1, 1, 1, 3}).Draw(t, "incarnations"))
		}
	}
	for _, p := range s.plans {
		for index := range p.Ranges() {
			id := lease.RangeID{Generation: p.Generation, Index: index}
			r := lease.Range{ID: id, Owner: rapid.SampledFrom(refs).Draw(t, "owner"), Fence: int64(index + 1)}
			if rapid.IntRange(0, 2).Draw(t, "moving") == 0 {
				r.Move = &lease.Move{To: rapid.SampledFrom(refs).Draw(t, "to"), Revision: int64(1000*p.Generation + index)}
				s.intended[r.Move.Revision] = s.now.Add(-time.Duration(rapid.IntRange(0, 12).Draw(t, "intended")) * time.Second)
			}
			if rapid.Bool().Draw(t, "measured") {
				s.rates[id] = float64(rapid.IntRange(0, 100).Draw(t, "rate"))
			}
			s.ranges[id] = r
		}
	}
	return s.snapshot
}

func TestPlanOfAnySnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySnapshot(t)
		d := plan(s)
		checkDecision(t, s, d)
		if again := plan(reordered(s)); !reflect.DeepEqual(d, again) {
			t.Fatalf("decided\n%v\nand, asked again,\n%v", d, again)
		}
	})
}

// reordered is the same snapshot in other maps, which Go iterates in an order of their own.
func reordered(s snapshot) snapshot {
	s.workers, s.ranges, s.rates = maps.Clone(s.workers), maps.Clone(s.ranges), maps.Clone(s.rates)
	return s
}
