package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Defaults of ReaderOptions.
const (
	DefaultMaxDeliveries = 5
	DefaultDeadMaxLen    = 10_000
	DefaultLeaseTTL      = 10 * time.Second
)

// minLeaseTTL leaves time for a few attempts at a renewal.
const minLeaseTTL = time.Second

// Handler is given a message. What its error means is said at Reader.Run.
type Handler func(ctx context.Context, m Message) error

// ReaderOptions of a Reader.
type ReaderOptions struct {
	// Cluster is the name all keys begin with. Required.
	Cluster string
	// Shards are the shards to read. Nil means all there are, however their
	// number changes.
	Shards []int
	// From says where to begin: "$", the default, with what is appended from now
	// on, "0" with the oldest entry kept, an id with the entry after it. Shards
	// that appear later are read from their oldest entry. A group that is there
	// already goes on where it stands.
	From string
	// Types are the event types wanted. Empty means all. Markers always come.
	Types []string

	// Group is the consumer group to read with. Empty means none: then nothing is
	// kept in Redis, and every Reader gets everything.
	Group string
	// Parallel is how many handlers may run at a time, for different shards; 1 if
	// 0. It is for a Group only.
	Parallel int
	// MaxDeliveries is how often a group's entry is given to a handler before it
	// is moved to the dead letters (DeadKey); DefaultMaxDeliveries if 0, without
	// end if negative.
	MaxDeliveries int
	// DeadMaxLen is about how many dead letters are kept of each shard,
	// DefaultDeadMaxLen if 0.
	DeadMaxLen int64
	// LeaseTTL is how long a member of a group that died keeps its shards,
	// DefaultLeaseTTL if 0. It is the same for all members.
	LeaseTTL time.Duration

	// Lost is told of entries that were trimmed before they were read, in the
	// shard's order: before the first message after them. Nil only counts and logs
	// them.
	Lost func(ctx context.Context, loss Loss)
	// Logger gets a line when Redis stops answering, one when it answers again,
	// one for each malformed entry, failed handler, dead letter and loss. Nil logs
	// nothing.
	Logger hclog.Logger
}

// Reader merges the streams of a cluster's shards into one. Within a shard the
// order is the stream's; between shards there is none. It reads no further ahead
// than an answer of Redis, so a slow handler slows the reading and nothing piles
// up but in Redis, where entries are kept only so long (Options.MaxLen).
//
// With a Group, the Readers of all processes that name it share the shards; see
// the package's comment.
//
// Run and Messages are for one goroutine at a time. Stats may be called from any.
type Reader struct {
	client Client
	opts   ReaderOptions
	logger hclog.Logger
	counts readerCounts

	// Without a group:

	// cursors hold the id last handed over of each shard, as Redis wrote it, so
	// that even an id that is none of ours is passed once and not met again.
	cursors map[int]string
	shards  []int     // being read
	checked time.Time // when the cluster was looked up last
	began   bool      // where to begin is settled for the shards there were
}

// NewReader returns a reader, or an error that names the option at fault.
func NewReader(client Client, opts ReaderOptions) (*Reader, error) {
	if err := opts.settle(); err != nil {
		return nil, fmt.Errorf("reader: %w", err)
	}
	return &Reader{client: client, opts: opts, logger: opts.Logger, cursors: make(map[int]string)}, nil
}

// settle fills in the defaults, or says what cannot be.
func (o *ReaderOptions) settle() error {
	switch {
	case o.Cluster == "":
		return errors.New("no cluster name")
	case o.Shards != nil && len(o.Shards) == 0 || slices.ContainsFunc(o.Shards, func(s int) bool { return s < 0 }):
		return fmt.Errorf("shards %v", o.Shards)
	case o.Parallel < 0:
		return fmt.Errorf("%d handlers in parallel", o.Parallel)
	case o.Parallel > 1 && o.Group == "":
		return errors.New("handlers in parallel need a group")
	case o.DeadMaxLen < 0:
		return fmt.Errorf("%d dead letters to keep", o.DeadMaxLen)
	case o.LeaseTTL != 0 && o.LeaseTTL < minLeaseTTL:
		return fmt.Errorf("lease ttl %v: want at least %v", o.LeaseTTL, minLeaseTTL)
	}
	if o.From != "" && o.From != "$" && o.From != "0" {
		if _, err := ParseID(o.From); err != nil {
			return fmt.Errorf("where to begin: %w", err)
		}
	}
	o.From = cmp.Or(o.From, "$")
	o.Parallel = cmp.Or(o.Parallel, 1)
	o.MaxDeliveries = cmp.Or(o.MaxDeliveries, DefaultMaxDeliveries)
	o.DeadMaxLen = cmp.Or(o.DeadMaxLen, DefaultDeadMaxLen)
	o.LeaseTTL = cmp.Or(o.LeaseTTL, DefaultLeaseTTL)
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return nil
}

// Run hands every message to handle until ctx ends, when it returns nil. While
// Redis does not answer, or the cluster is not published yet, it keeps trying.
//
// Without a group an error of handle is returned. The message that failed is not
// passed: a further Run begins with it.
//
// With a group an error of handle means that the same message is tried again, a
// little later each time, and that the shard waits for it: so the order holds. A
// message is acknowledged soon after handle has returned nil, and moved to the
// dead letters when it has been delivered too often. The context of handle does
// not end with ctx, but when the shard's lease can no longer be relied on, and
// another process may begin with the same message. When ctx ends, Run lets the
// handlers under way finish, writes what is to be acknowledged, gives its shards
// back, and then returns.
func (r *Reader) Run(ctx context.Context, handle Handler) error {
	if r.opts.Group == "" {
		return r.runAlone(ctx, handle)
	}
	g := newGroup(r, handle)
	r.counts.group.Store(g)
	g.run(ctx)
	return nil
}

// Messages is Run as an iterator. It ends with ctx. The message at which a loop
// is left is passed, and acknowledged if there is a group; ranging again goes on
// with the next. A loop has no way to say that it failed: only a message that a
// panic leaves the loop at is left to be delivered again.
func (r *Reader) Messages(ctx context.Context) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		ctx, leave := context.WithCancel(ctx)
		defer leave()
		if r.opts.Group == "" {
			_ = r.runAlone(ctx, func(_ context.Context, m Message) error { // fails only if this does
				if !yield(m) {
					leave()
				}
				return nil
			})
			return
		}
		next, passed, left := make(chan Message), make(chan struct{}), make(chan struct{})
		var running sync.WaitGroup
		defer running.Wait()
		defer leave()
		defer close(left)
		running.Go(func() {
			defer close(next)
			_ = r.Run(ctx, func(_ context.Context, m Message) error { // never fails with a group
				select {
				case next <- m:
				case <-ctx.Done():
					return ctx.Err()
				}
				select { // the loop's body is not cut short when ctx ends, and neither is its message
				case <-passed:
					return nil
				case <-left:
					return errors.New("the loop was left by a panic")
				}
			})
		})
		for m := range next {
			more := yield(m)
			passed <- struct{}{}
			if !more {
				return
			}
		}
	}
}

func (r *Reader) wanted(eventType string) bool {
	return len(r.opts.Types) == 0 || IsMarker(eventType) || slices.Contains(r.opts.Types, eventType)
}

func (r *Reader) malformed(shard int, entry string, err error) {
	r.counts.malformed.Add(1)
	r.logger.Warn("skipping a malformed entry", "shard", shard, "entry", entry, "error", err)
}

func (r *Reader) lost(ctx context.Context, loss Loss) {
	if r.counts.lost.Add(1) == 1 {
		r.logger.Warn("entries were trimmed before they were read: the reader is too slow, or the streams are too short; this is said once",
			"shard", loss.Shard, "after", loss.After, "before", loss.Before)
	}
	if r.opts.Lost != nil {
		r.opts.Lost(ctx, loss)
	}
}
