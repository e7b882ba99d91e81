package coordinator

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/lease"
)

// anySnapshot draws a snapshot without regard to whether a history could lead to it.
func anySnapshot(t *rapid.T) snapshot {
	count, size := rapid.IntRange(1, 40).Draw(t, "ranges"), rapid.IntRange(1, 4).Draw(t, "size")
	s := newScene(0)
	s.plan = lease.Plan{Generation: 1, RangeSize: size, Shards: count*size - rapid.IntRange(0, size-1).Draw(t, "short")}
	refs := []lease.Ref{{}}
	for i := range rapid.IntRange(0, 6).Draw(t, "workers") {
		dead, living := lease.Ref{Worker: fmt.Sprint("w", i), Incarnation: int64(2*i + 1)}, lease.Ref{Worker: fmt.Sprint("w", i), Incarnation: int64(2*i + 2)}
		refs = append(refs, dead, living)
		if rapid.Bool().Draw(t, "alive") {
			s.workers[living.Worker] = lease.Worker{
				ID: living.Worker, Incarnation: living.Incarnation,
				Capacity: rapid.IntRange(0, 5).Draw(t, "capacity"), Draining: rapid.IntRange(0, 3).Draw(t, "draining") == 0,
			}
			s.joined[living] = s.now.Add(-time.Duration(rapid.IntRange(0, 6000).Draw(t, "joined")) * time.Millisecond)
		}
	}
	for index := range count {
		id := lease.RangeID{Generation: 1, Index: index}
		r := lease.Range{ID: id, Owner: rapid.SampledFrom(refs).Draw(t, "owner"), Fence: int64(index + 1)}
		if rapid.IntRange(0, 2).Draw(t, "moving") == 0 {
			r.Move = &lease.Move{To: rapid.SampledFrom(refs).Draw(t, "to"), Revision: int64(1000 + index)}
			s.intended[r.Move.Revision] = s.now.Add(-time.Duration(rapid.IntRange(0, 12).Draw(t, "intended")) * time.Second)
		}
		s.ranges[id] = r
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
	s.workers, s.ranges = maps.Clone(s.workers), maps.Clone(s.ranges)
	return s
}

// checkDecision checks what must hold of every decision.
func checkDecision(t *rapid.T, s snapshot, d decision) {
	alive := func(r lease.Ref) bool { w, ok := s.workers[r.Worker]; return ok && w.Ref() == r }
	acted := map[lease.RangeID]bool{}
	moves, intended := 0, 0
	for _, r := range s.ranges {
		if r.Move != nil {
			moves++
		}
	}
	for _, a := range d.actions {
		if acted[a.Range.ID] {
			t.Fatalf("two actions for range %v: %v", a.Range.ID, d.actions)
		}
		acted[a.Range.ID] = true
		if nobody := a.To == (lease.Ref{}); a.Kind == lease.Cancel != nobody && !(a.Kind == lease.Intend && nobody) {
			t.Fatalf("%v has target %v", a, a.To)
		} else if !nobody && (!alive(a.To) || s.workers[a.To.Worker].Draining) {
			t.Fatalf("%v: the target is dead or draining", a)
		}
		switch a.Kind {
		case lease.Assign:
			if alive(a.Range.Owner) {
				t.Fatalf("%v: its owner is alive", a)
			}
		case lease.Intend:
			intended++
			if !alive(a.Range.Owner) || a.Range.Move != nil || a.To == a.Range.Owner {
				t.Fatalf("%v: its owner %v has move %v", a, a.Range.Owner, a.Range.Move)
			}
		case lease.Force, lease.Cancel:
			if !alive(a.Range.Owner) || a.Range.Move == nil {
				t.Fatalf("%v: its owner %v has move %v", a, a.Range.Owner, a.Range.Move)
			}
		}
	}
	if intended > 0 && moves+intended > maxMoves {
		t.Fatalf("%d moves under way and %d more intended", moves, intended)
	}
	checkNothingForgotten(t, s, d, acted)
}

// checkNothingForgotten: every range runs, or is being given to somebody, or is counted; and what waits is waited for.
func checkNothingForgotten(t *rapid.T, s snapshot, d decision, acted map[lease.RangeID]bool) {
	orphans, fit := 0, 0
	for _, w := range s.workers {
		if !w.Draining {
			fit++
		}
	}
	for index := range s.plan.Ranges() {
		r := s.ranges[lease.RangeID{Generation: s.plan.Generation, Index: index}]
		owner, alive := s.workers[r.Owner.Worker]
		if (!alive || owner.Ref() != r.Owner) && !acted[lease.RangeID{Generation: s.plan.Generation, Index: index}] {
			orphans++
		}
		if alive && owner.Ref() == r.Owner && r.Move != nil && !acted[r.ID] && d.again.IsZero() {
			t.Fatalf("nothing waits for the end of the move of range %v", r.ID)
		}
	}
	if orphans != d.unassigned {
		t.Fatalf("%d ranges have nobody and no action, %d are counted", orphans, d.unassigned)
	}
	if orphans > 0 && fit > 0 && d.again.IsZero() {
		t.Fatalf("%d ranges are left without a worker though %d could have them, and nothing waits", orphans, fit)
	}
	if !d.again.IsZero() && !d.again.After(s.now) {
		t.Fatalf("again at %v is not after now, %v", d.again, s.now)
	}
}

// history is a model of the cluster: it applies decisions as etcd would, and lets workers live and die.
type history struct {
	s     snapshot
	names int
	clock int64 // revisions
}

func newHistory(shards, size int) *history {
	s := newScene(0).snapshot
	s.plan = lease.Plan{Generation: 1, Shards: shards, RangeSize: size}
	return &history{s: s}
}

func (h *history) revision() int64 { h.clock++; return h.clock }

func (h *history) join(id string, capacity int) {
	w := lease.Worker{ID: id, Incarnation: h.revision(), Capacity: capacity}
	h.s.workers[id] = w
	h.s.joined[w.Ref()] = h.s.now
}

func (h *history) drain(id string) {
	w := h.s.workers[id]
	w.Draining = true
	h.s.workers[id] = w
}

// decide applies one decision and returns it.
func (h *history) decide() decision {
	d := plan(h.s)
	for _, a := range d.actions {
		id := a.Range.ID
		r := h.s.ranges[id]
		r.ID = id
		switch a.Kind {
		case lease.Assign, lease.Force:
			r.Owner, r.Fence, r.Move = a.To, h.revision(), nil
		case lease.Intend:
			r.Move = &lease.Move{To: a.To, Revision: h.revision()}
			h.s.intended[r.Move.Revision] = h.s.now
		case lease.Cancel:
			r.Move = nil
		}
		h.s.ranges[id] = r
	}
	return d
}

// handOver is what the owner of a moving range does.
func (h *history) handOver(id lease.RangeID) {
	r := h.s.ranges[id]
	r.Owner, r.Fence, r.Move = r.Move.To, h.revision(), nil
	h.s.ranges[id] = r
}

// canHandOver reports whether a range moves, and its owner and the target, if there is one, live.
func (h *history) canHandOver(r lease.Range) bool {
	lives := func(w lease.Ref) bool { return h.s.workers[w.Worker].Ref() == w }
	return r.Move != nil && lives(r.Owner) && (r.Move.To.Worker == "" || lives(r.Move.To))
}

func (h *history) moving() (ids []lease.RangeID) {
	for id, r := range h.s.ranges {
		if h.canHandOver(r) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, lease.RangeID.Compare)
	return ids
}

// settle lets decisions, handovers and time go on until nothing is left to do, and returns all moves that were begun.
func (h *history) settle(t interface{ Fatalf(string, ...any) }) (moves []lease.Action) {
	for range 10_000 {
		d := h.decide()
		for _, a := range d.actions {
			if a.Kind == lease.Intend {
				moves = append(moves, a)
			}
		}
		progress := len(d.actions) > 0
		for _, id := range h.moving() {
			h.handOver(id)
			progress = true
		}
		if progress {
			continue
		}
		if d.again.IsZero() {
			return moves
		}
		h.s.now = d.again
	}
	t.Fatalf("the cluster does not come to rest")
	return nil
}

func (h *history) eligible() (ids []string) {
	for id, w := range h.s.workers {
		if !w.Draining {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// loads is how many shards each worker has, of those that may have some.
func (h *history) loads() map[string]int {
	loads := map[string]int{}
	for _, id := range h.eligible() {
		loads[id] = 0
	}
	for id, r := range h.s.ranges {
		if _, ok := loads[r.Owner.Worker]; ok && h.s.workers[r.Owner.Worker].Ref() == r.Owner {
			loads[r.Owner.Worker] += len(h.s.plan.ShardsOf(id))
		}
	}
	return loads
}

func TestPlanOverHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.IntRange(1, 60).Draw(t, "shards"), rapid.IntRange(1, 3).Draw(t, "size"))
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				h.names++
				h.join(fmt.Sprint("w", h.names), rapid.IntRange(1, 3).Draw(t, "capacity"))
			},
			"crash":   func(t *rapid.T) { delete(h.s.workers, h.someWorker(t)) },
			"restart": func(t *rapid.T) { h.join(h.someWorker(t), 1) },
			"drain":   func(t *rapid.T) { h.drain(h.someWorker(t)) },
			"hand over": func(t *rapid.T) {
				if moving := h.moving(); len(moving) > 0 {
					h.handOver(rapid.SampledFrom(moving).Draw(t, "range"))
				}
			},
			"time passes": func(t *rapid.T) {
				h.s.now = h.s.now.Add(time.Duration(rapid.IntRange(1, 12_000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) {
				before := reordered(h.s)
				checkDecision(t, before, h.decide())
			},
		})
		h.settle(t)
		h.checkAtRest(t)
		h.checkNoReturn(t)
	})
}

func (h *history) someWorker(t *rapid.T) string {
	ids := slices.Sorted(maps.Keys(h.s.workers))
	if len(ids) == 0 {
		t.Skip("no workers")
	}
	return rapid.SampledFrom(ids).Draw(t, "worker")
}

// checkAtRest: a settled cluster with anybody to run shards runs all of them, none on a draining worker, evenly.
func (h *history) checkAtRest(t *rapid.T) {
	if d := plan(h.s); len(d.actions) > 0 {
		t.Fatalf("a cluster at rest is acted on: %v", d.actions)
	}
	if len(h.eligible()) == 0 {
		return
	}
	for index := range h.s.plan.Ranges() {
		owner := h.s.ranges[lease.RangeID{Generation: 1, Index: index}].Owner
		if w, ok := h.s.workers[owner.Worker]; !ok || w.Ref() != owner || w.Draining {
			t.Fatalf("range %d is at %v", index, owner)
		}
	}
	loads := h.loads()
	for giver, have := range loads {
		for taker, other := range loads {
			gain := float64(other+h.s.plan.RangeSize) / float64(h.s.workers[taker].Capacity)
			if gain < float64(have)/float64(h.s.workers[giver].Capacity) && have >= h.s.plan.RangeSize && !h.hasShortRange(giver) {
				t.Fatalf("%s has %d shards and %s only %d", giver, have, taker, other)
			}
		}
	}
}

// hasShortRange reports whether a worker has the last range, which can be smaller than the others.
func (h *history) hasShortRange(worker string) bool {
	return h.s.ranges[lease.RangeID{Generation: 1, Index: h.s.plan.Ranges() - 1}].Owner.Worker == worker
}

// checkNoReturn: while a joining worker is filled, no range moves twice.
func (h *history) checkNoReturn(t *rapid.T) {
	h.names++
	h.join(fmt.Sprint("w", h.names), rapid.IntRange(1, 3).Draw(t, "capacity"))
	moved := map[lease.RangeID]bool{}
	for _, m := range h.settle(t) {
		if m.Range.Owner.Worker == "" {
			continue
		}
		if moved[m.Range.ID] {
			t.Fatalf("range %v moved twice", m.Range.ID)
		}
		moved[m.Range.ID] = true
	}
}

// A cold start needs no move after it, whatever the capacities.
func TestColdStartIsBalanced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.IntRange(1, 200).Draw(t, "shards"), rapid.IntRange(1, 5).Draw(t, "size"))
		for i := range rapid.IntRange(1, 8).Draw(t, "workers") {
			h.join(fmt.Sprint("w", i), rapid.IntRange(1, 10).Draw(t, "capacity"))
		}
		if moves := h.settle(t); len(moves) > 0 {
			t.Fatalf("%d moves after a cold start: %v", len(moves), moves)
		}
	})
}

// With equal capacities and ranges, as few ranges move as any plan must move: those above a worker's share, rounded up,
// or those missing to its share, rounded down, whichever are more.
func TestBalanceMovesAreMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := rapid.IntRange(1, 8).Draw(t, "workers")
		have := make([]int, workers)
		h := newHistory(0, 1)
		for w := range have {
			h.join(fmt.Sprint("w", w), 1)
			have[w] = rapid.IntRange(0, 30).Draw(t, "have")
			for range have[w] {
				id := lease.RangeID{Generation: 1, Index: h.s.plan.Shards}
				h.s.ranges[id] = lease.Range{ID: id, Owner: h.s.workers[fmt.Sprint("w", w)].Ref(), Fence: h.revision()}
				h.s.plan.Shards++
			}
		}
		over, under := 0, 0
		for _, n := range have {
			over += max(0, n-(h.s.plan.Shards+workers-1)/workers)
			under += max(0, h.s.plan.Shards/workers-n)
		}
		if moves := h.settle(t); len(moves) != max(over, under) {
			t.Fatalf("%d moves of %v, want %d", len(moves), have, max(over, under))
		}
	})
}

// The scale aimed at: what 300 deaths of 1,000 cost, and how long the fleet takes to take them back.
func TestPlanAtScale(t *testing.T) {
	h := newHistory(100_000, 16)
	for i := range 1000 {
		h.join(fmt.Sprintf("w%04d", i), 1)
	}
	if moves := h.settle(t); len(moves) > 0 {
		t.Fatalf("%d moves after a cold start", len(moves))
	}
	random := rand.New(rand.NewPCG(1, 2))
	dead := random.Perm(1000)[:300]
	for _, i := range dead {
		delete(h.s.workers, fmt.Sprintf("w%04d", i))
	}
	if d := h.decide(); d.unassigned != 0 {
		t.Fatalf("%d ranges unassigned after 300 of 1,000 workers died", d.unassigned)
	}
	if moves := h.settle(t); len(moves) > 0 {
		t.Fatalf("%d moves after the repair", len(moves))
	}
	for _, i := range dead {
		h.join(fmt.Sprintf("w%04d", i), 1)
	}
	moves := h.settle(t) // 6,250 ranges are 6.25 for each of 1,000: each of 300 needs at least 6
	if len(moves) != 300*6 {
		t.Fatalf("%d moves to fill 300 workers, want %d", len(moves), 300*6)
	}
}
