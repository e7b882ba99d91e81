package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// fullPatience is how long Append waits for room while Redis takes no entries,
// before it says so. A failover is over by then, as a rule; beyond it a caller
// had better close its socket than leave it unread, see ErrFull.
const fullPatience = 5 * time.Second

// Log is the end of one shard's stream, to which its owner appends.
//
// Append and Flush are for one goroutine at a time, the one that reads the
// shard's socket. Tail, Err, Failed and Close may be called from any.
//
//	Open ──► open ──Append──► buffered ──Run──► in Redis (Tail)
//	           │
//	           ├── the stream is another's ──► failed (RefusedError)
//	           ├── Close ──► failed (ErrClosed)
//	           └── Run ends ──► failed (ErrStopped)
//
// A failed Log has dropped what was not yet in Redis and stays failed; open the
// shard again to go on from the stream's real end.
type Log struct {
	w     *Writer
	shard int
	key   any // EventsKey, boxed once for all commands
	room  *account

	marks marks // of the stream's age; they belong to Writer.Run

	failed context.Context // ends with err as its cause
	fail   context.CancelCauseFunc
	idle   chan struct{} // closed once failed and no round uses the log

	mu       sync.Mutex
	last     ID     // appended last
	passed   ID     // the last event appended or skipped
	saved    ID     // the position that is saved
	tail     ID     // known to be in Redis
	sealed   *batch // the batch being sent; sent again unchanged until its outcome is known
	sending  bool   // a round is using sealed
	queued   bool   // the writer will look at this log by itself
	head     *batch // batches not yet sealed, oldest first
	end      *batch
	err      error
	progress chan struct{} // closed at the next change, when somebody waits
}

// Tail returns the last entry known to be in Redis, or what the stream ended
// with when the Log was opened.
func (l *Log) Tail() ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail
}

// Err returns why the Log failed, nil while it has not.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Failed returns a channel that is closed when the Log has failed, so that a
// shard that receives nothing also learns of it.
func (l *Log) Failed() <-chan struct{} { return l.failed.Done() }

// Append copies e into the buffer; it is in Redis some time later, see Flush.
// While the Log's part of the writer's buffer is full (Options.MaxBytes) it
// blocks, which is what stops the caller from reading its socket. It returns
//
//   - an *OrderError when e cannot come next, a mistake of the caller;
//   - the Log's error once it has failed, such as *RefusedError or ErrClosed;
//   - ErrFull when it has waited for seconds in which Redis took nothing. What
//     was appended before stays, and Flush returns when Redis has it;
//   - ctx's error when ctx ends before there is room.
//
// In each case e was not taken.
func (l *Log) Append(ctx context.Context, e Entry) error {
	if err := l.check(e); err != nil {
		return err
	}
	bytes := int64(len(e.Type) + len(e.Data) + entryOverhead)
	if !l.room.try(bytes) {
		if err := l.waitForRoom(ctx, bytes); err != nil {
			return err
		}
	}
	l.w.stats.buffered.Add(bytes)

	l.mu.Lock()
	if err := l.err; err != nil {
		l.mu.Unlock()
		l.release(bytes)
		return err
	}
	if l.end == nil || l.end.full() {
		l.push(newBatch(l.last))
	}
	l.end.add(e, bytes)
	l.last, l.passed = e.ID, e.ID
	wasQueued := l.queued
	l.queued = true
	l.mu.Unlock()

	if !wasQueued {
		l.w.enqueue(l)
	}
	return nil
}

func (l *Log) check(e Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if reason := follows(l.passed, e); reason != "" {
		return &OrderError{Shard: l.shard, Last: l.passed, ID: e.ID, Reason: reason}
	}
	return nil
}

// waitForRoom waits for bytes of the writer's budget.
func (l *Log) waitForRoom(ctx context.Context, bytes int64) (err error) {
	claim := l.room.claim(bytes)
	if claim == nil {
		return nil
	}
	patience := time.NewTicker(fullPatience)
	defer patience.Stop()
	for err == nil {
		select {
		case <-claim.granted:
			return nil
		case <-ctx.Done():
			err = fmt.Errorf("shard %d: append: wait for room in the buffer: %w", l.shard, context.Cause(ctx))
		case <-l.failed.Done():
			err = l.Err()
		case <-patience.C:
			if l.w.stats.failingFor() >= fullPatience {
				err = fmt.Errorf("shard %d: append: %w", l.shard, ErrFull)
			}
		}
	}
	if claim.withdraw() {
		return nil
	}
	return err
}

func (l *Log) push(b *batch) {
	if l.end == nil {
		l.head = b
	} else {
		l.end.next = b
	}
	l.end = b
}

// Flush waits until every appended entry is in Redis, and so is the position if
// events were skipped since. It returns the Log's error
// if it fails instead, or ctx's when that ends first.
func (l *Log) Flush(ctx context.Context) error {
	for {
		l.mu.Lock()
		err, done := l.err, l.tail == l.last
		if l.progress == nil {
			l.progress = make(chan struct{})
		}
		progress := l.progress
		l.mu.Unlock()

		switch {
		case err != nil:
			return err
		case done:
			return l.flushPosition(ctx)
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return fmt.Errorf("shard %d: flush: %w", l.shard, context.Cause(ctx))
		}
	}
}

// Close drops what is not yet in Redis and returns at once. A batch that is
// being sent at this moment may still arrive; Writer.Open waits for that.
func (l *Log) Close() { l.close(ErrClosed) }

// close makes err the log's error, unless it has one, and drops what is pending.
func (l *Log) close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		if !errors.As(err, new(*RefusedError)) { // which names the shard itself
			l.err = fmt.Errorf("shard %d: %w", l.shard, err)
		}
		l.fail(l.err)
	}
	l.dropPending()
	if !l.sending {
		l.settle()
	}
	l.notify()
}

// dropPending drops all but the batch being sent. Callers hold l.mu.
func (l *Log) dropPending() {
	for l.head != nil {
		l.drop(l.pop())
	}
}

// settle ends a failed log's use of the writer. Callers hold l.mu.
func (l *Log) settle() {
	if l.sealed != nil {
		l.drop(l.sealed)
		l.sealed = nil
	}
	if l.w.forget(l) {
		l.room.close()
		close(l.idle)
	}
}

func (l *Log) pop() *batch {
	b := l.head
	l.head, b.next = b.next, nil
	if l.head == nil {
		l.end = nil
	}
	return b
}

func (l *Log) drop(b *batch) {
	l.release(b.bytes)
	b.recycle()
}

func (l *Log) release(bytes int64) {
	l.w.stats.buffered.Add(-bytes)
	l.room.release(bytes)
}

// notify wakes those who wait for a change. Callers hold l.mu.
func (l *Log) notify() {
	if l.progress != nil {
		close(l.progress)
		l.progress = nil
	}
}

// take returns the batch to send next and marks the log as being sent, or nil
// if there is none.
func (l *Log) take() *batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil && l.sealed == nil && l.head != nil {
		l.sealed = l.pop()
	}
	if l.err != nil || l.sealed == nil {
		l.queued = false
		return nil
	}
	l.sending = true
	return l.sealed
}

// rewind makes the log go on from an earlier entry, which is what the stream
// ends with after all: with the batches from first to last, which lead to the one
// that was just refused, and then with that.
func (l *Log) rewind(tail ID, first, last *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = tail
	last.next, l.sealed.next = l.sealed, l.head
	if l.end == nil {
		l.end = l.sealed
	}
	l.head, l.sealed = first, nil
	if l.err != nil { // closed while the batch was on its way
		l.dropPending()
	}
}

// sent takes note of what became of the batch take returned, and reports
// whether the writer must look at the log again.
func (l *Log) sent(o outcome) (again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sending = false
	if o == appended {
		l.tail = l.sealed.last
		l.drop(l.sealed)
		l.sealed = nil
		l.notify()
	}
	if l.err != nil { // closed in the meantime
		l.settle()
		return false
	}
	l.queued = l.sealed != nil || l.head != nil
	return l.queued
}
