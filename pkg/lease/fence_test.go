package lease

import (
	"maps"
	"testing"
	"time"
)

// The ways to make one belief false.
var (
	otherEra       = func(w *world) { w.write(w.s.keys.era(), `{"id":"another"}`) }
	otherTerm      = func(w *world) { w.recreate(w.term.key) }
	otherFence     = func(w *world) { w.touch(w.s.keys.owner(theRange)) }
	otherOwner     = func(w *world) { w.recreate(w.s.keys.worker("a")) }
	otherTarget    = func(w *world) { w.recreate(w.s.keys.worker("b")) }
	otherMove      = func(w *world) { w.touch(w.s.keys.move(theRange)) }
	otherRequest   = func(w *world) { w.touch(w.s.keys.request("a", theShard)) }
	otherSlot      = func(w *world) { w.touch(w.s.keys.slot(1)) }
	someSlot       = func(w *world) { w.write(w.s.keys.slot(1), `{"state":"open"}`) }
	otherBudget    = func(w *world) { w.touch(w.s.keys.budget()) }
	otherPlan      = func(w *world) { w.touch(w.s.keys.plan()) }
	otherSession   = func(w *world) { w.touch(w.s.keys.session(theShard)) }
	someSession    = func(w *world) { w.write(w.s.keys.session(theShard), `{"epoch":9}`) }
	otherReshard   = func(w *world) { w.touch(w.s.keys.directive(nameReshard)) }
	someMove       = func(w *world) { w.write(w.s.keys.move(theRange), `{"to":{}}`) }
	someDirective  = func(w *world) { w.write(w.s.keys.directive(nameReshard), `{"shards":7}`) }
	someFormer     = func(w *world) { w.write(w.s.keys.session(ShardID{1, theShard.Shard}), `{"epoch":9}`) }
	believedNobody = func(w *world) { w.rng = Range{ID: theRange} }
)

// fences has every write and every comparison it makes: each must be refused, and change nothing, when any one of them
// is false while all others hold.
var fences = []struct {
	name    string
	prepare func(*world)
	do      func(*world) error
	breaks  map[string]func(*world)

	anytime bool // an operator's order, which is of no era
}{
	{
		name: "assign a dead worker's range",
		prepare: func(w *world) {
			_, err := w.s.client.Delete(w.t.Context(), w.s.keys.worker("a"))
			must(w.t, err)
		},
		do: func(w *world) error { return take(w.t, w.term, Action{Assign, w.rng, w.b.Ref()}) },
		breaks: map[string]func(*world){
			"term": otherTerm, "fence": otherFence, "target": otherTarget,
			"owner lives":    func(w *world) { w.rng.Owner = register(w.t, w.s, "c").Ref() },
			"move exists":    someMove,
			"never assigned": believedNobody,
		},
	}, {
		name: "assign a range that has a move",
		prepare: func(w *world) {
			w.intended()
			_, err := w.s.client.Delete(w.t.Context(), w.s.keys.worker("a"))
			must(w.t, err)
		},
		do:     func(w *world) error { return take(w.t, w.term, Action{Assign, w.rng, w.b.Ref()}) },
		breaks: map[string]func(*world){"term": otherTerm, "move": otherMove},
	}, {
		name:    "intend",
		prepare: func(*world) {},
		do:      func(w *world) error { return take(w.t, w.term, Action{Intend, w.rng, w.b.Ref()}) },
		breaks: map[string]func(*world){
			"term": otherTerm, "fence": otherFence, "owner": otherOwner, "target": otherTarget, "move exists": someMove,
		},
	}, {
		name:    "intend release",
		prepare: func(*world) {},
		do:      func(w *world) error { return take(w.t, w.term, Action{Intend, w.rng, Ref{}}) },
		breaks:  map[string]func(*world){"owner": otherOwner},
	}, {
		name:    "force",
		prepare: (*world).intended,
		do:      func(w *world) error { return take(w.t, w.term, Action{Force, w.rng, w.b.Ref()}) },
		breaks: map[string]func(*world){
			"term": otherTerm, "fence": otherFence, "target": otherTarget, "move": otherMove,
		},
	}, {
		name:    "cancel",
		prepare: (*world).intended,
		do:      func(w *world) error { return take(w.t, w.term, Action{Cancel, w.rng, Ref{}}) },
		breaks:  map[string]func(*world){"term": otherTerm, "fence": otherFence, "move": otherMove},
	}, {
		name:    "retire",
		prepare: (*world).intended,
		do:      func(w *world) error { return take(w.t, w.term, Action{Retire, w.rng, Ref{}}) },
		breaks:  map[string]func(*world){"term": otherTerm, "fence": otherFence, "move": otherMove},
	}, {
		name:    "carry epochs",
		prepare: (*world).claimed,
		do: func(w *world) error {
			_, _, err := w.term.CarryEpochs(w.t.Context(), Plan{Generation: theShard.Generation + 1})
			return err
		},
		breaks: map[string]func(*world){"term": otherTerm},
	}, {
		name:    "set alarm",
		prepare: func(*world) {},
		do:      func(w *world) error { return w.term.SetAlarm(w.t.Context(), Alarm{Text: "test"}) },
		breaks:  map[string]func(*world){"term": otherTerm},
	}, {
		name:    "end alarm",
		prepare: func(w *world) { must(w.t, w.term.SetAlarm(w.t.Context(), Alarm{Text: "test"})) },
		do:      func(w *world) error { return w.term.SetAlarm(w.t.Context(), Alarm{}) },
		breaks:  map[string]func(*world){"term": otherTerm},
	}, {
		name:    "say that the target is ready",
		prepare: (*world).intended,
		do:      func(w *world) error { return w.b.Ready(w.t.Context(), w.notice) },
		breaks:  map[string]func(*world){"target": otherTarget, "move": otherMove},
	}, {
		name:    "hand over",
		prepare: (*world).intended,
		do:      func(w *world) error { return w.own.HandOver(w.t.Context(), w.order) },
		breaks: map[string]func(*world){
			"fence": otherFence, "owner": otherOwner, "target": otherTarget, "move": otherMove,
			"to nobody": func(w *world) { w.order.To = Ref{} },
		},
	}, {
		name:    "release",
		prepare: func(*world) {},
		do:      func(w *world) error { return w.own.Release(w.t.Context()) },
		breaks:  map[string]func(*world){"fence": otherFence, "owner": otherOwner, "move exists": someMove},
	}, {
		name:    "release in place of handing over",
		prepare: (*world).intended,
		do:      func(w *world) error { return w.own.Release(w.t.Context()) },
		breaks:  map[string]func(*world){"fence": otherFence, "owner": otherOwner, "move": otherMove},
	}, {
		name:    "request identify",
		prepare: func(*world) {},
		do: func(w *world) error {
			_, err := w.own.RequestIdentify(w.t.Context(), theShard.Shard, false)
			return err
		},
		breaks: map[string]func(*world){"fence": otherFence, "owner": otherOwner},
	}, {
		name:    "withdraw identify",
		prepare: (*world).granted,
		do:      func(w *world) error { return w.own.WithdrawIdentify(w.t.Context(), theShard.Shard) },
		breaks:  map[string]func(*world){"fence": otherFence, "owner": otherOwner},
	}, {
		name:    "open slot",
		prepare: (*world).requested,
		do: func(w *world) error {
			_, err := w.term.OpenSlots(w.t.Context(), w.budget, Grant{w.request, theRange, w.slot})
			return err
		},
		breaks: map[string]func(*world){
			"term": otherTerm, "slot": someSlot, "budget": otherBudget, "fence": otherFence, "worker": otherOwner, "request": otherRequest,
		},
	}, {
		name:    "void slot",
		prepare: (*world).granted,
		do: func(w *world) error {
			_, err := w.term.VoidSlot(w.t.Context(), w.slot, w.budget)
			return err
		},
		breaks: map[string]func(*world){"term": otherTerm, "slot": otherSlot, "budget": otherBudget},
	}, {
		name:    "claim slot",
		prepare: (*world).granted,
		do: func(w *world) error {
			_, err := w.own.ClaimSlot(w.t.Context(), w.request, w.session, 0, 16)
			return err
		},
		breaks: map[string]func(*world){
			"slot": otherSlot, "fence": otherFence, "owner": otherOwner, "session": someSession,
			"not granted": func(w *world) { w.request = IdentifyRequest{Shard: theShard} },
		},
	}, {
		name:    "confirm identify",
		prepare: (*world).claimed,
		do:      func(w *world) error { return w.claim.Sent(w.t.Context(), time.Now()) },
		breaks:  map[string]func(*world){"slot": otherSlot},
	}, {
		name:    "save session",
		prepare: (*world).claimed,
		do:      func(w *world) error { return w.claim.SaveSession(w.t.Context(), "id", "wss://resume") },
		breaks:  map[string]func(*world){"fence": otherFence, "owner": otherOwner, "session": otherSession},
	}, {
		name:    "set plan",
		prepare: func(*world) {},
		do: func(w *world) error {
			_, err := w.term.SetPlan(w.t.Context(), w.plan)
			return err
		},
		breaks: map[string]func(*world){"term": otherTerm, "plan": otherPlan, "no plan": func(w *world) { w.plan.Revision = 0 }},
	}, {
		name:    "prepare",
		prepare: func(*world) {},
		do: func(w *world) error {
			_, err := w.term.Prepare(w.t.Context(), w.plan, Cut{2, 8, 1}, w.reshard)
			return err
		},
		breaks: map[string]func(*world){"term": otherTerm, "plan": otherPlan, "directive": someDirective},
	}, {
		name:    "flip",
		prepare: func(w *world) { w.prepared(); w.directed(Reshard{Shards: 8}) },
		do: func(w *world) error {
			_, err := w.term.Flip(w.t.Context(), w.plan, w.reshard)
			return err
		},
		breaks: map[string]func(*world){"term": otherTerm, "plan": otherPlan, "directive": someDirective},
	}, {
		name:    "abort",
		prepare: func(w *world) { w.prepared(); w.directed(Reshard{Abort: true}) },
		do: func(w *world) error {
			_, err := w.term.Abort(w.t.Context(), w.plan, w.reshard, "")
			return err
		},
		breaks: map[string]func(*world){"term": otherTerm, "plan": otherPlan, "directive": someDirective},
	}, {
		name:    "direct by the leader",
		prepare: func(*world) {},
		do:      func(w *world) error { return w.term.DirectReshard(w.t.Context(), w.reshard, Reshard{Shards: 8}) },
		breaks:  map[string]func(*world){"term": otherTerm, "directive": someDirective},
	}, {
		name:    "unmute",
		prepare: (*world).flipped,
		do: func(w *world) error {
			_, err := w.own.Unmute(w.t.Context(), w.plan, theShard.Shard, w.session, w.former, 5, 17)
			return err
		},
		breaks: map[string]func(*world){
			"fence":              func(w *world) { w.touch(w.s.keys.owner(w.own.Range)) },
			"owner":              otherOwner,
			"session":            func(w *world) { w.touch(w.s.keys.session(ShardID{2, theShard.Shard})) },
			"former session":     someFormer,
			"former range":       func(w *world) { w.write(w.s.keys.owner(theRange), `{}`) },
			"former range owned": func(w *world) { w.write(w.s.keys.owner(theRange), `{"worker":"b","incarnation":1}`) },
		},
	}, {
		name:    "retire by the owner",
		prepare: (*world).intended,
		do:      func(w *world) error { return w.own.Retire(w.t.Context()) },
		breaks:  map[string]func(*world){"fence": otherFence, "owner": otherOwner},
	}, {
		name:    "end session",
		prepare: (*world).claimed,
		do: func(w *world) error {
			_, err := w.own.EndSession(w.t.Context(), theShard.Shard, w.session, 3)
			return err
		},
		breaks: map[string]func(*world){"fence": otherFence, "owner": otherOwner, "session": otherSession},
	}, {
		name:    "set budget",
		prepare: func(*world) {},
		do: func(w *world) error {
			_, err := w.term.SetBudget(w.t.Context(), w.budget)
			return err
		},
		breaks: map[string]func(*world){"term": otherTerm, "budget": otherBudget},
	}, {
		name:    "drop request",
		prepare: (*world).requested,
		do:      func(w *world) error { return w.term.DropRequest(w.t.Context(), w.request) },
		breaks:  map[string]func(*world){"term": otherTerm, "request": otherRequest},
	}, {
		name:    "halt by a worker",
		prepare: func(*world) {},
		do:      func(w *world) error { return w.a.Halt(w.t.Context(), Halt{Reason: "test"}) },
		breaks:  map[string]func(*world){"owner": otherOwner},
	}, {
		name:    "tell a refusal",
		prepare: func(*world) {},
		do:      func(w *world) error { return w.a.Refuse(w.t.Context(), Refusal{Generation: 1}) },
		breaks:  map[string]func(*world){"owner": otherOwner},
	}, {
		name:    "drain",
		prepare: func(*world) {},
		do:      func(w *world) error { return w.a.Drain(w.t.Context()) },
		breaks:  map[string]func(*world){"owner": otherOwner},
	}, {
		name:    "end sessions",
		prepare: (*world).identified,
		do:      func(w *world) error { return w.own.EndSessions(w.t.Context(), []int{2, theShard.Shard}) },
		breaks:  map[string]func(*world){"fence": otherFence, "owner": otherOwner},
	}, {
		name:    "direct a drain",
		prepare: func(*world) {},
		do:      func(w *world) error { return w.s.DirectDrain(w.t.Context(), w.a.Ref(), time.Now()) },
		breaks:  map[string]func(*world){"worker": otherOwner},
		anytime: true,
	}, {
		name:    "abort a reshard",
		prepare: (*world).directedAll,
		do:      func(w *world) error { return w.s.AbortReshard(w.t.Context(), *w.orders.Reshard) },
		breaks: map[string]func(*world){
			"directive":     otherReshard,
			"there is none": func(w *world) { w.forget(w.s.keys.directive(nameReshard)); w.orders.Reshard.Revision = 0 },
		},
		anytime: true,
	}, {
		name:    "refuse a reshard",
		prepare: (*world).directedAll,
		do:      func(w *world) error { return w.term.RefuseReshard(w.t.Context(), *w.orders.Reshard, "test") },
		breaks: map[string]func(*world){
			"term": otherTerm, "directive": otherReshard,
			"there is none": func(w *world) { w.forget(w.s.keys.directive(nameReshard)); w.orders.Reshard.Revision = 0 },
		},
	}, {
		name:    "done with a rebalance",
		prepare: (*world).directedAll,
		do:      func(w *world) error { return w.term.DoneRebalance(w.t.Context(), *w.orders.Rebalance) },
		breaks: map[string]func(*world){
			"term": otherTerm, "directive": func(w *world) { w.touch(w.s.keys.directive(nameRebalance)) },
		},
	}, {
		name:    "done with a drain",
		prepare: (*world).directedAll,
		do:      func(w *world) error { return w.term.DoneDrain(w.t.Context(), "a", w.orders.Drains["a"]) },
		breaks: map[string]func(*world){
			"term": otherTerm, "directive": func(w *world) { w.touch(w.s.keys.directive(nameDrain + "a")) },
		},
	}, {
		name:    "report",
		prepare: func(*world) {},
		do:      func(w *world) error { return w.a.Report(w.t.Context(), Status{}) },
		breaks:  map[string]func(*world){"owner": otherOwner},
	},
}

func TestEveryWriteIsFenced(t *testing.T) {
	for _, f := range fences {
		t.Run(f.name, func(t *testing.T) {
			t.Run("taken", func(t *testing.T) {
				w := newWorld(t)
				f.prepare(w)
				before := dump(t, w.s)
				must(t, f.do(w))
				if after := dump(t, w.s); maps.Equal(before, after) {
					t.Error("it changed nothing")
				}
			})
			breaks := maps.Clone(f.breaks)
			if !f.anytime {
				breaks["era"] = otherEra
			}
			for name, falsify := range breaks {
				t.Run("refused "+name, func(t *testing.T) {
					w := newWorld(t)
					f.prepare(w)
					falsify(w)
					expectUnchanged(t, w.s, func() error { return f.do(w) })
				})
			}
		})
	}
}

func TestConfirm(t *testing.T) {
	w := newWorld(t)
	must(t, w.own.Confirm(t.Context()))
	for _, falsify := range []func(*world){otherEra, otherFence, otherOwner} {
		w := newWorld(t)
		falsify(w)
		expectUnchanged(t, w.s, func() error { return w.own.Confirm(t.Context()) })
	}
}

func TestNobodyIsNeverAssigned(t *testing.T) {
	w := newWorld(t)
	for _, to := range []Ref{{}, {Worker: "unknown"}} {
		expectUnchanged(t, w.s, func() error {
			return take(t, w.term, Action{Assign, Range{ID: RangeID{1, 1}}, to})
		})
	}
}

// What no order gave a fence is no ownership, not even of a range that has no owner.
func TestOwnershipWithoutFence(t *testing.T) {
	w := newWorld(t)
	expectUnchanged(t, w.s, func() error { return w.a.Own(Assignment{Range: RangeID{1, 1}}).Release(t.Context()) })
	w.requested()
	w.request.Fence = 0
	expectUnchanged(t, w.s, func() error {
		_, err := w.term.OpenSlots(t.Context(), w.budget, Grant{w.request, RangeID{1, 1}, w.slot})
		return err
	})
}

// A range whose owner record names no incarnation is nobody's, whether or not the worker it names lives.
func TestOwnerWithoutIncarnationIsReplaced(t *testing.T) {
	w := newWorld(t)
	for _, named := range []string{"a", "unknown"} {
		w.write(w.s.keys.owner(theRange), `{"worker":"`+named+`"}`)
		w.look()
		must(t, take(t, w.term, Action{Assign, w.rng, w.b.Ref()}))
	}
}
