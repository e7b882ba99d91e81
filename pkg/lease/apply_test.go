package lease

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

// assignments gives n ranges that never had an owner to a worker.
func assignments(n int, to Ref) []Action {
	actions := make([]Action, n)
	for i := range actions {
		actions[i] = Action{Kind: Assign, Range: Range{ID: RangeID{1, i}}, To: to}
	}
	return actions
}

func TestApplyTakesEveryStepByItself(t *testing.T) {
	s := newStore(t)
	term, a := lead(t, s), register(t, s, "a")
	actions := assignments(3*maxActionsPerTxn+1, a.Ref())
	stale := []int{0, 7, maxActionsPerTxn, len(actions) - 1}
	for _, i := range stale {
		actions[i].Range.Fence = 1
	}
	taken, revision, err := term.Apply(t.Context(), actions)
	must(t, err)
	var want []Action
	for i, action := range actions {
		if !slices.Contains(stale, i) {
			want = append(want, action)
		}
	}
	if !slices.Equal(taken, want) {
		t.Errorf("taken are %v", taken)
	}
	c := state(t, s)
	if len(c.Ranges) != len(want) {
		t.Errorf("%d ranges have an owner, want %d", len(c.Ranges), len(want))
	}
	var last int64 // not the cluster's revision: in the server that tests share, others' leases expire
	for _, r := range c.Ranges {
		last = max(last, r.Fence)
	}
	if revision != last {
		t.Errorf("revision %d, but the last write made %d", revision, last)
	}
	if got := orders(t, a).Assignments; len(got) != len(want) {
		t.Errorf("the worker sees %d assignments, want %d", len(got), len(want))
	}
}

// A revision that the cluster's followers never see would make the leader wait for it.
func TestApplyReturnsNoRevisionOfOthers(t *testing.T) {
	s := newStore(t)
	term, a := lead(t, s), register(t, s, "a")
	taken, revision, err := term.Apply(t.Context(), []Action{{Kind: Assign, Range: Range{ID: theRange, Fence: 1}, To: a.Ref()}})
	if len(taken) != 0 || revision != 0 || err != nil {
		t.Errorf("got %v, %d, %v; want nothing", taken, revision, err)
	}
}

func TestApplyOfADeposedLeader(t *testing.T) {
	s := newStore(t)
	old, a, b := lead(t, s), register(t, s, "a"), register(t, s, "b")
	depose(t, old)
	next := lead(t, s)
	if next.Number <= old.Number {
		t.Errorf("term %d after term %d", next.Number, old.Number)
	}
	expectUnchanged(t, s, func() error {
		taken, _, err := old.Apply(t.Context(), assignments(2*maxActionsPerTxn, a.Ref()))
		if len(taken) > 0 {
			t.Errorf("taken are %v", taken)
		}
		return err
	})
	must(t, take(t, next, assignments(1, b.Ref())[0]))
}

func TestActionsMoveARange(t *testing.T) {
	w := newWorld(t)
	w.intended()
	if !w.order.HandOver || w.order.To != w.b.Ref() || w.order.Move != w.rng.Move.Revision {
		t.Errorf("the owner is told %+v of move %+v", w.order, w.rng.Move)
	}
	must(t, take(t, w.term, Action{Cancel, w.rng, Ref{}}))
	w.look()
	if w.order.HandOver || w.order.Fence != w.rng.Fence || w.rng.Move != nil {
		t.Errorf("after the cancel the owner is told %+v of %+v", w.order, w.rng)
	}
	w.intended()
	former := w.own
	must(t, former.HandOver(t.Context(), w.order))
	w.expectOwner(w.b)
	if err := former.Release(t.Context()); !errors.Is(err, ErrFenced) {
		t.Errorf("the former owner's release: %v", err)
	}
	must(t, w.b.Own(orders(t, w.b).Assignments[theRange]).Release(t.Context()))
	w.expectOwner(nil)
	must(t, take(t, w.term, Action{Assign, w.rng, w.a.Ref()}))
	w.expectOwner(w.a)
	w.intended()
	must(t, take(t, w.term, Action{Force, w.rng, w.b.Ref()}))
	w.expectOwner(w.b)
}

// A worker that came back under its id gets its ranges back as another incarnation.
func TestAssignToTheNextIncarnation(t *testing.T) {
	w := newWorld(t)
	must(t, w.a.Leave(t.Context()))
	again := register(t, w.s, "a")
	w.look()
	if len(orders(t, again).Assignments) != 0 {
		t.Error("the new incarnation took the old one's assignment for its own")
	}
	must(t, take(t, w.term, Action{Assign, w.rng, again.Ref()}))
	w.expectOwner(again)
}

// Whatever ends a move leaves nobody with a notice of it, and the owner with an assignment.
func TestNoticeEndsWithItsMove(t *testing.T) {
	for name, end := range map[string]func(w *world, c *Registration) (owner *Registration){
		"hand over": func(w *world, _ *Registration) *Registration {
			must(w.t, w.own.HandOver(w.t.Context(), w.order))
			return w.b
		},
		"release": func(w *world, _ *Registration) *Registration {
			must(w.t, w.own.Release(w.t.Context()))
			return nil
		},
		"force": func(w *world, _ *Registration) *Registration {
			must(w.t, take(w.t, w.term, Action{Force, w.rng, w.b.Ref()}))
			return w.b
		},
		"cancel": func(w *world, _ *Registration) *Registration {
			must(w.t, take(w.t, w.term, Action{Cancel, w.rng, Ref{}}))
			return w.a
		},
		"the owner dies, the target gets it": func(w *world, _ *Registration) *Registration {
			must(w.t, w.a.Leave(w.t.Context()))
			must(w.t, take(w.t, w.term, Action{Assign, w.rng, w.b.Ref()}))
			return w.b
		},
		"the owner dies, another gets it": func(w *world, c *Registration) *Registration {
			must(w.t, w.a.Leave(w.t.Context()))
			must(w.t, take(w.t, w.term, Action{Assign, w.rng, c.Ref()}))
			return c
		},
		"the owner dies, and gets it back": func(w *world, _ *Registration) *Registration {
			must(w.t, w.a.Leave(w.t.Context()))
			again := register(w.t, w.s, "a")
			must(w.t, take(w.t, w.term, Action{Assign, w.rng, again.Ref()}))
			return again
		},
		"another worker is forced on it": func(w *world, c *Registration) *Registration {
			must(w.t, take(w.t, w.term, Action{Force, w.rng, c.Ref()}))
			return c
		},
	} {
		for _, ready := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ready %v", name, ready), func(t *testing.T) {
				w := newWorld(t)
				c := register(t, w.s, "c")
				w.intended()
				if w.notice.Owner != w.a.Ref() || w.notice.OwnerFence != w.rng.Fence || w.notice.Move != w.rng.Move.Revision {
					t.Errorf("the target is told %+v of %+v", w.notice, w.rng)
				}
				if ready {
					must(t, w.b.Ready(t.Context(), w.notice))
					w.look()
					if !w.order.Ready || !w.order.HandOver || w.order.Fence != w.rng.Fence || w.order.Move != w.rng.Move.Revision || w.order.To != w.b.Ref() {
						t.Errorf("the owner is told %+v of %+v", w.order, w.rng)
					}
				}
				owner := end(w, c)
				w.expectOwner(owner)
				if owner != c && len(orders(t, c).Assignments)+len(orders(t, c).Notices) > 0 {
					t.Error("worker c has orders")
				}
			})
		}
	}
}

// A range that is retired with a move under way leaves nothing behind.
func TestRetireTakesTheNoticeAlong(t *testing.T) {
	w := newWorld(t)
	w.intended()
	must(t, take(t, w.term, Action{Retire, w.rng, Ref{}}))
	for _, worker := range []*Registration{w.a, w.b} {
		if o := orders(t, worker); len(o.Assignments)+len(o.Notices) > 0 {
			t.Errorf("worker %s still has %+v", worker.ref.Worker, o)
		}
	}
}

// A move whose owner is its target, which no leader should intend, is one record less and not a transaction that etcd refuses.
func TestMoveToTheOwnerItself(t *testing.T) {
	w := newWorld(t)
	must(t, take(t, w.term, Action{Intend, w.rng, w.a.Ref()}))
	w.look()
	if !w.order.HandOver {
		t.Errorf("the owner is told %+v", w.order)
	}
	must(t, take(t, w.term, Action{Cancel, w.rng, Ref{}}))
	w.expectOwner(w.a)
}

// expectOwner checks that the owner key and the assignments agree: owner, and nobody else, has the range.
func (w *world) expectOwner(owner *Registration) {
	w.t.Helper()
	w.look()
	if w.rng.Move != nil {
		w.t.Errorf("the range still has the move %+v", w.rng.Move)
	}
	if owner == nil {
		if w.rng.Owner != (Ref{}) || w.rng.Fence == 0 {
			w.t.Errorf("want nobody as owner and a fence, got %+v", w.rng)
		}
	} else if w.rng.Owner != owner.Ref() {
		w.t.Errorf("the owner is %+v, want %+v", w.rng.Owner, owner.Ref())
	}
	for _, worker := range []*Registration{w.a, w.b, owner} {
		if worker == nil || worker != owner && owner != nil && worker.ref.Worker == owner.ref.Worker {
			continue
		}
		assigned := orders(w.t, worker).Assignments
		order, has := assigned[theRange]
		if notices := orders(w.t, worker).Notices; len(notices) > 0 {
			w.t.Errorf("worker %s still has the notices %+v", worker.ref.Worker, notices)
		}
		if has != (worker == owner) || has && (order.Fence != w.rng.Fence || order.HandOver) {
			w.t.Errorf("worker %s has the orders %+v, the range is %+v", worker.ref.Worker, assigned, w.rng)
		}
	}
}
