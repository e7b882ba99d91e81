package lease

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

// fakeClock is the time of a registration, set by its test.
type fakeClock struct{ now atomic.Int64 }

func (c *fakeClock) read() time.Duration { return time.Duration(c.now.Load()) }
func (c *fakeClock) set(d time.Duration) { c.now.Store(int64(d)) }

// onFakeTime puts a registration that is not kept yet on a clock of its own, on which it has never been renewed.
func onFakeTime(r *Registration) *fakeClock {
	clock := &fakeClock{}
	r.clock, r.trust = clock.read, trust{ttl: r.ttl}
	return clock
}

func TestRegisterRefuses(t *testing.T) {
	s := newStore(t)
	if _, err := s.Register(t.Context(), Worker{ID: "a"}, MinTTL-1); err == nil || !strings.Contains(err.Error(), "TTL") {
		t.Errorf("a TTL below the minimum: %v", err)
	}
	if _, err := s.Register(t.Context(), Worker{ID: "a/b"}, MinTTL); err == nil || !strings.Contains(err.Error(), "worker id") {
		t.Errorf("an id with a slash: %v", err)
	}
	first := register(t, s, "a")
	before := dump(t, s)
	if _, err := s.Register(t.Context(), Worker{ID: "a"}, MinTTL); !errors.Is(err, ErrIDInUse) {
		t.Errorf("the id of a live worker: %v", err)
	}
	if after := dump(t, s); len(after) != len(before) {
		t.Errorf("the refused registration left %v", after)
	}
	must(t, first.Leave(t.Context()))
	if second := register(t, s, "a"); second.Ref().Incarnation <= first.Ref().Incarnation {
		t.Errorf("incarnation %d after %d", second.Ref().Incarnation, first.Ref().Incarnation)
	}
}

func TestRegistrationTakesItsKeysAlong(t *testing.T) {
	w := newWorld(t)
	w.granted() // the grant is written by the leader, and must hang on the worker's lease all the same
	must(t, w.a.Drain(t.Context()))
	must(t, w.a.Report(t.Context(), Status{Events: 7}))
	must(t, w.a.Halt(t.Context(), Halt{Reason: "test"}))
	must(t, w.a.Refuse(t.Context(), Refusal{Generation: 1, Code: 4010}))
	must(t, w.a.Refuse(t.Context(), Refusal{Generation: 2, Code: 4011}))
	c := state(t, w.s)
	if worker := c.Workers["a"]; !worker.Draining || worker.Ref() != w.a.Ref() || worker.UUID != "a" {
		t.Errorf("the draining worker is %+v", worker)
	}
	if c.Status["a"].Events != 7 || c.Halts["a"].Reason != "test" || c.Refusals[RefusalID{"a", 1}].Code != 4010 ||
		c.Refusals[RefusalID{"a", 2}].Code != 4011 || len(c.Requests) != 1 {
		t.Errorf("the cluster is %+v", c)
	}
	must(t, w.a.Leave(t.Context()))
	must(t, w.a.Leave(t.Context())) // gone already is gone
	c = state(t, w.s)
	if _, ok := c.Workers["a"]; ok || len(c.Status)+len(c.Halts)+len(c.Refusals)+len(c.Requests) != 0 {
		t.Errorf("after it left the cluster is %+v", c)
	}
	if c.Ranges[theRange].Owner != w.a.Ref() {
		t.Error("its range has another owner before the leader gave it one")
	}
}

func TestTrustCountsFromSending(t *testing.T) {
	r := register(t, newStore(t), "a")
	now := 100 * time.Second
	r.clock = func() time.Duration { // the answer comes three seconds after the request
		defer func() { now += 3 * time.Second }()
		return now
	}
	r.trust = trust{ttl: r.ttl}
	must(t, r.renew(t.Context()))
	if want := 100*time.Second + r.ttl - trustMargin; r.trust.until != want {
		t.Errorf("trusted until %v, want %v", r.trust.until, want)
	}
}

func TestTrustDuringAnOutage(t *testing.T) {
	t.Parallel()
	own := etcdtest.Start(t)
	s := storeAt(t, own.Endpoints(), "c")
	r := register(t, s, "a") // for longer than the outage can last, on however slow a machine
	clock := onFakeTime(r)
	clock.set(100 * time.Second)
	must(t, r.renew(t.Context()))
	end := 100*time.Second + r.ttl - trustMargin

	own.Stop()
	clock.set(end - 1)
	if !r.Trusted() {
		t.Error("not trusted just before the lease may expire")
	}
	if err := r.AwaitTrust(t.Context()); err != nil {
		t.Errorf("await trust while trusted: %v", err)
	}
	clock.set(end)
	if r.Trusted() {
		t.Error("trusted when the lease may have expired")
	}
	reason := errors.New("reason")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if err := r.AwaitTrust(ctx); !errors.Is(err, reason) {
		t.Errorf("await trust ended with %v, want the context's cause", err)
	}

	r.ttl = MinTTL // or it would be renewed after a quarter of a minute only
	ctx, stop := context.WithCancel(t.Context())
	kept, trusted := make(chan error, 1), make(chan error, 1)
	go func() { kept <- r.Keep(ctx) }()
	go func() { trusted <- r.AwaitTrust(ctx) }()
	own.Restart()
	if err := <-trusted; err != nil || !r.Trusted() {
		t.Errorf("after the outage: %v, trusted %v", err, r.Trusted())
	}
	stop()
	if err := <-kept; err != nil {
		t.Errorf("keep ended with %v, want nil with its context", err)
	}
}

func TestKeepSaysThatTheRegistrationIsLost(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := register(t, s, "a")
	clock := onFakeTime(r)
	must(t, r.renew(t.Context()))
	_, err := s.client.Revoke(t.Context(), r.lease)
	must(t, err)
	r.ttl = MinTTL // or that would be noticed after a quarter of a minute only
	if err := r.Keep(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("keep ended with %v", err)
	}
	clock.set(1)
	if r.Trusted() {
		t.Error("trusted though lost")
	}
}

func TestNotTrustedOnceItLeft(t *testing.T) {
	r := register(t, newStore(t), "a")
	if !r.Trusted() {
		t.Error("a fresh registration is not trusted")
	}
	must(t, r.Leave(t.Context()))
	if r.Trusted() {
		t.Error("trusted though it left")
	}
}

func TestBury(t *testing.T) {
	s := newStore(t)
	r, err := s.Register(t.Context(), Worker{ID: "a", Lock: "x"}, time.Minute)
	must(t, err)
	must(t, r.Report(t.Context(), Status{}))
	heldBy := func(lock string) func(Worker) bool {
		return func(w Worker) bool {
			if w.Ref() != r.Ref() {
				t.Errorf("asked about %+v", w)
			}
			return w.Lock == lock
		}
	}
	for id, lock := range map[string]string{"a": "y", "unknown": "x"} {
		if buried, err := s.Bury(t.Context(), id, heldBy(lock)); buried || err != nil {
			t.Errorf("worker %s with lock %s: %v, %v", id, lock, buried, err)
		}
	}
	if c := state(t, s); c.Workers["a"].Ref() != r.Ref() {
		t.Error("a worker was buried that is not dead")
	}
	if buried, err := s.Bury(t.Context(), "a", heldBy("x")); !buried || err != nil {
		t.Errorf("the dead one: %v, %v", buried, err)
	}
	if c := state(t, s); len(c.Workers) > 0 || len(c.Status) > 0 {
		t.Errorf("left are %+v, %+v", c.Workers, c.Status)
	}
	register(t, s, "a")
}

// Whoever registers while a predecessor is buried is not buried in its place.
func TestBuryIsAboutOneIncarnation(t *testing.T) {
	s := newStore(t)
	first, err := s.Register(t.Context(), Worker{ID: "a", Lock: "x"}, time.Minute)
	must(t, err)
	var second *Registration
	_, err = s.Bury(t.Context(), "a", func(Worker) bool {
		must(t, first.Leave(t.Context()))
		second, err = s.Register(t.Context(), Worker{ID: "a", Lock: "x"}, time.Minute)
		must(t, err)
		return true
	})
	must(t, err)
	if c := state(t, s); c.Workers["a"].Ref() != second.Ref() {
		t.Errorf("workers are %+v", c.Workers)
	}
	must(t, second.renew(t.Context()))
}
