package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
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

// enter finds out where the group stands. A group that is gone while it is being
// read is made again where it stood, or at the stream's end if that is before.
func (t *tenure) enter() ([]delivery, error) {
	from, bounded := t.g.from(t.shard), ""
	if t.entered {
		from, bounded = t.position, "bounded"
	}
	reply, err := t.ask(t.stop, enterScript, from, bounded)
	if err != nil {
		return nil, err
	}
	last, _ := reply.(string)
	at, err := ParseID(last)
	if err != nil { // an id that is none of ours was read, and passed
		t.g.r.logger.Warn("the group stands at a foreign entry", "shard", t.shard, "entry", last)
	}
	t.moved(last, at)
	t.entered = true
	t.phase = (*tenure).take
	return nil, nil
}

// take gets a page of the entries that were delivered to whomever and not
// acknowledged, oldest first.
func (t *tenure) take() ([]delivery, error) {
	reply, err := t.ask(t.stop, takeScript, t.g.id, t.takeOf, t.g.ahead())
	if err != nil {
		return nil, err
	}
	batch, err := parsePending(reply)
	if err != nil {
		return nil, err
	}
	if len(batch) == 0 {
		t.phase = (*tenure).read
		return nil, nil
	}
	t.takeOf = "(" + batch[len(batch)-1].id
	t.g.r.counts.taken.Add(uint64(len(batch)))
	return batch, nil
}

// read gets the next new entries. If there are none, it waits until there may be.
func (t *tenure) read() ([]delivery, error) {
	t.become(reading)
	reply, err := t.ask(t.stop, readScript, t.g.id, t.g.ahead())
	if err != nil {
		t.takeOf = "(" + t.position // they may have been delivered
		return nil, err
	}
	batch, err := parseRead(reply)
	if err != nil {
		return nil, err
	}
	if len(batch) == 0 {
		t.wait()
		return nil, nil
	}
	t.become(handling)
	if err := t.checkTrimmed(batch[0]); err != nil {
		t.g.r.logger.Warn("whether entries were lost is not known", "shard", t.shard, "after", t.after, "error", err)
	}
	return batch, nil
}

func (t *tenure) wait() {
	t.become(waiting)
	signal(t.g.watch)
	select {
	case <-t.news:
	case <-t.stop.Done():
	}
}

func (t *tenure) become(state tenureState) {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	t.state = state
}

// passed takes note that an entry is settled. One that was delivered before
// need not be the last one read.
func (t *tenure) passed(d delivery) {
	id, err := ParseID(d.id)
	if !d.taken || err == nil && id.Compare(t.after) > 0 {
		t.moved(d.id, id)
	}
}

func (t *tenure) moved(position string, at ID) {
	t.after = at
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	t.position = position
}

// checkTrimmed reports a loss if entries between the last one read and the next
// were trimmed.
func (t *tenure) checkTrimmed(next delivery) error {
	if t.after.String() != t.position {
		return nil // a foreign entry was read last: what came after it is not known
	}
	m, err := next.message(t.shard)
	if err != nil || !mayHaveSkipped(t.after, m) {
		return nil
	}
	trimmed, err := trimmedUpTo(t.stop, t.g.r.client, t.keys[0], t.after)
	if trimmed {
		t.g.r.lost(t.ctx, Loss{Shard: t.shard, After: t.after, Before: m.ID})
	}
	return err
}

// process hands a batch over, in order, and reports whether the tenure goes on.
func (t *tenure) process(batch []delivery) bool {
	var gone *Loss
	report := func() {
		if gone != nil {
			t.g.r.lost(t.ctx, *gone)
			gone = nil
		}
	}
	for _, d := range batch {
		if d.fields == nil {
			gone = t.gone(gone, d)
			continue
		}
		report()
		if !t.handle(d) {
			return false
		}
		t.passed(d)
	}
	report()
	return true
}

// gone adds a pending entry that was trimmed to a loss.
func (t *tenure) gone(loss *Loss, d delivery) *Loss {
	id, err := ParseID(d.id)
	if err != nil {
		return loss // it was none of ours
	}
	if loss == nil {
		loss = &Loss{Shard: t.shard}
		if id.Seq > 0 {
			loss.After = ID{id.Epoch, id.Seq - 1}
		}
	}
	if id.Seq < math.MaxInt64 {
		loss.Before = ID{id.Epoch, id.Seq + 1}
	}
	return loss
}

// handle hands one entry over until the handler takes it or too often did not,
// and reports whether it is settled: if not, the tenure is at its end, and the
// entry is left for the next one.
func (t *tenure) handle(d delivery) bool {
	m, err := d.message(t.shard)
	if err != nil {
		t.g.r.malformed(t.shard, d.id, err)
		t.g.acker.ack(&t.acks, d.id)
		return true
	}
	if !t.g.r.wanted(m.Type) {
		t.g.acker.ack(&t.acks, d.id)
		return true
	}
	deliveries := d.deliveries
	for err = errUnanswered; ; {
		deliveries++
		if limit := t.g.r.opts.MaxDeliveries; limit > 0 && deliveries > int64(limit) {
			return t.bury(d, deliveries-1, err)
		}
		var settled bool
		if settled, err = t.attempt(m, d.id, deliveries); settled {
			t.g.acker.ack(&t.acks, d.id)
			t.g.r.counts.entries.Add(1)
			return true
		}
		if t.stop.Err() != nil {
			return false
		}
		t.g.r.counts.failures.Add(1)
		t.g.r.logger.Warn("a handler failed", "shard", t.shard, "entry", d.id, "type", m.Type, "deliveries", deliveries, "error", err)
		pause(t.stop, backoff(int(min(deliveries, 10))))
	}
}

// errUnanswered is why an entry has a delivery that did not settle it, unless
// its handler said why.
var errUnanswered = errors.New("its consumers ended before they were done with it")

// attempt calls the handler once, when there is a place. The number of
// deliveries is in Redis before the handler begins, so that it survives what the
// handler may do to the process; Redis itself has counted the first.
func (t *tenure) attempt(m Message, entry string, deliveries int64) (settled bool, err error) {
	select {
	case t.g.slots <- struct{}{}:
	case <-t.stop.Done():
		return false, context.Cause(t.stop)
	}
	defer func() { <-t.g.slots }()
	if deliveries > 1 {
		if _, err := t.insist(t.stop, countScript, t.g.id, entry, deliveries); err != nil {
			return false, err
		}
	}
	if !t.held() {
		return false, context.Cause(t.stop)
	}
	if err := t.g.handler(t.ctx, m); err != nil {
		return false, err
	}
	return true, nil
}

// bury moves an entry to the dead letters.
func (t *tenure) bury(d delivery, deliveries int64, reason error) bool {
	args := append([]any{d.id, t.g.r.opts.DeadMaxLen, reason.Error(), deliveries}, d.fields...)
	if _, err := t.insist(t.stop, giveUpScript, args...); err != nil {
		return false
	}
	t.g.r.counts.dead.Add(1)
	t.g.r.logger.Error("an entry was given up", "shard", t.shard, "entry", d.id, "deliveries", deliveries, "reason", reason,
		"stream", t.keys[2])
	return true
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
