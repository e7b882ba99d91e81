package shard

import (
	"context"
	"testing"
)

// TestDeliverReturningIsLife: when Deliver returns just before a heartbeat is due, Discord's answers lie unread in the
// socket, and the connection must not be taken for dead.
func TestDeliverReturningIsLife(t *testing.T) {
	c := &conn{reader: &reader{cfg: &Config{Deliver: func(context.Context, Event) error { return nil }}, position: new(position)}}
	if c.tick().heard {
		t.Fatal("heard something out of nothing")
	}
	if err := c.reader.hand(t.Context(), frame{seq: 1}, "X", stageLive); err != nil {
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
	r.run(t.Context())
	if _, open := <-out; open || r.seen.end != nil {
		t.Fatalf("the reader ended with %v", r.seen.end)
	}
}
