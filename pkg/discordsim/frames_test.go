package discordsim

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A close frame is found among others of every length, however they are cut; what is in a payload is none.
func TestFrames(t *testing.T) {
	frame := func(opcode byte, n int) []byte {
		head := []byte{0x80 | opcode, byte(n)}
		switch {
		case n > 0xffff:
			head = []byte{0x80 | opcode, 127, 0, 0, 0, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
		case n > 125:
			head = []byte{0x80 | opcode, 126, byte(n >> 8), byte(n)}
		}
		return append(head, bytes.Repeat([]byte{0x88}, n)...)
	}
	var others []byte
	for _, n := range []int{0, 1, 125, 126, 0xffff, 0x10000, 3} {
		others = append(others, frame(1, n)...)
		others = append(others, frame(2, n)...)
	}
	others = append(others, frame(10, 2)...)
	for _, cut := range []int{1, 2, 3, 7, 4096, len(others)} {
		var f frames
		for rest := others; len(rest) > 0; rest = rest[min(cut, len(rest)):] {
			if f.closes(rest[:min(cut, len(rest))]) {
				t.Fatalf("cut every %d bytes: a close frame where there is none", cut)
			}
		}
		closes := false
		for _, b := range frame(8, 2) {
			closes = f.closes([]byte{b}) || closes
		}
		if !closes {
			t.Errorf("cut every %d bytes: no close frame", cut)
		}
	}
}

// Whoever was answered that the socket is closed may resume, though the server has not taken it off its books yet.
func TestResumeBeforeTheClosedSocketIsOffTheBooks(t *testing.T) {
	r := start(t, Options{Guilds: -1})
	c := r.dial(jsonQuery)
	id := c.login(0, 1, 1).SessionID
	seq := int64(1)
	resume := func() int {
		sess, refused := r.resumable(new(conn), resume{Token: DefaultToken, SessionID: id, Seq: &seq})
		if sess == nil || refused != nil {
			t.Fatalf("the session is not to be resumed: %v", refused)
		}
		return len(sess.sockets())
	}
	r.mu.Lock() // which it needs for its books
	if n := resume(); n != 1 || len(r.violations) != 1 {
		t.Errorf("with %d sockets there are %d violations, want one of each", n, len(r.violations))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { _ = c.ws.Close(4000, "") }()
	for {
		if _, _, err := c.ws.Read(ctx); websocket.CloseStatus(err) == 4000 {
			break
		} else if err != nil {
			t.Error(err)
			break
		}
	}
	if n := resume(); n != 1 || len(r.violations) != 1 {
		t.Errorf("closed, with %d sockets on the books there are %d violations more", n, len(r.violations)-1)
	}
	r.mu.Unlock()
}
