package coordinator

import (
	"maps"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

func TestRedisCut(t *testing.T) {
	now := time.Now()
	fine, failing := lease.Status{}, lease.Status{RedisFailing: true}
	ago, short := now.Add(-redisCutAfter), now.Add(-redisCutAfter+time.Second)
	tests := map[string]struct {
		statuses map[string]lease.Status
		since    map[string]time.Time
		draining string
		cut      []string
		again    time.Time
	}{
		"all is well":                     {statuses: map[string]lease.Status{"a": fine, "b": fine}},
		"one fails":                       {statuses: map[string]lease.Status{"a": failing, "b": fine}, since: map[string]time.Time{"a": ago}, cut: []string{"a"}},
		"one fails, not for long":         {statuses: map[string]lease.Status{"a": failing, "b": fine}, since: map[string]time.Time{"a": short}, again: now.Add(time.Second)},
		"two of three fail":               {statuses: map[string]lease.Status{"a": failing, "b": failing, "c": fine}, since: map[string]time.Time{"a": ago, "b": ago}, cut: []string{"a", "b"}},
		"redis is away":                   {statuses: map[string]lease.Status{"a": failing, "b": failing, "c": failing}, since: map[string]time.Time{"a": ago, "b": ago, "c": short}},
		"the only one fails":              {statuses: map[string]lease.Status{"a": failing}, since: map[string]time.Time{"a": ago}},
		"of the other nothing is known":   {statuses: map[string]lease.Status{"a": failing}, since: map[string]time.Time{"a": ago}},
		"the other drains":                {statuses: map[string]lease.Status{"a": failing, "b": fine}, since: map[string]time.Time{"a": ago}, draining: "b"},
		"a third could take what is left": {statuses: map[string]lease.Status{"a": failing, "b": fine, "c": fine}, since: map[string]time.Time{"a": ago}, draining: "b", cut: []string{"a"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			workers, since := map[string]lease.Worker{}, map[lease.Ref]time.Time{}
			for i, id := range []string{"a", "b", "c"} {
				w := lease.Worker{ID: id, Incarnation: int64(i) + 1, Draining: id == tt.draining}
				workers[id] = w
				if at, ok := tt.since[id]; ok {
					since[w.Ref()] = at
				}
			}
			want := map[string]bool{}
			for _, id := range tt.cut {
				want[id] = true
			}
			cut, again := redisCut(workers, tt.statuses, since, now)
			if !maps.Equal(cut, want) || !again.Equal(tt.again) {
				t.Errorf("cut off are %v, again at %v", cut, again)
			}
		})
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
	l := &leader{}
	state := &lease.Cluster{Workers: map[string]lease.Worker{}, Status: map[string]lease.Status{}}
	for i, id := range []string{"a", "b", "c"} {
		state.Workers[id] = lease.Worker{ID: id, Incarnation: int64(i + 1)}
		state.Status[id] = lease.Status{RedisFailing: true}
	}
	cut := func() int {
		l.sight(state, now)
		cut, _ := redisCut(state.Workers, state.Status, l.failing, now)
		return len(cut)
	}
	for range 60 {
		if cut() != 0 {
			t.Fatal("cut off while redis is away")
		}
		now = now.Add(time.Second)
	}
	state.Status["a"] = lease.Status{}
	for range redisCutAfter/time.Second - 1 {
		if cut() != 0 {
			t.Fatal("cut off as soon as redis is back")
		}
		now = now.Add(time.Second)
	}
	if n := cut(); n != 2 {
		t.Errorf("%d workers cut off, want 2", n)
	}
}
