package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// errLeaseLost is why a handler's context ends when its shard is, or may soon
// be, another member's.
var errLeaseLost = errors.New("the shard's lease is lost")

// errNotHeld is a script's answer to a member without the lease.
var errNotHeld = errors.New("the lease is not held")

// tenure is the time for which a member reads one shard: it holds the shard's
// lease, and one goroutine reads, hands over and acknowledges.
//
//	enter ──► take ──► read ◄─┐     where the group stands; what was delivered
//	  ▲         ▲       │     │     before and not acknowledged; what is new
//	  │         │       ├─────┘
//	  │         └───────┤ an outcome is not known
//	  └─────────────────┘ the group is gone
//
// It ends when it is told to leave, which lets the handler under way finish,
// writes the acknowledgements and releases the lease; or when the lease can no
// longer be trusted, which ends the handler's context.
type tenure struct {
	g     *group
	shard int
	keys  []string // the events stream, the lease, the dead letters
	token string   // the lease's value
	news  chan struct{}

	ctx   context.Context // ends when the lease may be lost, its cause errLeaseLost
	end   context.CancelCauseFunc
	stop  context.Context // ends with ctx, or when the tenure is to end
	leave context.CancelFunc
	acks  receipts

	expiry *time.Timer // ends ctx at deadline

	// Guarded by g.mu:
	deadline time.Time // until when the lease is ours whatever happens
	state    tenureState
	position string // the entry read last, as Redis wrote it
	depth    int64  // of the dead letters

	// Owned by run:
	phase   func(*tenure) ([]delivery, error)
	entered bool
	after   ID     // position, parsed; entries after it are new to us
	takeOf  string // from where pending entries are taken, as XPENDING wants it
}

// tenureState is what a tenure does, as far as it matters to those who wait for
// news on its behalf.
type tenureState int

const (
	handling tenureState = iota // and will read again, so that nothing is missed
	reading                     // what comes after position
	waiting                     // for something to come after position
)

func (g *group) newTenure(shard int, token string, deadline time.Time) *tenure {
	t := &tenure{
		g: g, shard: shard, token: token, keys: g.keys(shard),
		news: make(chan struct{}, 1), deadline: deadline, phase: (*tenure).enter, takeOf: "-",
	}
	t.ctx, t.end = context.WithCancelCause(g.base)
	t.stop, t.leave = context.WithCancel(t.ctx)
	t.acks = receipts{key: t.keys[0], valid: t.ctx}
	t.expiry = time.AfterFunc(time.Until(deadline), func() { t.end(errLeaseLost) })
	return t
}

// extend moves the deadline, unless it is over: then another member may have had
// the shard in between, and what this one knows of it is worth nothing.
func (t *tenure) extend(deadline time.Time) {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	if t.ctx.Err() != nil || !time.Now().Before(t.deadline) {
		t.end(errLeaseLost)
		return
	}
	t.deadline = deadline
	t.expiry.Reset(time.Until(deadline))
}

// held reports whether another handler may begin.
func (t *tenure) held() bool {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	switch {
	case !time.Now().Before(t.deadline):
		t.end(errLeaseLost)
	case t.g.ctx.Err() != nil: // the beat may not have come to it yet
		t.leave()
	}
	return t.stop.Err() == nil
}

func (t *tenure) run() {
	defer t.release()
	for attempt := 0; t.stop.Err() == nil; {
		batch, err := t.phase(t)
		if err != nil && t.stop.Err() == nil {
			t.recover(err, attempt)
			attempt++
			continue
		}
		if attempt > 0 && err == nil {
			t.g.outage.over()
			attempt = 0
		}
		if !t.process(batch) {
			return
		}
	}
}

// recover goes back to the phase that makes sure of what err left open.
func (t *tenure) recover(err error, attempt int) {
	switch {
	case errors.Is(err, errNotHeld):
		t.end(errLeaseLost)
		return
	case redis.HasErrorPrefix(err, "NOGROUP"):
		t.g.r.logger.Warn("the group is gone, making it again", "shard", t.shard, "after", t.after)
		t.phase = (*tenure).enter
	default:
		t.g.outage.note(err)
		if t.entered {
			t.phase = (*tenure).take
		}
	}
	pause(t.stop, backoff(attempt))
}

// ask calls a script that concerns the shard.
func (t *tenure) ask(ctx context.Context, script *redis.Script, args ...any) (any, error) {
	reply, err := t.g.courier.do(ctx, script, t.keys, append([]any{t.token, t.g.name}, args...)...)
	if errors.Is(err, redis.Nil) {
		return nil, errNotHeld
	}
	return reply, err
}

// insist asks until Redis answers or ctx ends.
func (t *tenure) insist(ctx context.Context, script *redis.Script, args ...any) (any, error) {
	for attempt := 0; ; attempt++ {
		reply, err := t.ask(ctx, script, args...)
		switch {
		case err == nil:
			if attempt > 0 {
				t.g.outage.over()
			}
			return reply, nil
		case errors.Is(err, errNotHeld):
			t.end(errLeaseLost)
			return nil, err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case redis.HasErrorPrefix(err, "NOGROUP"):
			return nil, nil // and no pending entry; what is to be done of that is settled when the group is read next
		}
		t.g.outage.note(fmt.Errorf("shard %d: %w", t.shard, err))
		pause(ctx, backoff(attempt))
	}
}

// release writes what is acknowledged, gives the lease back and ends the tenure.
func (t *tenure) release() {
	t.leave()
	t.g.acker.flush(&t.acks)
	if t.ctx.Err() == nil {
		t.giveBack()
	} else {
		t.g.r.logger.Warn("lost the lease of a shard", "shard", t.shard)
	}
	t.expiry.Stop()
	t.end(errLeaseLost)
	t.g.ended(t)
}

func (t *tenure) giveBack() {
	t.g.leases.Lock()
	defer t.g.leases.Unlock()
	if _, err := t.ask(t.ctx, releaseScript); err != nil {
		t.g.r.logger.Debug("a lease is left to expire", "shard", t.shard, "error", err)
	}
	t.end(errLeaseLost) // before another renewal
}
