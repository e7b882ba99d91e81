package coordinator

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

func TestFormer(t *testing.T) {
	alive := lease.Ref{Worker: "a", Incarnation: 5}
	old := lease.RangeID{Generation: 2, Index: 3}
	for _, test := range []struct {
		name    string
		id      lease.RangeID
		owner   lease.Ref
		after   time.Duration // since the plan was seen
		retired bool
		again   bool
		done    bool
	}{
		{"released", old, lease.Ref{}, 0, true, false, false},
		{"of a dead worker", old, lease.Ref{Worker: "b", Incarnation: 4}, 0, true, false, false},
		{"of a former incarnation", old, lease.Ref{Worker: "a", Incarnation: 4}, 0, true, false, false},
		{"of a living worker", old, alive, forceAfter - 1, false, true, false},
		{"of a living worker that is late", old, alive, forceAfter, true, false, false},
		{"of a generation long ago", lease.RangeID{Generation: 1}, lease.Ref{}, 0, true, false, false},
		{"of the present generation", lease.RangeID{Generation: 3}, lease.Ref{}, forceAfter, false, false, true},
		{"of a generation that is not known yet", lease.RangeID{Generation: 4}, alive, forceAfter, false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := lease.Range{ID: test.id, Owner: test.owner, Fence: 9}
			actions, again, done := former(&lease.Cluster{
				Plan:    lease.Plan{Generation: 3},
				Workers: map[string]lease.Worker{"a": {ID: "a", Incarnation: 5}},
				Ranges:  map[lease.RangeID]lease.Range{test.id: r},
			}, epoch, epoch.Add(test.after))
			var want []lease.Action
			if test.retired {
				want = []lease.Action{{Kind: lease.Retire, Range: r}}
			}
			if !slices.Equal(actions, want) || done != test.done {
				t.Errorf("actions %v, done %v", actions, done)
			}
			if test.again != again.Equal(epoch.Add(forceAfter)) {
				t.Errorf("again at %v", again)
			}
		})
	}
}

// ranges counts a generation's ranges that have an owner key.
func (o *office) ranges(generation int) (n int) {
	for id := range o.fresh().Ranges {
		if id.Generation == generation {
			n++
		}
	}
	return n
}

// replanned is an office whose plan of four shards was just replaced by one of eight. Shard 1 had identified once.
func replanned(t *testing.T) *office {
	o := newOffice(t, 4, 1, 100)
	o.lead.coordinator.cfg.Shards = 0
	o.request(1, false)
	o.act()
	o.claim(1)
	o.refuse(1, codeInvalidShard)
	o.act()
	o.advised(8)
	o.act()
	if p := o.fresh().Plan; p.Generation != 2 || p.Shards != 8 {
		t.Fatalf("plan is %+v", p)
	}
	return o
}

// release has a give up a range of the first generation, as it does once its sockets are closed.
func (o *office) release(index int) {
	o.t.Helper()
	r := o.fresh().Ranges[lease.RangeID{Generation: 1, Index: index}]
	must(o.t, o.a.Own(order(r)).Release(o.t.Context()))
}

// expectPlaced checks that nothing of the first generation is left, that a has all of the second, and that epochs went on.
func (o *office) expectPlaced() {
	o.t.Helper()
	if old, now := o.ranges(1), o.ranges(2); old != 0 || now != 8 {
		o.t.Fatalf("%d ranges of the first generation, %d of the second", old, now)
	}
	c := o.fresh()
	own := o.a.Own(order(c.Ranges[c.Plan.RangeOf(1)]))
	if record, err := own.LoadSession(o.t.Context(), 1); err != nil || record.Epoch != 1 || record.ID != "" {
		o.t.Errorf("shard 1's record is of epoch %d, %v", record.Epoch, err)
	}
	for _, shard := range []int{0, 7} {
		if record, err := own.LoadSession(o.t.Context(), shard); err != nil || record.Epoch != 0 {
			o.t.Errorf("shard %d's record is of epoch %d, %v", shard, record.Epoch, err)
		}
	}
}

func TestNextGenerationIsPlacedWhenTheFormerIsReleased(t *testing.T) {
	o := replanned(t)
	if again := o.act(); again != forceAfter {
		t.Errorf("with an owner that has not released yet the leader acts again in %v", again)
	}
	for index := range 4 {
		if old, now := o.ranges(1), o.ranges(2); old != 4-index || now != 0 {
			t.Fatalf("after %d releases: %d ranges of the first generation, %d of the second", index, old, now)
		}
		o.release(index)
		o.act()
	}
	o.act()
	o.expectPlaced()
}

func TestNextGenerationDoesNotWaitForEver(t *testing.T) {
	o := replanned(t)
	o.act()
	o.pass(forceAfter - 1)
	o.act()
	if old := o.ranges(1); old != 4 {
		t.Fatalf("%d ranges of the first generation are left", old)
	}
	o.pass(1)
	o.act()
	o.act()
	o.expectPlaced()
}

// A leader that takes over at any step goes on where the one before ended.
func TestNewLeaderGoesOnWithTheChangeOfGeneration(t *testing.T) {
	for after := range 5 {
		o := replanned(t)
		for step := range 5 {
			if step == after {
				o.lead.term.Resign()
				o.elect(Config{ID: "next", Store: o.store, Logger: quiet})
			}
			o.act()
			if step < 4 {
				o.release(step)
			}
		}
		o.pass(joinSettle) // to the new leader a has just joined
		o.act()
		o.act()
		o.pass(joinSettle)
		o.act()
		o.expectPlaced()
	}
}

// Ranges given out just before the plan changed may be unknown to a leader that has not yet seen its own plan.
func TestRetireWaitsForTheStateOfThePlan(t *testing.T) {
	o := replanned(t)
	behind := o.fresh()
	behind.Revision = behind.Plan.Revision - 1
	clear(behind.Ranges)
	again, err := o.lead.tidyUp(t.Context(), behind, o.now)
	if o.lead.alone(behind.Plan) || err != nil || !again.Equal(o.now.Add(retryAfter)) {
		t.Errorf("again at %v, error %v", again, err)
	}
}
