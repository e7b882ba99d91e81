package discordsim

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
)

// link is the byte stream under a WebSocket. It stands between the WebSocket library and TCP, so that a burst of
// messages leaves in one write, and so that the simulator can treat the stream as a bad network would.
type link struct {
	net.Conn
	lock chan struct{} // a mutex as a channel: a goroutine waiting here does not stop a synctest bubble's clock
	held bool
	buf  []byte
	out  frames

	pace     atomic.Pointer[pace]
	vanished atomic.Bool
	closed   atomic.Bool // by a frame of ours, which may not be sent yet
}

// heldMax is how much a burst gathers before it is written out.
const heldMax = 64 << 10

func newLink(c net.Conn) *link { return &link{Conn: c, lock: make(chan struct{}, 1)} }

// Write sends p, or keeps it until release while the link is held.
func (l *link) Write(p []byte) (int, error) {
	l.lock <- struct{}{}
	defer func() { <-l.lock }()
	if l.out.closes(p) {
		l.closed.Store(true)
	}
	if !l.held {
		if err := l.pass(p); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	l.buf = append(l.buf, p...)
	if len(l.buf) < heldMax {
		return len(p), nil
	}
	return len(p), l.flush()
}

// hold starts a burst.
func (l *link) hold() {
	l.lock <- struct{}{}
	l.held = true
	<-l.lock
}

// release ends a burst and writes what is left of it.
func (l *link) release() error {
	l.lock <- struct{}{}
	defer func() { <-l.lock }()
	l.held = false
	return l.flush()
}

func (l *link) flush() error {
	if len(l.buf) == 0 {
		return nil
	}
	err := l.pass(l.buf)
	l.buf = l.buf[:0]
	return err
}

// hijacker puts a link under the WebSocket that is about to be accepted.
type hijacker struct {
	http.ResponseWriter
	link *link
}

// Hijack implements [http.Hijacker].
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over connection: %w", err)
	}
	h.link = newLink(c)
	return h.link, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(h.link)), nil
}
