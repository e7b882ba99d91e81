package discordsim

import (
	"context"
	"time"
)

// pace is how a bad network passes bytes on: so many at once, and then a pause of a second at most.
type pace struct {
	chunk int
	pause time.Duration
}

// pauses is how many pauses a slow network makes in a second, if it passes that many bytes at all.
const pauses = 20

// pace is what the fault does to a link, nil if it is another kind of trouble.
func (f Fault) pace() *pace {
	switch f.Kind {
	case FaultSplit:
		return &pace{chunk: 1}
	case FaultSlow:
		chunk := max(1, f.BytesPerSecond/pauses)
		return &pace{chunk, time.Duration(chunk) * time.Second / time.Duration(f.BytesPerSecond)}
	}
	return nil
}

// setPace slows the link down from its next write on.
func (l *link) setPace(p *pace) { l.pace.Store(p) }

// unpace lifts a pace, if it is the one the link has.
func (l *link) unpace(p *pace) {
	if p != nil {
		l.pace.CompareAndSwap(p, nil)
	}
}

// vanish makes the link a black hole: nothing arrives at either end any more. TCP stays open until the client closes it
// or ctx ends, whatever the server does.
func (l *link) vanish(ctx context.Context) {
	l.vanished.Store(true)
	context.AfterFunc(ctx, func() { _ = l.Conn.Close() })
}

// gone reports whether the link is a black hole.
func (l *link) gone() bool { return l.vanished.Load() }

// Read implements [net.Conn].
func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	for err == nil && l.gone() {
		n, err = l.Conn.Read(p)
	}
	return n, err
}

// Close implements [net.Conn].
func (l *link) Close() error {
	if l.gone() {
		return nil // by its reader, or when the server stops
	}
	return l.Conn.Close()
}

// pass writes to the network, at its pace.
func (l *link) pass(p []byte) error {
	for len(p) > 0 {
		if l.gone() {
			return nil
		}
		pace := l.pace.Load()
		chunk := len(p)
		if pace != nil {
			chunk = min(chunk, pace.chunk)
		}
		if _, err := l.Conn.Write(p[:chunk]); err != nil {
			return err
		}
		if p = p[chunk:]; pace != nil {
			time.Sleep(pace.pause)
		}
	}
	return nil
}
