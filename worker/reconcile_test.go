package worker

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/lease"
)

var (
	one   = lease.RangeID{Generation: 1, Index: 1}
	other = lease.Ref{Worker: "b", Incarnation: 7}
)

// TestReconcile has every combination of how far a range is, what is ordered about it, and the worker's posture. The
// ownership has fence 10 and the move revision 20.
func TestReconcile(t *testing.T) {
	none := stepKind(0)
	helds := map[string]held{
		"running":  {fence: 10, stage: running},
		"stopping": {fence: 10, stage: stopping},
		"released": {fence: 10, stage: spent},
		"moved":    {fence: 10, stage: spent, move: 20},
		"awaiting": {fence: 10, stage: running, awaited: 20},
		"awaited":  {fence: 10, stage: running, awaited: 20, late: true},
		"ended":    {fence: 10, stage: ended},
	}
	orders := map[string]lease.Assignment{
		"run":       {Range: one, Fence: 10},
		"hand over": {Range: one, Fence: 10, HandOver: true, To: other, Move: 20},
		"give up":   {Range: one, Fence: 10, HandOver: true, Move: 20},
		"again":     {Range: one, Fence: 10, HandOver: true, To: other, Move: 21},
		"ready":     {Range: one, Fence: 10, HandOver: true, To: other, Ready: true, Move: 22},
		"new fence": {Range: one, Fence: 11},
	}
	type row struct {
		held, order                       string
		serving, halting, ending, leaving stepKind
	}
	for _, r := range []row{
		{"", "", none, none, none, none},
		{"", "run", start, none, endSessions, release},
		{"", "hand over", handOver, handOver, handOver, release},
		{"", "give up", release, release, release, release},
		{"", "again", handOver, handOver, handOver, release},
		{"", "ready", handOver, handOver, handOver, release},
		{"", "new fence", start, none, endSessions, release},

		{"running", "", stop, stop, stop, stop},
		{"running", "run", none, stop, endSessions, release},
		{"running", "hand over", await, handOver, handOver, release},
		{"running", "give up", release, release, release, release},
		{"running", "again", await, handOver, handOver, release},
		{"running", "ready", handOver, handOver, handOver, release},
		{"running", "new fence", stop, stop, stop, stop},

		{"awaiting", "", stop, stop, stop, stop},
		{"awaiting", "run", none, stop, endSessions, release},
		{"awaiting", "hand over", none, handOver, handOver, release},
		{"awaiting", "give up", release, release, release, release},
		{"awaiting", "again", await, handOver, handOver, release},
		{"awaiting", "ready", handOver, handOver, handOver, release},
		{"awaiting", "new fence", stop, stop, stop, stop},

		{"awaited", "run", none, stop, endSessions, release},
		{"awaited", "hand over", handOver, handOver, handOver, release},
		{"awaited", "again", await, handOver, handOver, release},
		{"awaited", "ready", handOver, handOver, handOver, release},

		{"stopping", "", none, none, none, none},
		{"stopping", "run", none, none, none, none},
		{"stopping", "hand over", none, none, none, none},
		{"stopping", "give up", none, none, none, none},
		{"stopping", "again", none, none, none, none},
		{"stopping", "new fence", none, none, none, none},

		{"released", "", forget, forget, forget, forget},
		{"released", "run", start, none, endSessions, none},
		{"released", "hand over", handOver, handOver, handOver, release},
		{"released", "give up", release, release, release, release},
		{"released", "again", handOver, handOver, handOver, release},
		{"released", "ready", handOver, handOver, handOver, release},
		{"released", "new fence", forget, forget, forget, forget},

		{"moved", "", forget, forget, forget, forget},
		{"moved", "run", start, none, endSessions, release},
		{"moved", "hand over", none, none, none, none},
		{"moved", "give up", none, none, none, none},
		{"moved", "again", handOver, handOver, handOver, release},
		{"moved", "new fence", forget, forget, forget, forget},

		{"ended", "", forget, forget, forget, forget},
		{"ended", "run", start, none, none, release},
		{"ended", "hand over", handOver, handOver, handOver, release},
		{"ended", "give up", release, release, release, release},
		{"ended", "again", handOver, handOver, handOver, release},
		{"ended", "new fence", forget, forget, forget, forget},
	} {
		for p, want := range map[posture]stepKind{serving: r.serving, halted: r.halting, ending: r.ending, leaving: r.leaving} {
			have, ordered := map[lease.RangeID]held{}, map[lease.RangeID]lease.Assignment{}
			if r.held != "" {
				have[one] = helds[r.held]
			}
			if r.order != "" {
				ordered[one] = orders[r.order]
			}
			// A range of an earlier generation is released, whatever the posture.
			for generation, want := range map[int]stepKind{one.Generation: want, one.Generation + 1: r.leaving} {
				got := none
				if steps := reconcile(have, ordered, lease.Plan{Generation: generation}, p); len(steps) > 0 {
					got = steps[0].kind
				}
				if got != want {
					t.Errorf("held %q, ordered %q, posture %d, generation %d: %v, want %v", r.held, r.order, p, generation, got, want)
				}
			}
		}
	}
}

// A range of the generation that was in force before a prepared one is run to its end, by whoever has it, and not begun again after that.
func TestReconcileFinishes(t *testing.T) {
	plan := lease.Plan{Generation: 2, Former: lease.Cut{Generation: 1}, Last: 2}
	ordered := lease.Assignment{Range: one, Fence: 10}
	moving := lease.Assignment{Range: one, Fence: 10, HandOver: true, To: other, Move: 20}
	for _, test := range []struct {
		name    string
		held    held
		order   lease.Assignment
		posture posture
		want    stepKind
	}{
		{"not held", held{}, ordered, serving, start},
		{"running", held{fence: 10, stage: running}, ordered, serving, finish},
		{"finishing", held{fence: 10, stage: finishing}, ordered, serving, 0},
		{"finished", held{fence: 10, stage: spent}, ordered, serving, 0},
		{"a handover that failed", held{fence: 10, stage: spent, move: 20}, ordered, serving, start},
		{"to be handed over", held{fence: 10, stage: finishing}, moving, serving, handOver},
		{"halted", held{fence: 10, stage: finishing}, ordered, halted, stop},
		{"leaving", held{fence: 10, stage: finishing}, ordered, leaving, release},
		{"lost", held{fence: 9, stage: finishing}, ordered, serving, stop},
		{"finished, and lost", held{fence: 9, stage: spent}, ordered, serving, forget},
	} {
		have := map[lease.RangeID]held{}
		if test.held.stage != 0 {
			have[one] = test.held
		}
		var got stepKind
		if steps := reconcile(have, map[lease.RangeID]lease.Assignment{one: test.order}, plan, test.posture); len(steps) > 0 {
			got = steps[0].kind
		}
		if got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// model is what an incarnation does with the steps, without what is slow about it.
type model struct {
	have    map[lease.RangeID]held
	kind    map[lease.RangeID]stepKind // what a stopping range is to do at its end
	move    map[lease.RangeID]int64    // and for which move
	orders  map[lease.RangeID]lease.Assignment
	plan    lease.Plan
	posture posture
	passed  map[string]bool // what was passed on, by fence and move
	next    int64           // revision
}

// of is the posture towards a range.
func (m *model) of(id lease.RangeID) posture {
	if m.plan.Standing(id.Generation) == lease.Over {
		return leaving
	}
	return m.posture
}

// former reports whether a range is to be finished.
func (m *model) former(id lease.RangeID) bool {
	return m.plan.Standing(id.Generation) == lease.Finishing
}

// do takes one step, and fails if it is one that must not be.
func (m *model) do(t *rapid.T, s step) {
	h, isHeld := m.have[s.rng]
	order, isOrdered := m.orders[s.rng]
	switch s.kind {
	case start:
		if !isOrdered || s.assignment != order || order.HandOver || m.of(s.rng) != serving {
			t.Fatalf("%v is started, ordered: %+v, posture %d", s.rng, order, m.posture)
		}
		if isHeld && h.stage.active() {
			t.Fatalf("%v is started while it is held: %+v", s.rng, h)
		}
		if m.former(s.rng) && h.stage == spent && h.fence == order.Fence && h.move == order.Move {
			t.Fatalf("%v is started when it is finished: %+v", s.rng, h)
		}
		m.have[s.rng] = held{fence: order.Fence, stage: running}
	case await:
		if h.stage != running || !order.HandOver || order.Ready || h.awaited == order.Move || m.of(s.rng) != serving {
			t.Fatalf("%v waits for a target: %+v, ordered %+v", s.rng, h, order)
		}
		h.awaited, h.late = order.Move, false
		m.have[s.rng] = h
	case finish:
		if h.stage != running || !m.former(s.rng) || !isOrdered || s.assignment != order {
			t.Fatalf("%v is finished while it is held: %+v, ordered %+v, plan %+v", s.rng, h, order, m.plan)
		}
		m.have[s.rng] = held{fence: h.fence, stage: finishing}
	case stop:
		if h.stage != running && h.stage != finishing {
			t.Fatalf("%v is stopped while it is held: %+v", s.rng, h)
		}
		m.stopping(s, h.fence)
	case handOver, release:
		if !isOrdered || s.assignment != order || isHeld && h.fence != order.Fence {
			t.Fatalf("%v is passed on, which is not ours: %+v, ordered %+v", s.rng, h, order)
		}
		once := fmt.Sprint(s.rng, order.Fence, order.Move, m.next)
		if order.HandOver {
			once = fmt.Sprint(s.rng, order.Fence, order.Move)
		}
		if m.passed[once] {
			t.Fatalf("%v is passed on twice: %s", s.rng, once)
		}
		m.passed[once] = true
		m.stopping(s, order.Fence)
	case endSessions:
		if !isOrdered || s.assignment != order || order.HandOver || m.of(s.rng) != ending || h.stage == ended || h.stage == stopping {
			t.Fatalf("%v's sessions are ended: %+v, ordered %+v, posture %d", s.rng, h, order, m.posture)
		}
		m.stopping(s, order.Fence)
	case forget:
		if h.stage != spent && h.stage != ended || isOrdered && order.Fence == h.fence {
			t.Fatalf("%v is forgotten: %+v", s.rng, h)
		}
		delete(m.have, s.rng)
	}
}

func (m *model) stopping(s step, fence int64) {
	m.have[s.rng] = held{fence: fence, stage: stopping}
	m.kind[s.rng], m.move[s.rng] = s.kind, s.assignment.Move
}

// act is incarnation.act.
func (m *model) act(t *rapid.T) {
	for round := 0; ; round++ {
		steps := reconcile(m.have, m.orders, m.plan, m.posture)
		if len(steps) == 0 {
			return
		}
		if round > 3 {
			t.Fatalf("steps without end: %+v", steps)
		}
		seen := map[lease.RangeID]bool{}
		for _, s := range steps {
			if seen[s.rng] {
				t.Fatalf("two steps for %v: %+v", s.rng, steps)
			}
			seen[s.rng] = true
			m.do(t, s)
		}
	}
}

// end is the end of a stopping or finishing range's run, as incarnation.settle takes it in.
func (m *model) end(id lease.RangeID) {
	h := m.have[id]
	if h.stage == finishing {
		m.have[id] = held{fence: h.fence, stage: spent}
		return
	}
	if h.stage != stopping {
		return
	}
	if m.kind[id] == stop {
		delete(m.have, id)
		return
	}
	m.have[id] = held{fence: h.fence, stage: spent, move: m.move[id]}
	if m.kind[id] == endSessions {
		m.have[id] = held{fence: h.fence, stage: ended}
	}
}

// wait is the end of a wait for a move's target.
func (m *model) wait(id lease.RangeID) {
	if h, isHeld := m.have[id]; isHeld && h.awaited != 0 {
		h.late = true
		m.have[id] = h
	}
}

func (m *model) order(t *rapid.T, id lease.RangeID) {
	m.next++
	current, owned := m.orders[id]
	switch rapid.SampledFrom([]string{"assign", "intend", "ready", "give up", "cancel", "lose"}).Draw(t, "order") {
	case "assign":
		m.orders[id] = lease.Assignment{Range: id, Fence: m.next}
	case "lose":
		delete(m.orders, id)
	case "intend":
		if owned {
			m.orders[id] = lease.Assignment{Range: id, Fence: current.Fence, HandOver: true, To: other, Move: m.next}
		}
	case "ready":
		if owned && current.HandOver {
			current.Ready, current.Move = true, m.next
			m.orders[id] = current
		}
	case "give up":
		if owned {
			m.orders[id] = lease.Assignment{Range: id, Fence: current.Fence, HandOver: true, Move: m.next}
		}
	case "cancel":
		if owned {
			m.orders[id] = lease.Assignment{Range: id, Fence: current.Fence}
		}
	}
}

func TestReconcileConverges(t *testing.T) {
	ids := []lease.RangeID{{Generation: 1}, one, {Generation: 2, Index: 1}}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			have: map[lease.RangeID]held{}, kind: map[lease.RangeID]stepKind{}, move: map[lease.RangeID]int64{},
			orders: map[lease.RangeID]lease.Assignment{}, passed: map[string]bool{}, plan: lease.Plan{Generation: 1},
		}
		t.Repeat(map[string]func(*rapid.T){
			"order": func(t *rapid.T) { m.order(t, rapid.SampledFrom(ids).Draw(t, "range")); m.act(t) },
			"end":   func(t *rapid.T) { m.end(rapid.SampledFrom(ids).Draw(t, "range")); m.act(t) },
			"wait":  func(t *rapid.T) { m.wait(rapid.SampledFrom(ids).Draw(t, "range")); m.act(t) },
			"halt": func(t *rapid.T) {
				if m.posture != leaving {
					m.posture = rapid.SampledFrom([]posture{serving, halted, ending}).Draw(t, "posture")
				}
				m.act(t)
			},
			"leave": func(t *rapid.T) { m.posture = leaving; m.act(t) },
			"prepare": func(t *rapid.T) {
				m.replan(lease.Plan{Generation: 1, Next: lease.Cut{Generation: 2}, Last: 2})
				m.act(t)
			},
			"give up": func(t *rapid.T) { m.replan(lease.Plan{Generation: 1, Last: 2}); m.act(t) },
			"replan":  func(t *rapid.T) { m.replan(lease.Plan{Generation: 2, Last: 2}); m.act(t) },
			"flip": func(t *rapid.T) {
				m.replan(lease.Plan{Generation: 2, Former: lease.Cut{Generation: 1}, Last: 2})
				m.act(t)
			},
		})
		// Left alone, it comes to rest with exactly what is ordered.
		for range 4 {
			for _, id := range ids {
				m.end(id)
				m.wait(id)
			}
			m.act(t)
		}
		for _, id := range ids {
			m.rest(t, id)
		}
	})
}

// replan has another plan in force, from which there is no way back.
func (m *model) replan(to lease.Plan) {
	givenUp := m.plan.Last == 2 && m.plan.Next.Generation == 0 // no number is used twice
	if m.plan.Generation == 1 && !givenUp {
		m.plan = to
	}
}

// rest fails if a range is not as it must be when nothing is under way.
func (m *model) rest(t *rapid.T, id lease.RangeID) {
	h := m.have[id]
	order, ordered := m.orders[id]
	runs := ordered && !order.HandOver && m.of(id) == serving
	switch {
	case h.stage == stopping, !ordered && h.stage != 0, ordered && h.stage != 0 && h.fence != order.Fence:
		t.Fatalf("%v rests as %+v, ordered %+v", id, h, order)
	case runs && m.former(id):
		if h.stage != spent { // end brought a finishing one there
			t.Fatalf("%v is not finished: %+v, ordered %+v", id, h, order)
		}
	case runs != (h.stage == running):
		t.Fatalf("%v rests as %+v, ordered %+v, posture %d", id, h, order, m.posture)
	case ordered && !order.HandOver && m.of(id) == ending && h.stage != ended:
		t.Fatalf("%v's sessions were not ended: %+v", id, h)
	case ordered && (order.HandOver || m.of(id) == leaving) && h.stage != spent:
		t.Fatalf("%v was not passed on: %+v, ordered %+v", id, h, order)
	}
}
