package coordinator

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

func TestQuarantine(t *testing.T) {
	ago := func(seconds ...int) (seen []time.Time) {
		for _, s := range seconds {
			seen = append(seen, epoch.Add(-time.Duration(s)*time.Second))
		}
		return seen
	}
	for name, test := range map[string]struct {
		seen []time.Time
		want time.Duration // from now; 0: trusted
	}{
		"never seen":                   {nil, 0},
		"once":                         {ago(0), 0},
		"restarted":                    {ago(30, 0), 0},
		"restarted twice":              {ago(60, 30, 0), 10 * time.Second},
		"a while ago":                  {ago(60, 30, 7), 3 * time.Second},
		"long enough ago":              {ago(60, 30, 10), 0},
		"restarted thrice":             {ago(60, 40, 30, 0), 20 * time.Second},
		"seven times":                  {ago(7, 6, 5, 4, 3, 2, 1, 0), 5 * time.Minute},
		"a hundred times":              {ago(make([]int, 100)...), 5 * time.Minute},
		"what is long ago is forgiven": {ago(600, 599, 0), 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := quarantined(test.seen, epoch)
			if test.want == 0 && !got.IsZero() || test.want != 0 && got.Sub(epoch) != test.want {
				t.Errorf("until %v from now, want %v", got.Sub(epoch), test.want)
			}
		})
	}
}

// flaps makes a worker one that has restarted twice just now.
func (s *scene) flaps(name string) *scene {
	if s.incarnations == nil {
		s.incarnations = map[string][]time.Time{}
	}
	s.incarnations[ref(name).Worker] = []time.Time{s.now, s.now, s.now}
	return s
}

func TestPlanAndQuarantine(t *testing.T) {
	for _, test := range []struct {
		name        string
		scene       *scene
		want        string
		again       time.Duration
		quarantined int
	}{
		{name: "it is not given its ranges back", want: "assign 0 a, assign 1 a", again: flapFirst, quarantined: 1,
			scene: newScene(2).worker("a", long).worker("b2", 0).owned(0, "b", "b").flaps("b2")},
		{name: "nor what others drain", want: "intend 0 c", again: flapFirst, quarantined: 1,
			scene: newScene(1).worker("a", long, draining).worker("b", long).worker("c", long).owned(0, "a").flaps("b")},
		{name: "nor what would balance", again: flapFirst, quarantined: 1,
			scene: newScene(4).worker("a", long).worker("b", long).owned(0, "a", "a", "a", "a").flaps("b")},
		{name: "what it has it keeps, and a move to it goes on", again: flapFirst, quarantined: 1,
			scene: newScene(3).worker("a", long).worker("b", long).owned(0, "a", "b", "a").moving(2, "b", 0).flaps("b")},
		{name: "but ranges are not stranded for it", want: "assign 0 b, assign 1 b", again: flapFirst, quarantined: 1,
			scene: newScene(2).worker("b", 0).owned(0, "x", "x").flaps("b")},
		{name: "nor for want of room", want: "assign 0 a, assign 1 b", again: flapFirst, quarantined: 1,
			scene: newScene(2).worker("a", long, atMost(1)).worker("b", 0).owned(0, "x", "x").flaps("b")},
		{name: "balance between others goes on", want: "intend 0 c, intend 1 c", again: flapFirst, quarantined: 1,
			scene: newScene(9).worker("a", long).worker("b", 0).worker("c", long).owned(0, named("a", 9)...).flaps("b")},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := plan(test.scene.snapshot)
			var again time.Duration
			if !got.again.IsZero() {
				again = got.again.Sub(epoch)
			}
			if spell(got) != test.want || again != test.again || got.quarantined != test.quarantined {
				t.Errorf("decided %q, %d in quarantine, again in %v; want %q, %d, %v",
					spell(got), got.quarantined, again, test.want, test.quarantined, test.again)
			}
			checkDecision(t, test.scene.snapshot, got)
		})
	}
}

// A worker that restarts for ever does not keep the others from being balanced.
func TestFlappingWorkerDoesNotHoldUpBalance(t *testing.T) {
	h := newHistory(40, 1)
	h.join("a", 1)
	h.join("c", 1)
	for i := range 30 {
		h.own(i, "a")
	}
	for i := range 10 {
		h.own(30+i, "c")
	}
	for range 60 {
		h.join("b", 1)
		for range 4 {
			h.settleNow(t)
			h.s.now = h.s.now.Add(500 * time.Millisecond)
		}
	}
	delete(h.s.workers, "b")
	h.settleNow(t)
	n := h.owned()
	if n["a"] > 22 || n["c"] < 18 {
		t.Errorf("beside a worker that restarted every 2 s the others have %v", n)
	}
}

func TestMassLoss(t *testing.T) {
	for _, test := range []struct {
		lost, alive int
		want        bool
	}{
		{0, 0, false}, {0, 10, false}, {1, 2, false}, {2, 0, false}, {3, 0, true}, {3, 7, false}, {4, 7, true}, {300, 700, false}, {301, 699, true},
	} {
		if got := massLoss(test.lost, test.alive); got != test.want {
			t.Errorf("%d of %d lost: %v", test.lost, test.lost+test.alive, got)
		}
	}
}

// After a mass loss what is lost is repaired at once, and nothing else moves for two minutes.
func TestMassLossFreezesBalance(t *testing.T) {
	h := newHistory(100, 1)
	for i := range 10 {
		h.join(fmt.Sprint("w", i), 1)
	}
	h.settle(t)
	h.s.now = h.s.now.Add(time.Minute)
	h.decide(t)
	for i := range 4 {
		delete(h.s.workers, fmt.Sprint("w", i))
	}
	if d := h.decide(t); d.unassigned > 0 || len(d.actions) != 40 {
		t.Fatalf("%d ranges unassigned, %d actions", d.unassigned, len(d.actions))
	}
	for i := range 4 {
		h.join(fmt.Sprint("w", i), 1)
	}
	if moves := h.pass(t, massLossFreeze-10*time.Second); moves > 0 {
		t.Fatalf("%d moves in the first two minutes", moves)
	}
	h.settle(t)
	if n := h.owned(); n["w0"] < 9 {
		t.Errorf("after two minutes ranges are shared out as %v", n)
	}
}

// Workers that drained before they ended, and those that are back at once, are no loss.
func TestWhatIsNoLoss(t *testing.T) {
	h := newHistory(100, 1)
	for i := range 10 {
		h.join(fmt.Sprint("w", i), 1)
	}
	h.settle(t)
	for i := range 5 {
		h.drain(fmt.Sprint("w", i))
	}
	h.settle(t)
	for i := range 5 {
		delete(h.s.workers, fmt.Sprint("w", i))
	}
	h.decide(t)
	if !h.s.massLoss.IsZero() {
		t.Error("five workers that drained count as lost")
	}
	for i := range 5 {
		h.join(fmt.Sprint("w", 5+i), 1)
	}
	h.decide(t)
	if !h.s.massLoss.IsZero() {
		t.Error("five workers that restarted count as lost")
	}
	for i := range 2 { // two that are gone for a moment, and then two others
		delete(h.s.workers, fmt.Sprint("w", 5+i))
		h.decide(t)
		h.join(fmt.Sprint("w", 5+i), 1)
		h.decide(t)
		delete(h.s.workers, fmt.Sprint("w", 7+i))
		h.decide(t)
	}
	if !h.s.massLoss.IsZero() {
		t.Error("workers that came back count as lost")
	}
	for i := range 2 {
		h.join(fmt.Sprint("w", 7+i), 1)
	}
	for i := range 3 { // one after the other, each long after the one before
		h.s.now = h.s.now.Add(lossWindow)
		delete(h.s.workers, fmt.Sprint("w", 5+i))
		h.decide(t)
	}
	if !h.s.massLoss.IsZero() || len(h.s.lost) > 1 {
		t.Errorf("workers lost one by one count as a mass: %v", h.s.lost)
	}
}

// A worker is told to start 64 sessions in a second, and the rest waits for it.
func TestStartsAreBounded(t *testing.T) {
	h := newHistory(400, 5)
	h.join("a", 1)
	h.join("b", 1)
	h.decide(t)
	h.s.now = h.s.now.Add(joinSettle)
	assigned := func() (n int) {
		for _, a := range h.decide(t).actions {
			n += len(h.s.plans[0].ShardsOf(a.Range.ID))
		}
		return n
	}
	for second, want := range []int{120, 120, 120, 40} { // 60 each: ranges of five do not make 64
		if got := assigned(); got != want {
			t.Errorf("second %d: %d sessions are started, want %d", second, got, want)
		}
		h.s.now = h.s.now.Add(time.Second - 1)
		if got := assigned(); got != 0 {
			t.Errorf("second %d: %d more", second, got)
		}
		h.s.now = h.s.now.Add(1)
	}
	if n := h.owned(); n["a"] != 40 || n["b"] != 40 {
		t.Errorf("ranges are shared out as %v", n)
	}
	// A range that is larger than that must not wait for ever.
	s := newScene(1).sized(100, 100).worker("a", long)
	if got := spell(plan(s.snapshot)); got != "assign 0 a" {
		t.Errorf("decided %q", got)
	}
}

// A worker is never given more shards than it says it can have. What finds no room is unassigned, and counted.
func TestLimitOfShards(t *testing.T) {
	for _, test := range []struct {
		name       string
		scene      *scene
		want       string
		unassigned int
		full       int
	}{
		{name: "repair", scene: newScene(5).sized(10, 2).worker("a", long, atMost(4)).worker("b", long, atMost(3)),
			want: "assign 0 a, assign 1 b, assign 2 a", unassigned: 2, full: 2},
		{name: "the same worker", scene: newScene(2).worker("a", long).worker("b2", long, atMost(1)).owned(0, "b", "b"), want: "assign 0 b, assign 1 a"},
		{name: "drain: what finds no room stays", scene: newScene(3).worker("a", long, atMost(1)).worker("b", long, draining).owned(0, "b", "b", "b"),
			want: "intend 0 a", full: 2},
		{name: "what is on its way out still counts", full: 1, unassigned: 1,
			scene: newScene(2).worker("a", long, atMost(1)).worker("b", long, atMost(1)).owned(0, "a").moving(0, "b", 0)},
		{name: "nobody at all is another alarm", scene: newScene(2), unassigned: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := plan(test.scene.snapshot)
			if spell(got) != test.want || got.unassigned != test.unassigned || got.full != test.full {
				t.Errorf("decided %q, %d unassigned, %d find no room; want %q, %d, %d",
					spell(got), got.unassigned, got.full, test.want, test.unassigned, test.full)
			}
			checkDecision(t, test.scene.snapshot, got)
		})
	}
}

// Who was ordered to drain is given nothing and loses all it has, but if there is nobody to take it, it keeps it: its sessions are better than
// none, and it does not leave.
func TestOrderedDrain(t *testing.T) {
	s := newScene(2).worker("a", long).worker("b", long).owned(0, "a", "b")
	s.draining = map[lease.Ref]bool{ref("a"): true}
	if got := spell(plan(s.snapshot)); got != "intend 0 b" {
		t.Errorf("decided %q", got)
	}
	s.draining = map[lease.Ref]bool{ref("a"): true, ref("b"): true}
	if got := spell(plan(s.snapshot)); got != "" {
		t.Errorf("decided %q", got)
	}
	s.draining = map[lease.Ref]bool{ref("a2"): true} // its next incarnation, or one before
	if got := spell(plan(s.snapshot)); got != "" {
		t.Errorf("decided %q", got)
	}
}

// Leaders remember no more than they need.
func TestSightingsAreForgotten(t *testing.T) {
	h := newHistory(64, 1)
	for i := range 3 {
		h.join(fmt.Sprint("w", i), 1)
	}
	h.settle(t)
	h.join("new", 1)
	h.settle(t)
	delete(h.s.workers, "w0")
	h.settle(t)
	if len(h.s.balanced) == 0 || len(h.s.started) == 0 || len(h.s.lost) == 0 || len(h.s.incarnations) == 0 {
		t.Fatalf("nothing to forget: %+v %+v", h.s.sightings, h.s.deeds)
	}
	h.s.now = h.s.now.Add(time.Hour)
	h.decide(t)
	if len(h.s.balanced)+len(h.s.started)+len(h.s.lost)+len(h.s.incarnations)+len(h.s.intended) > 0 || len(h.s.joined) != 3 {
		t.Errorf("remembered: %+v %+v", h.s.sightings, h.s.deeds)
	}
}

// replace puts a new leader in office: one that has seen all that its predecessor saw, or one that just started.
func (h *history) replace(watched bool) {
	if !watched {
		h.s.sightings = sightings{}
	}
	h.s.deeds = newDeeds(h.s.now)
}

// A new leader on a replica that just started does not know how busy ranges are, what was moved lately, and who restarts again and again. Until
// it knows more it moves nothing to even out load; who joins after its election is given its share all the same.
func TestNewLeaderLeavesRangesWhereTheyAre(t *testing.T) {
	h := newHistory(40, 1)
	h.join("a", 1)
	h.join("b", 1)
	for i := range 40 {
		h.own(i, map[bool]string{true: "a", false: "b"}[i < 30])
	}
	busy := func() {
		for i := range 40 { // as busy as makes 10 ranges of b's what 30 of a's are
			h.rates[lease.RangeID{Generation: 1, Index: i}] = map[bool]float64{true: 10, false: 50}[i < 30]
		}
	}
	busy()
	h.settle(t)
	h.pass(t, time.Hour)
	h.join("flaps", 1)
	for range 5 {
		h.join("flaps", 1)
		h.decide(t)
	}

	h.replace(false)
	clear(h.rates) // as if just then nothing was measured
	if moves := h.pass(t, balancePause); moves > 0 {
		t.Fatalf("a new leader moves %d ranges", moves)
	}
	delete(h.s.workers, "flaps")
	busy()
	if moves := h.pass(t, 10*time.Minute); moves > 0 {
		t.Fatalf("when it knows all there is to know it moves %d ranges", moves)
	}

	h.replace(false)
	h.decide(t)
	h.s.now = h.s.now.Add(time.Second)
	h.join("c", 1)
	if moves := h.pass(t, balancePause); moves == 0 {
		t.Error("it gives nothing to a worker that joins")
	}
}

// A new leader on a replica that was there before goes on where its predecessor was: it trusts nobody who flaps, nor moves ranges after a loss
// of many that may soon be back, and it knows how busy ranges are.
func TestNewLeaderKnowsWhatItsReplicaSaw(t *testing.T) {
	t.Run("quarantine", func(t *testing.T) {
		h := newHistory(16, 1)
		h.join("a", 1)
		h.settle(t)
		for range 6 {
			h.join("flaps", 1)
			h.decide(t)
		}
		h.replace(true)
		if h.decide(t); h.pass(t, time.Minute) > 0 {
			t.Error("ranges are moved to a worker that restarts again and again")
		}
	})
	t.Run("mass loss", func(t *testing.T) {
		h := newHistory(64, 1)
		for i := range 10 {
			h.join(fmt.Sprint("w", i), 1)
		}
		h.settle(t)
		h.pass(t, time.Hour)
		for i := range 4 {
			delete(h.s.workers, fmt.Sprint("w", i))
		}
		h.decide(t)
		h.replace(true)
		h.settleNow(t) // what they ran is taken over
		h.join("w0", 1)
		if moves := h.pass(t, massLossFreeze-time.Minute); moves > 0 {
			t.Errorf("%d ranges are moved", moves)
		}
		if moves := h.pass(t, 2*time.Minute); moves == 0 {
			t.Error("none is moved when that is over")
		}
	})
	t.Run("load", func(t *testing.T) {
		h := newHistory(40, 1)
		h.join("a", 1)
		h.join("b", 1)
		for i := range 40 {
			h.rates[lease.RangeID{Generation: 1, Index: i}] = 10
		}
		h.settle(t)
		h.pass(t, time.Hour)
		known := maps.Clone(h.s.rates)
		clear(h.rates) // as if just then nothing was measured
		h.replace(true)
		if h.decide(t); !maps.Equal(known, h.s.rates) || len(known) != 40 {
			t.Errorf("of %d rates %d are known", len(known), len(h.s.rates))
		}
	})
}
