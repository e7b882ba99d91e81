package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Defaults of Options.
const (
	DefaultMaxLen      = 100_000
	DefaultMaxBytes    = 64 << 20
	DefaultReplayBytes = 8 << 20
)

// Options of a Writer.
type Options struct {
	// Cluster is the name all keys begin with. Required.
	Cluster string
	// MaxLen is about how many entries each stream keeps, DefaultMaxLen if 0.
	// Redis trims whole blocks of entries, so it keeps up to a hundred more.
	MaxLen int64
	// MaxAge is how old entries become before they are dropped, as well as by
	// MaxLen; 0 for any age. They may be a 64th part of it older. Of entries that
	// are there when a shard's Log is opened the age is not known and counts from
	// then, so after a takeover they may stay for once more as long.
	MaxAge time.Duration
	// MaxBytes bounds what all Logs together hold that is not yet in Redis,
	// DefaultMaxBytes if 0. Half of it is divided evenly between the Logs, so that
	// no busy shard keeps a quiet one waiting; the other half is for whoever needs
	// it first. A Log that holds nothing may always take one entry, however large.
	// The process may use up to twice as many bytes, since buffers grow by
	// doubling, and half as much more for a moment when Logs are opened while
	// others are full.
	MaxBytes int64
	// ReplayBytes bounds what is kept of the entries appended last, by all Logs
	// together, DefaultReplayBytes if 0. Should Redis lose entries that it had
	// confirmed, as in a failover, they are appended again from there. Where it
	// does not reach back far enough, the Log fails (RefusedError).
	ReplayBytes int64
	// Logger gets a line when Redis stops taking entries and one when it takes
	// them again. Nil logs nothing.
	Logger hclog.Logger
}

// Writer appends to the streams of all shards of this process. Its methods may
// be called from any goroutine.
type Writer struct {
	client Client
	opts   Options
	maxLen any // opts.MaxLen, boxed once for all commands
	logger hclog.Logger

	budget *budget
	wake   chan struct{} // holds one token when ready may have become non-empty
	stats  counters

	mu      sync.Mutex
	logs    map[int]*Log
	ready   []*Log // logs with something to send, the one that waited longest first
	started bool
	stopped bool
}

// NewWriter returns a writer on client, which should not retry by itself (Open
// makes such a client). Retrying would be safe, because the script recognises a
// batch that is already there, but it would keep Run from returning promptly.
func NewWriter(client Client, opts Options) *Writer {
	if opts.MaxLen <= 0 {
		opts.MaxLen = DefaultMaxLen
	}
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = DefaultMaxBytes
	}
	if opts.ReplayBytes <= 0 {
		opts.ReplayBytes = DefaultReplayBytes
	}
	logger := opts.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	return &Writer{
		client: client,
		opts:   opts,
		maxLen: opts.MaxLen,
		logger: logger,
		budget: newBudget(opts.MaxBytes),
		wake:   make(chan struct{}, 1),
		logs:   make(map[int]*Log),
	}
}

// MaxLen is about how many entries each stream keeps.
func (w *Writer) MaxLen() int64 { return w.opts.MaxLen }

// Open asks Redis where the shard's stream ends and returns a Log that goes on
// from there. A shard has one Log at a time: Open returns ErrOpen while another
// is in use, and waits for a failed one's last batch to be out of the way.
func (w *Writer) Open(ctx context.Context, shard int) (*Log, error) {
	l, err := w.reserve(ctx, shard)
	if err != nil {
		return nil, err
	}
	tail, err := Tail(ctx, w.client, w.opts.Cluster, shard)
	if err != nil {
		l.Close()
		return nil, err
	}
	position, err := readPosition(ctx, w.client, w.opts.Cluster, shard, tail)
	if err != nil {
		l.Close()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil { // the writer stopped meanwhile
		return nil, l.err
	}
	l.tail, l.last = tail, tail
	l.passed, l.saved = position, position
	return l, nil
}

// reserve makes the one Log of a shard.
func (w *Writer) reserve(ctx context.Context, shard int) (*Log, error) {
	l := &Log{w: w, shard: shard, key: EventsKey(w.opts.Cluster, shard), idle: make(chan struct{})}
	for {
		w.mu.Lock()
		old := w.logs[shard]
		stopped := w.stopped
		if old == nil && !stopped {
			l.room = w.budget.open()
			l.failed, l.fail = context.WithCancelCause(context.Background())
			w.logs[shard] = l
		}
		w.mu.Unlock()

		switch {
		case stopped:
			return nil, fmt.Errorf("shard %d: open: %w", shard, ErrStopped)
		case old == nil:
			return l, nil
		case old.Err() == nil:
			return nil, fmt.Errorf("shard %d: open: %w", shard, ErrOpen)
		}
		select {
		case <-old.idle:
		case <-ctx.Done():
			return nil, fmt.Errorf("shard %d: open: wait for the log before: %w", shard, context.Cause(ctx))
		}
	}
}

// forget removes a failed log and reports whether it was there.
func (w *Writer) forget(l *Log) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.logs[l.shard] != l {
		return false
	}
	delete(w.logs, l.shard)
	return true
}

// Run sends what is appended until ctx ends. When it returns nothing is in
// flight, what was not yet sent is dropped, and all Logs have failed with
// ErrStopped: to stop without loss, Flush first. A round that is under way when
// ctx ends is waited for, which takes at most the client's timeouts.
//
// It returns nil, or an error if the writer was run before.
func (w *Writer) Run(ctx context.Context) error {
	w.mu.Lock()
	again := w.started
	w.started = true
	w.mu.Unlock()
	if again {
		return errors.New("stream: the writer was run before")
	}
	defer w.stop()

	s := newSender(w)
	defer s.timer.Stop()
	s.run(ctx)
	return nil
}

func (w *Writer) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	for _, l := range w.openLogs() {
		l.close(ErrStopped)
	}
}

// openLogs returns all logs there are.
func (w *Writer) openLogs() []*Log {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.logs))
}

// enqueue puts logs at the end of those that wait to be sent.
func (w *Writer) enqueue(logs ...*Log) {
	w.mu.Lock()
	w.ready = append(w.ready, logs...)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// dequeue returns the logs that wait to be sent and keeps spare for later ones.
func (w *Writer) dequeue(spare []*Log) []*Log {
	clear(spare)
	w.mu.Lock()
	defer w.mu.Unlock()
	ready := w.ready
	w.ready = spare[:0]
	return ready
}
