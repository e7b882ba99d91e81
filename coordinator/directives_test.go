package coordinator

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

func TestWithDrains(t *testing.T) {
	for name, c := range map[string]struct {
		drains   map[string]int64 // incarnations
		leaving  string
		failing  string
		draining []string
	}{
		"nothing is ordered":              {},
		"one of three":                    {drains: map[string]int64{"a": 1}, draining: []string{"a"}},
		"two of three":                    {drains: map[string]int64{"a": 1, "b": 2}, draining: []string{"a", "b"}},
		"another incarnation":             {drains: map[string]int64{"a": 2}},
		"an unknown worker":               {drains: map[string]int64{"z": 0}},
		"all: nobody could take over":     {drains: map[string]int64{"a": 1, "b": 2, "c": 3}},
		"the others leave":                {drains: map[string]int64{"a": 1, "b": 2}, leaving: "c", draining: []string{"c"}},
		"the other cannot write to redis": {drains: map[string]int64{"a": 1, "b": 2}, failing: "c"},
		"one that cannot write to redis":  {drains: map[string]int64{"a": 1}, failing: "a", draining: []string{"a"}},
		"beside one that leaves":          {drains: map[string]int64{"a": 1}, leaving: "b", draining: []string{"a", "b"}},
	} {
		state := &lease.Cluster{
			Workers: map[string]lease.Worker{}, Status: map[string]lease.Status{c.failing: {RedisFailing: true}},
			Directives: lease.Directives{Drains: map[string]lease.Drain{}},
		}
		for i, id := range []string{"a", "b", "c"} {
			state.Workers[id] = lease.Worker{ID: id, Incarnation: int64(i + 1), Draining: id == c.leaving}
		}
		for id, incarnation := range c.drains {
			state.Directives.Drains[id] = lease.Drain{Incarnation: incarnation}
		}
		before := maps.Clone(state.Workers)
		var draining []string
		for id, w := range withDrains(state) {
			if w.Draining {
				draining = append(draining, id)
			}
		}
		if slices.Sort(draining); !slices.Equal(draining, c.draining) {
			t.Errorf("%s: %v drain, want %v", name, draining, c.draining)
		}
		if !maps.Equal(state.Workers, before) {
			t.Errorf("%s: it changed the state", name)
		}
	}
}

func TestEven(t *testing.T) {
	rests := map[lease.RangeID]lease.Range{{Generation: 1}: {Fence: 1}}
	moves := map[lease.RangeID]lease.Range{{Generation: 1}: {Fence: 1}, {Generation: 1, Index: 1}: {Fence: 2, Move: &lease.Move{}}}
	for name, c := range map[string]struct {
		ranges  map[lease.RangeID]lease.Range
		decided decision
		want    bool
	}{
		"nothing to do":         {ranges: rests, want: true},
		"a range moves":         {ranges: moves},
		"a range is to move":    {ranges: rests, decided: decision{actions: make([]lease.Action, 1)}},
		"it will be thought of": {ranges: rests, decided: decision{again: epoch}},
		"a range has no owner":  {ranges: rests, decided: decision{unassigned: 1}},
	} {
		if got := even(&lease.Cluster{Ranges: c.ranges}, c.decided); got != c.want {
			t.Errorf("%s: %v", name, got)
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
