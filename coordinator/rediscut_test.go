package coordinator

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

func TestRedisCut(t *testing.T) {
	now := time.Unix(1e9, 0)
	fine, failing := lease.Status{}, lease.Status{RedisFailing: true}
	short, long := redisWay{failing: now.Add(-time.Second)}, redisWay{failing: now.Add(-time.Minute), cut: true}
	back := redisWay{cut: true, well: now.Add(-time.Second)}
	type statuses = map[string]lease.Status
	type ways = map[string]redisWay
	due, well := now.Add(redisCutAfter-time.Second), now.Add(redisWellAfter-time.Second)
	for name, tt := range map[string]struct {
		statuses statuses
		ways     ways
		draining string
		ordered  string // to drain
		cut      []string
		again    time.Time
	}{
		"all is well":                     {statuses: statuses{"a": fine, "b": fine}},
		"one fails":                       {statuses: statuses{"a": failing, "b": fine}, ways: ways{"a": long}, cut: []string{"a"}},
		"one fails, not for long":         {statuses: statuses{"a": failing, "b": fine}, ways: ways{"a": short}, again: due},
		"two of three fail":               {statuses: statuses{"a": failing, "b": failing, "c": fine}, ways: ways{"a": long, "b": long}, cut: []string{"a", "b"}},
		"redis is away":                   {statuses: statuses{"a": failing, "b": failing, "c": failing}, ways: ways{"a": long, "b": long, "c": short}},
		"the only one fails":              {statuses: statuses{"a": failing}, ways: ways{"a": long}},
		"of the other nothing is known":   {statuses: statuses{"a": failing}, ways: ways{"a": long}},
		"the other drains":                {statuses: statuses{"a": failing, "b": fine}, ways: ways{"a": long}, draining: "b"},
		"the other is to drain":           {statuses: statuses{"a": failing, "b": fine}, ways: ways{"a": long}, ordered: "b"},
		"a third could take what is left": {statuses: statuses{"a": failing, "b": fine, "c": fine}, ways: ways{"a": long}, draining: "b", cut: []string{"a"}},
		"it is back":                      {statuses: statuses{"a": fine, "b": fine}, ways: ways{"a": back}, cut: []string{"a"}, again: well},
		"it is back, and nobody else is":  {statuses: statuses{"a": fine}, ways: ways{"a": back}},
		"it is back, and the other fails": {statuses: statuses{"a": fine, "b": failing}, ways: ways{"a": back, "b": long}, cut: []string{"b"}},
		"both are back":                   {statuses: statuses{"a": fine, "b": fine}, ways: ways{"a": back, "b": back}},
	} {
		t.Run(name, func(t *testing.T) {
			state, seen := &lease.Cluster{Workers: map[string]lease.Worker{}, Status: tt.statuses}, map[lease.Ref]redisWay{}
			state.Directives.Drains = map[string]lease.Drain{}
			for i, id := range []string{"a", "b", "c"} {
				w := lease.Worker{ID: id, Incarnation: int64(i) + 1, Draining: id == tt.draining}
				state.Workers[id] = w
				if way, ok := tt.ways[id]; ok {
					seen[w.Ref()] = way
				}
				if id == tt.ordered {
					state.Directives.Drains[id] = lease.Drain{Incarnation: w.Incarnation}
				}
			}
			want := map[string]bool{}
			for _, id := range tt.cut {
				want[id] = true
			}
			cut, again := redisCut(state, seen)
			if !maps.Equal(cut, want) || !again.Equal(tt.again) {
				t.Errorf("cut off are %v, again at %v", cut, again)
			}
		})
	}
}

// A worker whose connection comes and goes loses its ranges once, and is given some when it has been well for a while.
func TestRedisComesAndGoes(t *testing.T) {
	now := time.Unix(1e9, 0)
	began := now
	a, b := lease.Worker{ID: "a", Incarnation: 1}, lease.Worker{ID: "b", Incarnation: 2}
	state := &lease.Cluster{Workers: map[string]lease.Worker{"a": a, "b": b}, Status: map[string]lease.Status{"b": {}}}
	l := &leader{sightings: &sightings{}}
	var changes []time.Duration // when it was cut off, was not any more, and so on
	was := false
	live := func(d time.Duration, failing bool) {
		state.Status["a"] = lease.Status{RedisFailing: failing}
		for range d / time.Second {
			l.sight(state, now)
			if cut, _ := redisCut(state, l.redisWays); cut["a"] != was {
				was = cut["a"]
				changes = append(changes, now.Sub(began))
			}
			now = now.Add(time.Second)
		}
	}
	for range 10 { // too short to be cut off
		live(redisCutAfter-time.Second, true)
		live(time.Second, false)
	}
	if len(changes) > 0 {
		t.Errorf("cut off after %v, though never for long", changes)
	}
	began = now
	for range 10 {
		live(redisCutAfter+5*time.Second, true)
		live(redisWellAfter-time.Second, false)
	}
	live(redisWellAfter+time.Second, false)
	wellSince := 10*(redisCutAfter+5*time.Second) + 9*(redisWellAfter-time.Second)
	if want := []time.Duration{redisCutAfter, wellSince + redisWellAfter}; !slices.Equal(changes, want) {
		t.Errorf("cut off, and not, after %v, want %v", changes, want)
	}
	if len(l.redisWays) > 0 {
		t.Errorf("of %v something is remembered", l.redisWays)
	}
}

// Who is cut off loses its ranges to those who are not, and is given none.
func TestPlanMovesRangesOffAWorkerThatIsCutOff(t *testing.T) {
	s := newScene(3).worker("a", long).worker("b", long).worker("c", long).owned(0, "a", "a", "b")
	s.cut = map[string]bool{"a": true}
	if got, want := spell(plan(s.snapshot)), "intend 0 c, intend 1 b"; got != want {
		t.Errorf("decided %q, want %q", got, want)
	}
	s = newScene(1).worker("a", long).worker("b", long)
	s.cut = map[string]bool{"a": true}
	if got, want := spell(plan(s.snapshot)), "assign 0 b"; got != want {
		t.Errorf("decided %q, want %q", got, want)
	}
}

// The leader counts by its own clock, from when it first saw a worker fail.
func TestLeaderMovesRangesOffAWorkerThatIsCutOff(t *testing.T) {
	o := newOffice(t, 2, 1, 100)
	b := register(t, o.store, "b")
	var again time.Time
	act := func(failing bool) (moves int) {
		t.Helper()
		must(t, b.Report(t.Context(), lease.Status{}))
		o.fresh()
		state := o.watch.until("b's status", func(c *lease.Cluster) bool { _, ok := c.Status["b"]; return ok })
		state.Status["a"] = lease.Status{RedisFailing: failing}
		var err error
		again, err = o.lead.act(t.Context(), state, o.now)
		must(t, err)
		for _, r := range o.fresh().Ranges {
			if r.Move != nil && r.Move.To.Worker == "b" {
				moves++
			}
		}
		return moves
	}
	o.lead.joined[b.Ref()] = o.now // so that nothing is moved for balance
	act(true)
	o.pass(redisCutAfter / 4)
	if moves := act(false); moves > 0 { // it has recovered, so the clock begins anew
		t.Fatalf("%d ranges move", moves)
	}
	o.lead.joined[b.Ref()] = o.now
	act(true)
	o.lead.joined[b.Ref()] = o.now.Add(redisCutAfter)
	o.pass(redisCutAfter - 1)
	if moves := act(true); moves > 0 {
		t.Fatalf("%d ranges move too early", moves)
	}
	if !again.Equal(o.now.Add(1)) {
		t.Errorf("the leader acts again at %v, at %v something is due", again, o.now.Add(1))
	}
	o.pass(1)
	if moves := act(true); moves != 2 {
		t.Errorf("%d ranges move, want both", moves)
	}
}

// When Redis was away from everybody, the first worker to notice that it is back does not make the others cut off; they are only if they
// still cannot write some time after it could.
func TestRedisComesBack(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := &leader{sightings: &sightings{}}
	state := &lease.Cluster{Workers: map[string]lease.Worker{}, Status: map[string]lease.Status{}}
	for i, id := range []string{"a", "b", "c"} {
		state.Workers[id] = lease.Worker{ID: id, Incarnation: int64(i + 1)}
		state.Status[id] = lease.Status{RedisFailing: true}
	}
	cut := func() int {
		l.sight(state, now)
		cut, _ := redisCut(state, l.redisWays)
		return len(cut)
	}
	for range 60 {
		if cut() != 0 {
			t.Fatal("cut off while redis is away")
		}
		now = now.Add(time.Second)
	}
	now = now.Add(redisCutAfter - 2*time.Second) // the leader looks when it is told something, and that is not every second
	state.Status["a"] = lease.Status{}
	for range redisCutAfter / time.Second {
		if cut() != 0 {
			t.Fatal("cut off as soon as redis is back")
		}
		now = now.Add(time.Second)
	}
	if n := cut(); n != 2 {
		t.Errorf("%d workers cut off, want 2", n)
	}
}
