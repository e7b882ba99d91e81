package stream

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is what a Log returns after Close.
	ErrClosed = errors.New("the log is closed")
	// ErrStopped is what Logs return, and Writer.Open, once Writer.Run has ended.
	ErrStopped = errors.New("the writer has stopped")
	// ErrFull is what Append returns when the Log's part of the buffer is full and
	// Redis has taken nothing for some seconds. The Log is well: Flush it, and go
	// on. Meanwhile the shard's socket should be closed resumably. Discord keeps
	// the events of a closed session for minutes, to be replayed; what becomes of
	// a socket that is open and unread for as long, it does not say.
	ErrFull = errors.New("the buffer is full and redis takes no entries")
	// ErrOpen is returned by Writer.Open for a shard whose Log is in use.
	ErrOpen = errors.New("the shard's log is already open")
)

// RefusedError says that a stream does not end where its Log believes, so the
// batch was not written and the Log has failed for good. There are two reasons:
//
//   - Another owner has written: the stream is ahead, in the same epoch or in a
//     newer one. Go on only if the shard is still yours.
//   - Redis lost entries that it had confirmed, in a failover for instance, and
//     the Writer no longer had all of them to append them again: Behind reports
//     true. Whatever the stream lacks, Discord may still replay.
//
// To go on, open the shard's Log again and resume from where the stream ends.
type RefusedError struct {
	Shard int
	Want  ID // the entry the batch would have continued
	Tail  ID // the entry the stream ends with
}

// Behind reports whether the stream has lost entries, rather than gained some of
// another owner's.
func (e *RefusedError) Behind() bool { return e.Tail.Compare(e.Want) < 0 }

func (e *RefusedError) Error() string {
	reason := "another owner has written"
	if e.Behind() {
		reason = "redis lost entries"
	}
	return fmt.Sprintf("shard %d: append after %v: refused, the stream ends with %v: %s", e.Shard, e.Want, e.Tail, reason)
}

// OrderError says that Append was given an entry that cannot come next. It is a
// mistake of the caller; nothing was written and the Log goes on.
type OrderError struct {
	Shard  int
	Last   ID // the entry appended last
	ID     ID // the entry that was turned away
	Reason string
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("shard %d: append %v after %v: %s", e.Shard, e.ID, e.Last, e.Reason)
}
