package shard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// maxQueued is how many commands wait for a session at most.
const maxQueued = 256

// What [Session.Send] fails with, besides [ErrBadCommand].
var (
	// ErrNotRunning says that Run does not run, or ended before the command was sent.
	ErrNotRunning = errors.New("session is not running")
	// ErrQueueFull says that 256 commands wait already.
	ErrQueueFull = errors.New("command queue is full")
	// ErrUnknownOutcome says that the connection broke while the command was being written: Discord may have seen it.
	ErrUnknownOutcome = errors.New("connection broke in the middle: outcome unknown")
)

// Send sends a command to Discord and returns once it is written to the socket; whether Discord liked it shows in events,
// if at all. While the session is not live, or a limit of Discord's holds the command back, it waits. With an error, the
// command was not sent and will not be, except for [ErrUnknownOutcome]; the error is one of the above or of the context.
//
// The limits kept are 120 messages in 60 s with enough of them reserved for heartbeats, five presences in 20 s, all
// members of a guild once in 30 s, and what RATE_LIMITED says; a request that Discord answers with RATE_LIMITED is
// not repeated. Commands leave in the order of their Sends, but one held back by a limit of its kind lets those of other
// kinds (for members: of other guilds) pass. It may be called from any goroutine.
func (s *Session) Send(ctx context.Context, cmd Command) error {
	out, err := encode(cmd, s.cfg.ID)
	if err == nil {
		err = s.outbox.send(ctx, out)
	}
	if err != nil {
		return fmt.Errorf("shard %s: send: %w", s.cfg.ID, err)
	}
	return nil
}

// outbox holds commands until they are sent. Callers put them in, the loop of a connection takes them out.
type outbox struct {
	wake chan struct{} // there may be something to take

	mu    sync.Mutex
	open  bool
	queue []*outgoing
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// send puts a command in and waits for its fate.
func (b *outbox) send(ctx context.Context, out *outgoing) error {
	if err := b.put(out); err != nil {
		return err
	}
	select {
	case err := <-out.done:
		return err
	case <-ctx.Done():
		if b.withdraw(out) {
			return context.Cause(ctx)
		}
		return <-out.done // it is being written, which does not take long
	}
}

func (b *outbox) put(out *outgoing) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		return ErrNotRunning
	case len(b.queue) == maxQueued:
		return ErrQueueFull
	}
	b.queue = append(b.queue, out)
	b.ring()
	return nil
}

// withdraw takes a command back, if it still waits.
func (b *outbox) withdraw(out *outgoing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.queue, out)
	if i < 0 {
		return false
	}
	b.queue = slices.Delete(b.queue, i, i+1)
	return true
}

// take takes out the command that is next at this pace, or nil, and says how long until one may be.
func (b *outbox) take(p *pace, now time.Time) (out *outgoing, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, wait := p.next(b.queue, now)
	if i < 0 {
		return nil, wait
	}
	out = b.queue[i]
	b.queue = slices.Delete(b.queue, i, i+1)
	return out, 0
}

// ring makes the loop look.
func (b *outbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (b *outbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// begin lets commands in.
func (b *outbox) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = true
}

// end lets none in any more, and turns those away that wait.
func (b *outbox) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = false
	for _, out := range b.queue {
		out.done <- ErrNotRunning
	}
	b.queue = nil
}
