package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// newMuted is a muted attempt without a session.
func newMuted() *mutedAttempt {
	r := &runner{in: &incarnation{worker: &Worker{metrics: &metrics{}}, log: hclog.NewNullLogger()}}
	return &mutedAttempt{attempt: &attempt{runner: r, muted: true}}
}

// A session that was begun can be gone on with from a point that everything after some moment comes after, once that moment lies after
// its READY; and from no later one.
func TestMutedPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMuted()
		m.setEpoch(3)
		expect := func(ago time.Duration, want int64, ok bool) {
			t.Helper()
			id, got := m.at(time.Now().Add(-ago))
			if got != ok || ok && id != (stream.ID{Epoch: 3, Seq: want}) {
				t.Errorf("%v ago: %v, %v; want %d, %v", ago, id, got, want, ok)
			}
		}
		expect(0, 0, false) // it has not begun
		m.began, m.base = time.Now(), 1
		expect(0, 1, true)
		expect(time.Nanosecond, 0, false)
		for seq := int64(1); seq <= 300; seq++ { // ten a second
			if err := m.deliver(t.Context(), shard.Event{Seq: seq}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, ago := range []time.Duration{0, time.Second, 10 * time.Second, 2 * overlap} {
			id, ok := m.at(time.Now().Add(-ago))
			came := 300 - 10*int64(ago/time.Second) // had come before
			if !ok || id.Seq > came+1 || id.Seq < came-10 {
				t.Errorf("%v ago: %v, %v; %d had come", ago, id, ok, came)
			}
		}
		if n := len(m.trail); n > 22 {
			t.Errorf("%d points are kept", n)
		}
	})
}

// A session that was resumed from its note is as good as that at once; without a note it is as if it had begun when it was live.
func TestMutedPointAfterResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMuted()
		m.base, m.noted = 17, true
		m.observe(shard.Status{State: shard.StateLive})
		if id, ok := m.at(time.Now().Add(-time.Hour)); !ok || id.Seq != 17 {
			t.Errorf("with a note: %v, %v", id, ok)
		}
		m = newMuted()
		m.base = 1
		m.observe(shard.Status{State: shard.StateResuming})
		if _, ok := m.at(time.Now()); ok {
			t.Error("before it is live")
		}
		m.observe(shard.Status{State: shard.StateLive})
		time.Sleep(overlap)
		if id, ok := m.at(time.Now().Add(-overlap)); !ok || id.Seq != 1 {
			t.Errorf("without a note: %v, %v", id, ok)
		}
		if _, ok := m.at(time.Now().Add(-overlap - 1)); ok {
			t.Error("without a note, before it was live")
		}
	})
}

// A note that was written for another session of the shard makes none ready.
func TestMutedNoteOfAnotherSession(t *testing.T) {
	m := newMuted()
	m.setEpoch(3)
	m.wasNoted(2)
	if m.isNoted() {
		t.Error("it is ready by another's note")
	}
	m.wasNoted(3)
	if !m.isNoted() {
		t.Error("it is not ready by its own")
	}
}
