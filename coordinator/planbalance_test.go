package coordinator

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// loaded says how many events a second the ranges have, from the first on.
func (s *scene) loaded(rates ...float64) *scene {
	s.rates = map[lease.RangeID]float64{}
	for i, rate := range rates {
		if rate < 0 {
			continue // was not measured
		}
		s.rates[lease.RangeID{Generation: 1, Index: i}] = rate
	}
	return s
}

func (s *scene) with(change func(*snapshot)) *scene {
	change(&s.snapshot)
	return s
}

func ordered(s *snapshot) { s.rebalance = true }

func begun(s *snapshot) { s.balancing = true }

func endedAgo(d time.Duration) func(*snapshot) {
	return func(s *snapshot) { s.balanceEnded = s.now.Add(-d) }
}

// rested says that balance moved ranges so long ago.
func rested(ago time.Duration, ranges ...int) func(*snapshot) {
	return func(s *snapshot) {
		if s.balanced == nil {
			s.balanced = map[lease.RangeID]time.Time{}
		}
		for _, i := range ranges {
			s.balanced[lease.RangeID{Generation: 1, Index: i}] = s.now.Add(-ago)
		}
	}
}

// named are n names of one worker.
func named(name string, n int) []string { return slices.Repeat([]string{name}, n) }

// lopsided is a cluster of two that have so many ranges.
func lopsided(a, b int) *scene {
	return newScene(a+b).worker("a", long).worker("b", long).owned(0, append(named("a", a), named("b", b)...)...)
}

func TestBalance(t *testing.T) {
	for _, test := range []struct {
		name  string
		scene *scene
		want  string
		again time.Duration
		on    bool // balance goes on
		done  bool // nothing is left to do for an order to rebalance
	}{
		{name: "12 against 8 is no reason to begin", scene: lopsided(12, 8)},
		{name: "13 against 7 is", scene: lopsided(13, 7), want: "intend 0 b, intend 1 b"},
		{name: "12 against 8 is reason to go on", scene: lopsided(12, 8).with(begun), want: "intend 0 b"},
		{name: "11 against 9 is none", scene: lopsided(11, 9).with(begun)},
		{name: "repair comes before it, and does not end it", want: "assign 20 b", on: true,
			scene: newScene(21).worker("a", long).worker("b", long).owned(0, append(named("a", 12), named("b", 8)...)...).with(begun)},
		{name: "too little is as bad as too much", scene: newScene(39).worker("a", long).worker("b", long).worker("c", long).worker("d", long).
			owned(0, slices.Concat(named("a", 11), named("b", 11), named("c", 11), named("d", 6))...), want: "intend 0 d, intend 11 d", on: true},
		{name: "it rests after it has ended", scene: lopsided(13, 7).with(endedAgo(20 * time.Second)), again: 10 * time.Second},
		{name: "and begins again then", scene: lopsided(13, 7).with(endedAgo(balancePause)), want: "intend 0 b, intend 1 b"},
		{name: "but a worker that joined since and has nothing does not wait", want: "intend 0 b, intend 1 b", on: true,
			scene: newScene(9).worker("a", long).worker("b", 3*time.Second).owned(0, named("a", 9)...).with(endedAgo(time.Second))},
		{name: "one that was there does", again: balancePause - time.Second,
			scene: newScene(9).worker("a", long).worker("b", 30*time.Second).owned(0, named("a", 9)...).with(endedAgo(time.Second))},
		{name: "what was just moved is left where it is", scene: lopsided(13, 7).with(rested(time.Minute, 0, 2)), want: "intend 1 b, intend 3 b"},
		{name: "even if there is nothing else", scene: lopsided(2, 0).with(rested(time.Minute, 0, 1)), again: 4 * time.Minute},
		{name: "for five minutes", scene: lopsided(2, 0).with(rested(balanceCooldown, 0, 1)), want: "intend 0 b"},
		{name: "but to a worker that joined since", want: "intend 2 c, intend 3 c", on: true,
			scene: newScene(12).worker("a", long).worker("b", long).worker("c", 4*time.Second).owned(0, append(named("a", 6), named("b", 6)...)...).
				with(rested(time.Minute, 2, 3, 4, 5)).with(rested(time.Second, 0, 1, 6, 7, 8, 9, 10, 11))},
		{name: "who has nothing waits for one that joins a little later", again: 2 * time.Second,
			scene: newScene(12).worker("a", long).worker("b", 4*time.Second).worker("c", time.Second).owned(0, named("a", 12)...)},
		{name: "not for ever", want: "intend 0 b, intend 1 b", on: true, again: 2 * time.Second,
			scene: newScene(12).worker("a", long).worker("b", balancePatience).worker("c", time.Second).owned(0, named("a", 12)...)},
		{name: "the weight counts, not the number", want: "intend 0 b, intend 2 a",
			scene: lopsided(2, 3).loaded(90, 90, 10, 10, 10)}, // 200 against 60 becomes 100 against 160, and then 120 against 140
		{name: "of several the one that makes it most even", want: "intend 1 b, intend 2 b",
			scene: lopsided(4, 1).loaded(110, 65, 5, 0, 20)}, // 220 against 30 becomes 145 against 105, and then 130 against 120
		{name: "what was not measured counts as the mean of the others", scene: lopsided(4, 4).loaded(90, -1, -1, -1, 90, 90, 90, 90)},
		{name: "where no move helps two are exchanged", want: "intend 0 b, intend 2 a",
			scene: lopsided(2, 2).loaded(55, 55, 30, 20)}, // 130 against 70: a range of 65 is too much, but for one of 40
		{name: "not for so light a one that the target would have nearly as much", scene: lopsided(2, 7).loaded(55, 55, 0, 0, 0, 0, 0, 0, 0)},
		{name: "not for one that makes it no more even", scene: lopsided(1, 2).loaded(120, 0, 0)},
		{name: "nor where the target would have more than the mean, and hardly less than its source had", again: 4 * time.Minute,
			scene: lopsided(2, 1).loaded(90, 90, 80).with(rested(time.Minute, 2))}, // 200 against 90 would be 100 against 190
		{name: "but as much as its source has left it may have", want: "intend 0 b",
			scene: newScene(57).worker("a", long).worker("b", long).worker("c", long).worker("d", long).worker("e", long).worker("f", long).
				owned(0, slices.Concat(named("a", 11), named("b", 9), named("c", 9), named("d", 9), named("e", 9), named("f", 10))...).with(begun)},
		{name: "a small worker is not relieved of its only range by a large one that is strained more by it",
			scene: newScene(6).worker("a", long).worker("b", long, capacity(10)).owned(0, append(named("a", 1), named("b", 5)...)...)},
		{name: "who is above the mean takes from who is further above, if nobody below has room", want: "intend 0 b, intend 1 b",
			scene: newScene(26).worker("a", long).worker("b", long).worker("c", long, atMost(1)).
				owned(0, slices.Concat(named("a", 15), named("b", 10), named("c", 1))...)},
		{name: "who is below the mean gives none", again: 4 * time.Minute,
			scene: newScene(30).worker("a", long).worker("b", long).worker("c", long).
				owned(0, slices.Concat(named("a", 14), named("b", 9), named("c", 7))...).with(rested(time.Minute, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13))},
		{name: "a zone is not filled beyond its limit", again: 4 * time.Minute, // of 40, y may have 24, and b can give none
			scene: newScene(40).worker("a", long, inZone("x")).worker("e", long, inZone("x"), atMost(1)).worker("b", long, inZone("y")).worker("c", long, inZone("y")).
				owned(0, slices.Concat(named("a", 15), named("e", 1), named("b", 23), named("c", 1))...).
				with(rested(time.Minute, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38))},
		{name: "a range that is all of the load stays", scene: newScene(2).worker("a", long).worker("b", long).owned(0, "a", "b").loaded(500, 10)},
		{name: "a worker at its limit is given none", scene: newScene(4).worker("a", long).worker("b", long, atMost(1)).owned(0, "a", "a", "a", "b")},
		{name: "nor in exchange", scene: newScene(4).worker("a", long).worker("b", long, atMost(2)).owned(0, "a", "a", "b", "b").loaded(55, 55, 30, 20)},
		{name: "nor gives any in exchange for one that it has no room for", scene: newScene(4).worker("a", long, atMost(2)).worker("b", long).
			owned(0, "a", "a", "b", "b").loaded(55, 55, 30, 20)},
		{name: "a mass loss freezes it", again: time.Minute,
			scene: lopsided(13, 7).with(func(s *snapshot) { s.massLoss = s.now.Add(-time.Minute) })},
		{name: "for two minutes", want: "intend 0 b, intend 1 b",
			scene: lopsided(13, 7).with(func(s *snapshot) { s.massLoss = s.now.Add(-massLossFreeze) })},
		{name: "what is prepared beside the plan in force is load, but stays", want: "intend 0 b", scene: lopsided(2, 1).prepared("a", "a")},
		{name: "an order to rebalance does not ask whether it is worth it", scene: lopsided(12, 8).with(ordered), want: "intend 0 b"},
		{name: "nor whether it rests", scene: lopsided(12, 8).with(ordered).with(endedAgo(time.Second)).with(rested(time.Second, 0)), want: "intend 0 b"},
		{name: "nor for a mass loss", scene: lopsided(12, 8).with(ordered).with(func(s *snapshot) { s.massLoss = s.now }), want: "intend 0 b"},
		{name: "it is carried out when the load is even", scene: lopsided(11, 9).with(ordered), done: true},
		{name: "or cannot be made so", scene: newScene(2).worker("a", long).worker("b", long).owned(0, "a", "b").loaded(500, 10).with(ordered), done: true},
		{name: "not while a move is under way", scene: lopsided(11, 9).moving(0, "b", 0).with(ordered), again: forceAfter},
		{name: "nor before a worker that joined could take part", again: time.Second,
			scene: newScene(4).worker("a", long).worker("b", 2*time.Second).owned(0, named("a", 4)...).with(ordered)},
		{name: "what leaves a draining worker comes before it", again: forceAfter,
			scene: newScene(14).worker("a", long).worker("b", long).worker("d", long, draining).
				owned(0, append(named("a", 13), "d")...).moving(13, "b", 0)},
		{name: "one that gives two already gives no third, though others could take it", again: forceAfter,
			scene: newScene(200).worker("a", long).worker("b", long).worker("c", long).worker("d", long).
				owned(0, named("a", 200)...).moving(0, "b", 0).moving(1, "c", 0)},
		{name: "and one that takes two already takes no third, though others could give it", again: forceAfter,
			scene: newScene(240).worker("a", long).worker("b", long).worker("c", long).worker("d", long).
				owned(0, slices.Concat(named("a", 80), named("b", 80), named("c", 80))...).moving(0, "d", 0).moving(80, "d", 0)},
		{name: "nor before a drain", want: "intend 2 a", scene: newScene(3).worker("a", long).worker("b", long, draining).owned(0, "a", "a", "b").with(ordered)},
		{name: "with nobody to balance between it is", scene: newScene(2).worker("a", long).owned(0, "a", "a").with(ordered), done: true},
		{name: "ranges go to the zone that has too few", want: "intend 0 c, intend 1 c", on: true,
			scene: newScene(12).worker("a", long, inZone("x")).worker("b", long, inZone("x")).worker("c", long, inZone("y")).
				owned(0, append(named("a", 8), named("b", 4)...)...)},
		{name: "of equals to the one whose neighbours are elsewhere", want: "intend 3 e, intend 4 d", on: true,
			scene: newScene(9).worker("a", long, inZone("x")).worker("d", long, inZone("x")).worker("e", long, inZone("y")).
				owned(0, named("a", 9)...).with(func(s *snapshot) { // neighbours of 3 and 4 stay at a, in x
				s.balanced = map[lease.RangeID]time.Time{}
				for _, i := range []int{0, 1, 2, 5, 6, 7, 8} {
					s.balanced[lease.RangeID{Generation: 1, Index: i}] = s.now
				}
			})},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := plan(test.scene.snapshot)
			if spell(got) != test.want {
				t.Errorf("decided\n%s\nwant\n%s", spell(got), test.want)
			}
			var again time.Duration
			if !got.again.IsZero() {
				again = got.again.Sub(epoch)
			}
			if again != test.again {
				t.Errorf("again in %v, want %v", again, test.again)
			}
			if test.on && !got.balancing || got.rebalanced != test.done {
				t.Errorf("goes on: %v (want %v), order carried out: %v (want %v)", got.balancing, test.on, got.rebalanced, test.done)
			}
			checkDecision(t, test.scene.snapshot, got)
		})
	}
}

// When balance has come to an end it rests, whatever happens then.
func TestBalanceRests(t *testing.T) {
	h := newHistory(20, 1)
	h.join("a", 1)
	h.join("b", 1)
	for i := range 20 {
		h.own(i, "a")
	}
	h.settle(t)
	ended := h.s.now
	for i := range 20 { // what no worker does
		h.own(i, "a")
	}
	clear(h.s.balanced)
	clear(h.balanced)
	if d := h.decide(t); len(d.actions) > 0 || !d.again.Equal(ended.Add(balancePause)) {
		t.Errorf("just ended, it decides %v, and again in %v", d.actions, d.again.Sub(ended))
	}
	h.s.now = ended.Add(balancePause)
	if d := h.decide(t); len(d.actions) == 0 {
		t.Error("it does not begin again")
	}
	// A worker that cannot take part yet is no reason to look for moves, which would count as an end.
	if d := plan(newScene(9).worker("a", long).worker("b", time.Second).owned(0, named("a", 9)...).with(func(s *snapshot) {
		s.workers["a"] = lease.Worker{ID: "a", Incarnation: ref("a").Incarnation, Capacity: 9}
	}).snapshot); d.searched {
		t.Error("balance looks for moves to a worker that has just joined")
	}
}

// prepared adds a generation that is being prepared, of ranges of one shard, and their owners.
func (s *scene) prepared(owners ...string) *scene {
	s.plans = append(s.plans, lease.Plan{Generation: 2, Shards: len(owners), RangeSize: 1})
	for i, owner := range owners {
		id := lease.RangeID{Generation: 2, Index: i}
		s.ranges[id] = lease.Range{ID: id, Owner: ref(owner), Fence: int64(5000 + i)}
	}
	return s
}

// Both generations are repaired and drained, and are load to each other.
func TestPlanOfAGenerationBesideTheOneInForce(t *testing.T) {
	s := newScene(3).worker("a", long).worker("b", long).owned(0, "a", "a", "a").prepared("x", "x", "x")
	d := plan(s.snapshot)
	for _, a := range d.actions {
		if a.Kind != lease.Assign || a.Range.ID.Generation != 2 || a.To.Worker != "b" {
			t.Errorf("decided %v", a)
		}
	}
	if len(d.actions) != 3 {
		t.Errorf("%d actions, want 3: %v", len(d.actions), d.actions)
	}
	s = newScene(1).worker("a", long).worker("b", long, draining).owned(0, "b").prepared("b")
	if got := spell(plan(s.snapshot)); got != "intend 0 a, intend 0 a" {
		t.Errorf("decided %q", got)
	}
}

// A worker that joins a cluster which counts only shards has its share within seconds, however many there are before it.
func TestJoiningWorkerIsFilledSoon(t *testing.T) {
	for _, workers := range []int{1, 3, 30} {
		h := newHistory(32*(workers+1), 1)
		for i := range workers {
			h.join(fmt.Sprintf("w%02d", i), 1)
		}
		h.settle(t)
		h.s.now = h.s.now.Add(time.Second)
		h.join("new", 1)
		began := h.s.now
		h.settle(t)
		if took, got := h.s.now.Sub(began), h.owned()["new"]; took > balanceSettle || float64(got) < 32*(1-stopBand) {
			t.Errorf("beside %d workers: %d ranges after %v", workers, got, took)
		}
	}
}

// In a loaded cluster it is filled little by little, and has its share after two minutes.
func TestJoiningWorkerIsRampedUpUnderLoad(t *testing.T) {
	h := newHistory(64*5, 1)
	for i := range h.s.plans[0].Shards {
		h.rates[lease.RangeID{Generation: 1, Index: i}] = 100
	}
	for i := range 4 {
		h.join(fmt.Sprint("w", i), 1)
	}
	h.settle(t)
	h.pass(t, 10*time.Minute)
	h.join("new", 1)
	for _, step := range []struct {
		after time.Duration
		most  float64 // of its share
	}{{20 * time.Second, 0.4}, {40 * time.Second, 0.75}, {time.Minute, 1.1}, {2 * time.Minute, 1.1}} {
		h.pass(t, step.after)
		if got := float64(h.owned()["new"]) / 64; got > step.most || got == 0 {
			t.Errorf("%v later it has %v of its share, want at most %v", step.after, got, step.most)
		}
	}
	if got := h.owned()["new"]; float64(got) < 64*(1-startBand) {
		t.Errorf("in the end it has %d ranges", got)
	}
}

// A zone is not given more than its part of the capacity and a tenth, while others can have it.
func TestZonesAreNotOverfilled(t *testing.T) {
	// Of 20, y may have 4/5 and a tenth: 18, which b has, so that c is given none though it is as idle as a.
	s := newScene(20).worker("a", long, inZone("x")).worker("b", long, inZone("y"), capacity(3)).worker("c", long, inZone("y")).
		owned(0, named("b", 18)...)
	if got := spell(plan(s.snapshot)); got != "assign 18 a, assign 19 a" {
		t.Errorf("decided %s", got)
	}
	// Of 4, y may have 2.4; but a has no room for the rest.
	s = newScene(4).worker("a", long, inZone("x"), atMost(1)).worker("b", long, inZone("x"), draining).worker("c", long, inZone("y")).
		owned(0, named("b", 4)...)
	if got := spell(plan(s.snapshot)); got != "intend 0 a, intend 1 c, intend 2 c, intend 3 c" {
		t.Errorf("decided %s", got)
	}
}

// Neighbours are spread: a zone that dies takes no long stretch of shards with it.
func TestNeighboursAreSpreadOverZones(t *testing.T) {
	s := newScene(12)
	for i, name := range []string{"a", "b", "c", "d"} {
		s.worker(name, long, inZone([]string{"x", "x", "y", "y"}[i]))
	}
	d := plan(s.snapshot)
	zones := make([]string, 12)
	for _, a := range d.actions {
		zones[a.Range.ID.Index] = s.workers[a.To.Worker].Zone
	}
	for i := range 11 {
		if zones[i] == zones[i+1] {
			t.Fatalf("ranges %d and %d are both in zone %s: %v", i, i+1, zones[i], zones)
		}
	}
}

// Rates are smoothed over a minute, and a range that changes hands keeps its own meanwhile.
func TestRatesAreSmoothed(t *testing.T) {
	var s sightings
	now, id := epoch, lease.RangeID{Generation: 1}
	state := &lease.Cluster{
		Workers: map[string]lease.Worker{"a": {ID: "a", Incarnation: 1}},
		Ranges:  map[lease.RangeID]lease.Range{id: {ID: id, Owner: lease.Ref{Worker: "a", Incarnation: 1}, Fence: 1}},
		Status:  map[string]lease.Status{},
	}
	measure := func(rate float64) {
		state.Status["a"] = lease.Status{Loads: map[lease.RangeID]float64{id: rate}}
	}
	tick := func(d time.Duration) { now = now.Add(d); s.observe(state, now) }
	tick(0)
	if _, known := s.rates[id]; known {
		t.Error("a rate is known that nobody measured")
	}
	measure(100)
	tick(rateSampled)
	if s.rates[id] != 100 {
		t.Errorf("the first is taken as it is, got %v", s.rates[id])
	}
	measure(200)
	for range 6 {
		tick(rateSampled)
	}
	if got := s.rates[id]; math.Abs(got-(200-100/math.E)) > 0.01 {
		t.Errorf("after a minute it is %v", got)
	}
	tick(rateSampled - 1)
	if before := s.rates[id]; before > 164 {
		t.Errorf("taken in too early: %v", before)
	}
	before := s.rates[id]
	state.Status["a"] = lease.Status{}
	tick(time.Minute)
	measure(5)
	state.Workers["a"] = lease.Worker{ID: "a", Incarnation: 2} // whose status may be its predecessor's
	tick(time.Minute)
	if got := s.rates[id]; got != before {
		t.Errorf("of a range that nobody measures it became %v, from %v", got, before)
	}
	state.Workers["a"] = lease.Worker{ID: "a", Incarnation: 1}
	for _, absurd := range []float64{-1e300, 1e300} {
		measure(absurd)
		tick(time.Hour)
		if got := s.rates[id]; got < 0 || got > mostRate {
			t.Errorf("after %v was reported it is %v", absurd, got)
		}
	}
	delete(state.Ranges, id)
	if tick(time.Minute); len(s.rates) > 0 {
		t.Errorf("of ranges that are gone %v are remembered", s.rates)
	}
}
