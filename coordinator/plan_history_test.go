package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/lease"
)

// failer is a test, of whatever kind.
type failer interface {
	Helper()
	Fatalf(string, ...any)
}

// history is a model of the cluster: it applies decisions as etcd would, lets workers live and die, and checks every decision.
type history struct {
	s        snapshot
	rates    map[lease.RangeID]float64 // what workers report
	names    int
	clock    int64 // revisions
	balanced map[lease.RangeID]time.Time
}

func newHistory(shards, size int) *history {
	s := newScene(0).snapshot
	s.plans = []lease.Plan{{Generation: 1, Shards: shards, RangeSize: size}}
	s.draining = map[lease.Ref]bool{}
	return &history{s: s, rates: map[lease.RangeID]float64{}, balanced: map[lease.RangeID]time.Time{}}
}

func (h *history) revision() int64 { h.clock++; return h.clock }

func (h *history) join(id string, capacity int, opts ...func(*lease.Worker)) {
	w := lease.Worker{ID: id, Incarnation: h.revision(), Capacity: capacity}
	for _, opt := range opts {
		opt(&w)
	}
	h.s.workers[id] = w
}

func inZone(zone string) func(*lease.Worker) { return func(w *lease.Worker) { w.Zone = zone } }

func atMost(shards int) func(*lease.Worker) { return func(w *lease.Worker) { w.MaxShards = shards } }

func (h *history) drain(id string) {
	w := h.s.workers[id]
	w.Draining = true
	h.s.workers[id] = w
}

// own gives a range to a worker, whatever the planner thinks of it.
func (h *history) own(index int, worker string) {
	id := lease.RangeID{Generation: 1, Index: index}
	h.s.ranges[id] = lease.Range{ID: id, Owner: h.s.workers[worker].Ref(), Fence: h.revision()}
}

// state is what etcd has. Owners report the rates of their ranges.
func (h *history) state() *lease.Cluster {
	state := &lease.Cluster{Workers: h.s.workers, Ranges: h.s.ranges, Status: map[string]lease.Status{}}
	for id := range h.s.workers {
		state.Status[id] = lease.Status{Loads: map[lease.RangeID]float64{}}
	}
	for id, r := range h.s.ranges {
		if rate, ok := h.rates[id]; ok && h.lives(r.Owner) {
			state.Status[r.Owner.Worker].Loads[id] = rate
		}
	}
	return state
}

// decide makes one decision, checks it, applies it and returns it.
func (h *history) decide(t failer) decision {
	t.Helper()
	h.s.observe(h.state(), h.s.now)
	d := plan(h.s)
	checkDecision(t, h.s, d)
	h.checkCooldown(t, d)
	h.s.note(d, h.s.now)
	for _, a := range d.actions {
		id := a.Range.ID
		r := h.s.ranges[id]
		r.ID = id
		switch a.Kind {
		case lease.Assign, lease.Force:
			r.Owner, r.Fence, r.Move = a.To, h.revision(), nil
		case lease.Intend:
			r.Move = &lease.Move{To: a.To, Revision: h.revision()}
		case lease.Cancel:
			r.Move = nil
		}
		h.s.ranges[id] = r
	}
	return d
}

// checkCooldown: balance moves no range that it moved a short time ago, but to a worker that joined since, unless it was ordered to.
func (h *history) checkCooldown(t failer, d decision) {
	t.Helper()
	for _, a := range d.actions {
		id := a.Range.ID
		if !slices.Contains(d.moved, id) {
			continue
		}
		at, ok := h.balanced[id]
		if ok && h.s.now.Before(at.Add(5*time.Minute)) && !h.s.rebalance && !h.s.joined[a.To].After(at) {
			t.Fatalf("range %v is moved for balance again after %v, to %v, which was there", id, h.s.now.Sub(at), a.To)
		}
		h.balanced[id] = h.s.now
	}
}

// handOver is what the owner of a moving range does.
func (h *history) handOver(id lease.RangeID) {
	r := h.s.ranges[id]
	r.Owner, r.Fence, r.Move = r.Move.To, h.revision(), nil
	h.s.ranges[id] = r
}

// canHandOver reports whether a range moves, and its owner and the target, if there is one, live.
func (h *history) canHandOver(r lease.Range) bool {
	return r.Move != nil && h.lives(r.Owner) && (r.Move.To.Worker == "" || h.lives(r.Move.To))
}

func (h *history) lives(r lease.Ref) bool { w, ok := h.s.workers[r.Worker]; return ok && w.Ref() == r }

func (h *history) moving() (ids []lease.RangeID) {
	for id, r := range h.s.ranges {
		if h.canHandOver(r) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, lease.RangeID.Compare)
	return ids
}

// step makes one decision, and ends all handovers under way. It returns the moves that were begun; progress reports whether anything was done.
func (h *history) step(t failer) (moves []lease.Action, progress bool, again time.Time) {
	t.Helper()
	d := h.decide(t)
	for _, a := range d.actions {
		if a.Kind == lease.Intend {
			moves = append(moves, a)
		}
	}
	moving := h.moving()
	for _, id := range moving {
		h.handOver(id)
	}
	return moves, len(d.actions)+len(moving) > 0, d.again
}

// settle lets decisions, handovers and time go on until nothing is left to do, and returns all moves that were begun.
func (h *history) settle(t failer) (moves []lease.Action) {
	t.Helper()
	for range 10_000 {
		begun, progress, again := h.step(t)
		moves = append(moves, begun...)
		if progress {
			continue
		}
		if again.IsZero() {
			return moves
		}
		h.s.now = again
	}
	t.Fatalf("the cluster does not come to rest")
	return nil
}

// pass lets time go on, ten seconds at a time, and returns all moves that were begun.
func (h *history) pass(t failer, d time.Duration) (moves int) {
	t.Helper()
	for end := h.s.now.Add(d); h.s.now.Before(end); h.s.now = h.s.now.Add(10 * time.Second) {
		moves += len(h.settleNow(t))
	}
	return moves
}

// settleNow is settle without time going on.
func (h *history) settleNow(t failer) (moves []lease.Action) {
	t.Helper()
	for range 10_000 {
		begun, progress, _ := h.step(t)
		moves = append(moves, begun...)
		if !progress {
			return moves
		}
	}
	t.Fatalf("decisions do not come to an end")
	return nil
}

// owned counts the ranges of the plan in force that each worker has.
func (h *history) owned() map[string]int {
	n := map[string]int{}
	for id, r := range h.s.ranges {
		if id.Generation == 1 && h.lives(r.Owner) {
			n[r.Owner.Worker]++
		}
	}
	return n
}

func (h *history) someWorker(t *rapid.T) string {
	ids := slices.Sorted(maps.Keys(h.s.workers))
	if len(ids) == 0 {
		t.Skip("no workers")
	}
	return rapid.SampledFrom(ids).Draw(t, "worker")
}

func (h *history) joinAny(t *rapid.T) {
	h.names++
	opts := []func(*lease.Worker){inZone(rapid.SampledFrom([]string{"x", "x", "y"}).Draw(t, "zone"))}
	if rapid.IntRange(0, 3).Draw(t, "limited") == 0 {
		opts = append(opts, atMost(rapid.IntRange(1, 40).Draw(t, "limit")))
	}
	h.join(fmt.Sprint("w", h.names), rapid.IntRange(1, 3).Draw(t, "capacity"), opts...)
}

func TestPlanOverHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.IntRange(1, 60).Draw(t, "shards"), rapid.IntRange(1, 3).Draw(t, "size"))
		t.Repeat(map[string]func(*rapid.T){
			"join":    h.joinAny,
			"crash":   func(t *rapid.T) { delete(h.s.workers, h.someWorker(t)) },
			"restart": func(t *rapid.T) { h.join(h.someWorker(t), 1) },
			"drain":   func(t *rapid.T) { h.drain(h.someWorker(t)) },
			"order a drain": func(t *rapid.T) {
				w := h.s.workers[h.someWorker(t)].Ref()
				h.s.draining[w] = !h.s.draining[w]
			},
			"order to rebalance": func(*rapid.T) { h.s.rebalance = !h.s.rebalance },
			"prepare another generation": func(t *rapid.T) {
				if h.s.plans = h.s.plans[:1]; rapid.Bool().Draw(t, "prepare") {
					h.s.plans = append(h.s.plans, lease.Plan{Generation: 2, Shards: rapid.IntRange(1, 60).Draw(t, "shards"), RangeSize: 2})
				}
			},
			"load": func(t *rapid.T) {
				index := rapid.IntRange(0, h.s.plans[0].Ranges()-1).Draw(t, "range")
				h.rates[lease.RangeID{Generation: 1, Index: index}] = float64(rapid.IntRange(0, 300).Draw(t, "rate"))
			},
			"hand over": func(t *rapid.T) {
				if moving := h.moving(); len(moving) > 0 {
					h.handOver(rapid.SampledFrom(moving).Draw(t, "range"))
				}
			},
			"time passes": func(t *rapid.T) {
				h.s.now = h.s.now.Add(time.Duration(rapid.IntRange(1, 12_000).Draw(t, "ms")) * time.Millisecond)
			},
			"": func(t *rapid.T) { h.decide(t) },
		})
		h.settle(t)
		h.pass(t, 20*time.Minute) // until the rates are known exactly, and nothing rests
		h.checkAtRest(t)
		if moves := h.pass(t, 20*time.Minute); moves > 0 {
			t.Fatalf("%d moves of a cluster that nothing happened to", moves)
		}
	})
}

// checkAtRest: a settled cluster runs every range that it has a worker with room for, none on a draining worker that could give it away, and is
// even, or no move makes it so.
func (h *history) checkAtRest(t failer) {
	t.Helper()
	d := h.decide(t)
	if len(d.actions) > 0 {
		t.Fatalf("a cluster at rest is acted on: %v", d.actions)
	}
	m := newMirror(h.s)
	if len(m.fit) == 0 {
		return
	}
	kept := 0
	for _, p := range h.s.plans {
		for index := range p.Ranges() {
			owner := h.s.ranges[lease.RangeID{Generation: p.Generation, Index: index}].Owner
			if w, ok := h.s.workers[owner.Worker]; !ok || w.Ref() != owner || m.leaving(w) {
				kept++
			}
		}
	}
	if kept != d.full {
		t.Fatalf("%d ranges run nowhere, or at a worker that drains; %d are said to find no room", kept, d.full)
	}
	if h.s.rebalance && kept == 0 && !d.rebalanced {
		t.Fatalf("an order to rebalance does not come to an end")
	}
	if text := m.couldMove(); text != "" {
		t.Fatalf("at rest, but %s; load is %v", text, m.weight)
	}
}

// A cold start of equal workers needs no move after it; of unequal ones hardly any, since a small worker cannot have a part of a range.
func TestColdStartIsBalanced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size, most := rapid.IntRange(1, 5).Draw(t, "size"), rapid.SampledFrom([]int{1, 10}).Draw(t, "largest")
		h := newHistory(size*rapid.IntRange(1, 200).Draw(t, "ranges"), size)
		for i := range rapid.IntRange(1, 8).Draw(t, "workers") {
			h.join(fmt.Sprint("w", i), rapid.IntRange(1, most).Draw(t, "capacity"))
		}
		if moves := h.settle(t); len(moves) > 0 && (most == 1 || len(moves) > len(h.s.workers)) {
			t.Fatalf("%d moves after a cold start: %v", len(moves), moves)
		}
	})
}

// Without rates, and with equal capacities and ranges, hardly more ranges move than any plan must move to bring everybody into the band: those
// above it, or those missing below it, whichever are more, and at most one for each worker beside; and none if nobody was far outside.
func TestBalanceMovesAreMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := rapid.IntRange(1, 8).Draw(t, "workers")
		have := make([]int, workers)
		h := newHistory(0, 1)
		for w := range have {
			h.join(fmt.Sprint("w", w), 1)
			have[w] = rapid.IntRange(0, 30).Draw(t, "have")
			for range have[w] {
				h.own(h.s.plans[0].Shards, fmt.Sprint("w", w))
				h.s.plans[0].Shards++
			}
		}
		all := h.s.plans[0].Shards
		mean := baseWeight * float64(all) / float64(workers)
		above := func(n int, band float64) bool { return baseWeight*float64(n) > (1+band)*mean }
		below := func(n int, band float64) bool { return baseWeight*float64(n) < (1-band)*mean }
		// A worker cannot have a part of a range, so the band reaches at least to the next whole numbers.
		most, least := (all+workers-1)/workers, all/workers
		for !above(most+1, stopBand) && most < all {
			most++
		}
		for !below(least-1, stopBand) && least > 0 {
			least--
		}
		over, under, far := 0, 0, false
		for _, n := range have {
			over += max(0, n-most)
			under += max(0, least-n)
			far = far || above(n, startBand) || below(n, startBand)
		}
		fewest, most := max(over, under), max(over, under)+workers
		if !far {
			fewest, most = 0, 0
		}
		if moves := h.settle(t); len(moves) < fewest || len(moves) > most {
			t.Fatalf("%d moves of %v, want %d to %d", len(moves), have, fewest, most)
		}
	})
}

// What has to move when workers join or leave moves, and nothing else.
func TestJoinAndLeaveMoveOnlyWhatTheyMust(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(rapid.IntRange(20, 300).Draw(t, "shards"), 1)
		for i := range rapid.IntRange(2, 9).Draw(t, "workers") {
			h.join(fmt.Sprint("w", i), 1)
		}
		h.settle(t)
		before := h.owned()
		h.drain("w0")
		if moves := h.settle(t); len(moves) != before["w0"] {
			t.Fatalf("%d moves to drain a worker of %d ranges", len(moves), before["w0"])
		}
		delete(h.s.workers, "w0")
		h.join("new", 1)
		moves := h.settle(t)
		for _, m := range moves {
			if m.To.Worker != "new" {
				t.Fatalf("%v: only the worker that joins should be given any", m)
			}
		}
		if mean := h.s.plans[0].Shards / len(h.s.workers); len(moves) > mean+1 {
			t.Fatalf("%d moves to fill a worker whose share is %d", len(moves), mean)
		}
	})
}

// The scale aimed at: what 300 deaths of 1,000 cost, and what it takes to give them work again.
func TestPlanAtScale(t *testing.T) {
	h := largeHistory(t)
	for i := range 300 {
		delete(h.s.workers, fmt.Sprintf("w%04d", i))
	}
	if d := h.decide(t); d.unassigned != 0 {
		t.Fatalf("%d ranges unassigned after 300 of 1,000 workers died", d.unassigned)
	}
	if moves := h.settle(t); len(moves) > 0 {
		t.Fatalf("%d moves after the repair", len(moves))
	}
	for i := range 300 {
		h.join(fmt.Sprintf("w%04d", i), 1)
	}
	moves := h.settle(t) // 6,250 ranges are 6.25 for each of 1,000: each of 300 needs at least 6
	if len(moves) != 300*6 {
		t.Fatalf("%d moves to fill 300 workers, want %d", len(moves), 300*6)
	}
}

// largeHistory is a cluster of 100,000 shards on 1,000 workers that has come up a while ago.
func largeHistory(t failer) *history {
	h := newHistory(100_000, 16)
	for i := range 1000 {
		h.join(fmt.Sprintf("w%04d", i), 1)
	}
	if moves := h.settle(t); len(moves) > 0 {
		t.Fatalf("%d moves after a cold start", len(moves))
	}
	h.s.now = h.s.now.Add(time.Hour)
	h.decide(t)
	return h
}
