package shard

import (
	"context"
	"errors"
	"testing"
)

// TestDeliverReturningIsLife: when Deliver returns just before a heartbeat is due, Discord's answers lie unread in the
// socket, and the connection must not be taken for dead.
func TestDeliverReturningIsLife(t *testing.T) {
	c := &conn{reader: &reader{to: audience{
		ctx: t.Context(), cfg: &Config{Deliver: func(context.Context, Event) error { return nil }}, position: new(position),
	}}}
	if c.tick().heard {
		t.Fatal("heard something out of nothing")
	}
	if err := c.reader.hand(frame{seq: 1}, "X", stageLive); err != nil {
		t.Fatal(err)
	}
	if in := c.tick(); !in.heard || !in.dispatched {
		t.Fatalf("the time in Deliver counts as silence: %+v", in)
	}
	if c.tick().heard {
		t.Fatal("heard the same twice")
	}
}

// TestQuitStopsBetweenMessages: a reader that is told to quit does not touch the socket again.
func TestQuitStopsBetweenMessages(t *testing.T) {
	out := make(chan input)
	r := &reader{unpack: plainInflater{}, out: out} // without a socket, reading would panic
	r.quit.Store(true)
	r.run()
	if _, open := <-out; open || r.seen.end != nil {
		t.Fatalf("the reader ended with %v", r.seen.end)
	}
}

// TestNobodysDispatch: before IDENTIFY or RESUME a dispatch is nobody's, and whose the next will be is not the reader's to look at: a
// session may be taking a standby's connection over.
func TestNobodysDispatch(t *testing.T) {
	r := &reader{types: map[string]string{}}
	var trouble *brokenError
	if err := r.dispatch(frame{seq: 1, typ: []byte("X")}); !errors.As(err, &trouble) {
		t.Errorf("got %v", err)
	}
}
