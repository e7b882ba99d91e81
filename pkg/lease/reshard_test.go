package lease

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What is in force changes in one step, and with it what is coming and what was.
func TestFlip(t *testing.T) {
	w := newWorld(t)
	w.prepared()
	if now := orders(t, w.a).Plan; now.Generation != 1 || now.Next != (Cut{2, 8, 4}) || now.Last != 2 {
		t.Errorf("while it is prepared the plan is %+v", now)
	}
	w.directed(Reshard{Shards: 8})
	flipped, err := w.term.Flip(t.Context(), w.plan, w.reshard)
	must(t, err)
	c := state(t, w.s)
	want := Plan{Generation: 2, Shards: 8, RangeSize: 4, Former: Cut{1, 16, 4}, Last: 2, Revision: flipped.Revision}
	if c.Plan != want || flipped != want {
		t.Errorf("the plan is %+v, said to be %+v", c.Plan, flipped)
	}
	if c.Directives.Reshard != nil {
		t.Errorf("the directive is left: %+v", c.Directives.Reshard)
	}
}

// A directive that asks for something else survives a flip.
func TestFlipKeepsAnotherDirective(t *testing.T) {
	w := newWorld(t)
	w.prepared()
	w.directed(Reshard{Shards: 32})
	_, err := w.term.Flip(t.Context(), w.plan, w.reshard)
	must(t, err)
	if d := state(t, w.s).Directives.Reshard; d == nil || d.Shards != 32 {
		t.Errorf("the directive is %+v", d)
	}
}

// Who gives up says so, or why; and the number is not used again.
func TestAbort(t *testing.T) {
	w := newWorld(t)
	w.prepared()
	w.directed(Reshard{Abort: true})
	plan, err := w.term.Abort(t.Context(), w.plan, w.reshard, "")
	must(t, err)
	if c := state(t, w.s); c.Plan.Next != (Cut{}) || c.Directives.Reshard != nil || c.Plan.NewGeneration() != 3 || c.Plan.Generation != 1 {
		t.Errorf("the plan is %+v, the directive %+v", c.Plan, c.Directives.Reshard)
	}
	w.plan, err = w.term.Prepare(t.Context(), plan, Cut{3, 8, 4}, nil)
	must(t, err)
	_, err = w.term.Abort(t.Context(), w.plan, nil, "no")
	must(t, err)
	if d := state(t, w.s).Directives.Reshard; d == nil || d.Refused != "no" || d.Shards != 8 {
		t.Errorf("the directive is %+v", d)
	}
}

// An unmuted session goes on under an epoch above all others, from where it was said to; one that cannot is none.
func TestUnmute(t *testing.T) {
	w := newWorld(t)
	w.flipped()
	session, err := w.own.Unmute(t.Context(), w.plan, theShard.Shard, w.session, w.former, 7, 17)
	must(t, err)
	want := Session{Epoch: 8, ID: "new", ResumeURL: "wss://new", Shards: 8, From: 17}
	stored, err := w.own.LoadSession(t.Context(), theShard.Shard)
	must(t, err)
	want.Revision = stored.Revision
	if stored != want || session != want {
		t.Errorf("the session is epoch %d from %d, revision %d; said to be epoch %d from %d", stored.Epoch, stored.From, stored.Revision, session.Epoch, session.From)
	}
	if old := sessions(t, w.s, 1); len(old) != 0 {
		t.Errorf("of the former generation there are %v", slices.Sorted(maps.Keys(old)))
	}
	session, err = w.own.Unmute(t.Context(), w.plan, theShard.Shard, stored, Session{}, 0, 0)
	must(t, err)
	if session.ID != "" || session.Epoch != 9 || session.Muted {
		t.Errorf("without a place to go on from: %+v", session)
	}
}

// Beyond the former number of shards there is nothing to wait for; below it, the range the shard was in.
func TestSucceeded(t *testing.T) {
	w := newWorld(t)
	plan := Plan{Generation: 2, Shards: 32, RangeSize: 8, Former: Cut{1, 16, 4}}
	for _, test := range []struct {
		shards []int
		want   bool
	}{
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, false}, {[]int{3, 4}, false}, {[]int{4, 5}, true}, {[]int{16, 17}, true}, {nil, true},
	} {
		if got, err := w.s.Succeeded(t.Context(), plan, test.shards); got != test.want || err != nil {
			t.Errorf("shards %v: %v, %v", test.shards, got, err)
		}
	}
}

// A session that is claimed for a muted range says so.
func TestMutedClaim(t *testing.T) {
	w := newWorld(t)
	w.own = w.own.Mute()
	w.granted()
	w.own = w.own.Mute()
	_, err := w.own.ClaimSlot(t.Context(), w.request, w.session, 0, 16)
	must(t, err)
	if session, err := w.own.LoadSession(t.Context(), theShard.Shard); err != nil || !session.Muted {
		t.Errorf("the record is %+v, %v", session, err)
	}
}

func TestStanding(t *testing.T) {
	plan := Plan{Generation: 5, Next: Cut{Generation: 8}, Former: Cut{Generation: 3}, Last: 8}
	for generation, want := range map[int]Standing{1: Over, 3: Finishing, 4: Over, 5: InForce, 6: Over, 8: Preparing, 9: Unknown} {
		if got := plan.Standing(generation); got != want {
			t.Errorf("generation %d is %d, want %d", generation, got, want)
		}
	}
	if got := (Plan{}).Standing(1); got != Unknown {
		t.Errorf("without a plan it is %d", got)
	}
}

// Every shard of every generation that a plan names is in the range that lists it.
func TestPlanOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cut := func(generation int) Cut {
			return Cut{generation, rapid.IntRange(1, 100).Draw(t, "shards"), rapid.IntRange(1, 16).Draw(t, "size")}
		}
		next, former := cut(3), cut(1)
		plan := Plan{Generation: 2, Shards: 7, RangeSize: 2, Next: next, Former: former}
		for _, c := range []Cut{next, former, {2, 7, 2}} {
			of, ok := plan.Of(c.Generation)
			if !ok || of.Shards != c.Shards {
				t.Fatalf("plan of %d is %+v", c.Generation, of)
			}
			for shard := range c.Shards {
				if !slices.Contains(of.ShardsOf(of.RangeOf(shard)), shard) {
					t.Fatalf("shard %d is not in its range", shard)
				}
			}
		}
		if _, ok := plan.Of(4); ok {
			t.Fatal("there is a plan of a generation that is not named")
		}
		if _, ok := (Plan{Generation: 2}).Of(0); ok {
			t.Fatal("generation 0 is one")
		}
	})
}
