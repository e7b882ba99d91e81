package coordinator

import (
	"maps"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// An order to drain is about one incarnation of a worker.
func TestDrained(t *testing.T) {
	a, b := lease.Worker{ID: "a", Incarnation: 1}, lease.Worker{ID: "b", Incarnation: 2}
	state := &lease.Cluster{Workers: map[string]lease.Worker{"a": a, "b": b}}
	for name, c := range map[string]struct {
		drains map[string]lease.Drain
		want   map[lease.Ref]bool
	}{
		"nothing is ordered":  {nil, map[lease.Ref]bool{}},
		"one":                 {map[string]lease.Drain{"a": {Incarnation: 1}}, map[lease.Ref]bool{a.Ref(): true}},
		"another incarnation": {map[string]lease.Drain{"a": {Incarnation: 2}}, map[lease.Ref]bool{}},
		"an unknown worker":   {map[string]lease.Drain{"z": {Incarnation: 0}}, map[lease.Ref]bool{}},
	} {
		state.Directives.Drains = c.drains
		if got := drained(state); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// moves counts the ranges that are to be handed over, by whom to.
func moves(c *lease.Cluster) map[string]int {
	n := map[string]int{}
	for _, r := range c.Ranges {
		if r.Move != nil {
			n[r.Move.To.Worker]++
		}
	}
	return n
}

// handOver has the owner of every range that moves hand it over.
func (o *office) handOver(workers ...*lease.Registration) {
	o.t.Helper()
	for _, r := range o.fresh().Ranges {
		for _, w := range workers {
			if r.Move != nil && r.Owner == w.Ref() {
				must(o.t, w.Own(order(r)).HandOver(o.t.Context(), order(r)))
			}
		}
	}
}

// A worker that is drained by order gives everything away and is given nothing more, though it lives; and when there is nobody else
// it keeps what it has.
func TestDrainByOrder(t *testing.T) {
	o := newOffice(t, 4, 1, 100)
	must(t, o.store.DirectDrain(t.Context(), o.a.Ref(), time.Time{}))
	o.pass(time.Minute)
	if o.act(); len(moves(o.fresh())) != 0 {
		t.Errorf("with nobody to take over, moves are %v", moves(o.fresh()))
	}
	b := register(t, o.store, "b")
	o.act()
	if got := moves(o.fresh()); got["b"] != 4 {
		t.Errorf("moves are %v", got)
	}
	o.handOver(o.a)
	o.pass(time.Minute)
	o.act()
	if c := o.fresh(); owners(c)["b"] != 4 || len(moves(c)) != 0 || len(c.Directives.Drains) != 1 {
		t.Errorf("owners are %v, moves %v, drains %v", owners(c), moves(c), c.Directives.Drains)
	}
	must(t, o.store.EndDrain(t.Context(), "a"))
	o.act()
	if got := moves(o.fresh()); got["a"] != 2 {
		t.Errorf("when the drain was taken back, moves are %v", got)
	}
	must(t, b.Leave(t.Context()))
}

// A drain ends with its incarnation. The next of the same worker is not meant.
func TestDrainEndsWithItsIncarnation(t *testing.T) {
	o := newOffice(t, 2, 1, 100)
	b, c := register(t, o.store, "b"), register(t, o.store, "c")
	for _, r := range []*lease.Registration{o.a, b, c} {
		must(t, o.store.DirectDrain(t.Context(), r.Ref(), time.Time{}))
	}
	must(t, b.Leave(t.Context()))
	must(t, c.Leave(t.Context()))
	register(t, o.store, "c")
	o.act()
	if drains := o.fresh().Directives.Drains; len(drains) != 1 || drains["a"].Incarnation != o.a.Ref().Incarnation {
		t.Errorf("drains are %v", drains)
	}
}

// An order to rebalance stands while there is something to do, and a new leader goes on with it.
func TestRebalanceByOrder(t *testing.T) {
	o := newOffice(t, 4, 1, 100)
	ordered := func() bool { return o.fresh().Directives.Rebalance != nil }
	must(t, o.store.Direct(t.Context(), lease.Rebalance{}))
	if o.act(); ordered() {
		t.Error("with nothing to do, the order stands")
	}
	b := register(t, o.store, "b")
	must(t, o.store.Direct(t.Context(), lease.Rebalance{}))
	if o.act(); !ordered() {
		t.Error("while it is waited for, the order is gone")
	}
	o.pass(balanceSettle)
	if o.act(); !ordered() || moves(o.fresh())["b"] == 0 {
		t.Errorf("ordered: %v, moves are %v", ordered(), moves(o.fresh()))
	}
	if o.act(); !ordered() {
		t.Error("while ranges move, the order is gone")
	}
	o.lead.term.Resign()
	o.elect(Config{ID: "next", Store: o.store, Logger: quiet})
	for range 4 {
		o.handOver(o.a, b)
		o.pass(balanceSettle)
		o.act()
	}
	if ordered() || owners(o.fresh())["b"] != 2 {
		t.Errorf("in the end, ordered: %v, owners are %v", ordered(), owners(o.fresh()))
	}
}

// While the cluster is down nobody identifies, whoever leads.
func TestDownStopsGrants(t *testing.T) {
	o := newOffice(t, 1, 1, 100)
	must(t, o.store.Direct(t.Context(), lease.Down{}))
	o.request(0, true)
	o.act()
	o.lead.term.Resign()
	o.elect(Config{ID: "next", Store: o.store, Logger: quiet})
	o.told(1, 100)
	o.act()
	o.pass(time.Hour)
	o.act()
	if slots := o.fresh().Slots; len(slots) != 0 {
		t.Fatalf("slots opened while down: %v", slots)
	}
	must(t, o.store.EndDown(t.Context()))
	o.act()
	o.expectSlot(0, lease.SlotOpen, 0)
}
