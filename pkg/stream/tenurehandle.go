package stream

import (
	"context"
	"errors"
	"math"
)

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
// handler may do to the process; Redis itself has counted the first. One that is
// not made, since the member is to end, is not counted.
func (t *tenure) attempt(m Message, entry string, deliveries int64) (settled bool, err error) {
	select {
	case t.g.slots <- struct{}{}:
	case <-t.stop.Done():
		return false, context.Cause(t.stop)
	}
	defer func() { <-t.g.slots }()
	if !t.held() {
		return false, context.Cause(t.stop)
	}
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
