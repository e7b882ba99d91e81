package stream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"
)

const (
	// readBlock is how long Redis holds an empty answer back. Run ends at most
	// this much after its context.
	readBlock = 500 * time.Millisecond
	// readPoll is how often an idle Redis Cluster is asked.
	readPoll = 50 * time.Millisecond
	// clusterRefresh is how often the number of shards is looked up.
	clusterRefresh = time.Second

	// An answer carries up to readEntries entries, or readStreamEntries of each
	// stream if that is more, so that one busy shard among many idle ones is not
	// read an entry at a time.
	readEntries       = 1024
	readStreamEntries = 16
)

// Message is an entry as read from a shard's stream.
type Message struct {
	Shard int
	ID    ID
	Type  string // GapType marks a gap; Data is then a Gap as JSON
	Data  []byte // the payload's d, the bytes Discord sent
}

// ReaderOptions of a Reader.
type ReaderOptions struct {
	// Cluster is the name all keys begin with. Required.
	Cluster string
	// Shards are the shards to read. Nil means all there are, however their
	// number changes.
	Shards []int
	// From says where to begin: "$", the default, with what is appended from now
	// on, "0" with the oldest entry kept, an id with the entry after it. Shards
	// that appear later are read from their oldest entry.
	From string
	// Types are the event types wanted. Empty means all. Gap markers always come.
	Types []string
	// Logger gets a line when Redis stops answering, one when it answers again,
	// and one for each malformed entry. Nil logs nothing.
	Logger hclog.Logger
}

// Reader merges the streams of a cluster's shards into one. Within a shard the
// order is the stream's; between shards there is none. It reads no further than
// what it hands over, so a slow handler slows the reading and nothing piles up
// but in Redis, where entries are kept only so long (Options.MaxLen).
//
// It is for one goroutine at a time.
type Reader struct {
	client Client
	opts   ReaderOptions
	logger hclog.Logger

	// cursors hold the id last handed over of each shard, as Redis wrote it, so
	// that even an id that is none of ours is passed once and not met again.
	cursors map[int]string
	shards  []int     // being read
	checked time.Time // when the cluster was looked up last
	began   bool      // where to begin is settled for the shards there were
}

// NewReader returns a reader, or an error that names the option at fault.
func NewReader(client Client, opts ReaderOptions) (*Reader, error) {
	if opts.Cluster == "" {
		return nil, errors.New("reader: no cluster name")
	}
	if opts.Shards != nil && len(opts.Shards) == 0 || slices.ContainsFunc(opts.Shards, func(s int) bool { return s < 0 }) {
		return nil, fmt.Errorf("reader: shards %v", opts.Shards)
	}
	switch opts.From {
	case "":
		opts.From = "$"
	case "0":
		opts.From = ID{}.String()
	case "$":
	default:
		if _, err := ParseID(opts.From); err != nil {
			return nil, fmt.Errorf("reader: where to begin: %w", err)
		}
	}
	logger := opts.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	return &Reader{client: client, opts: opts, logger: logger, cursors: make(map[int]string)}, nil
}

// Run hands every message to handle until ctx ends, when it returns nil, or
// handle fails, when it returns that error. The message that failed is not
// passed: a further Run begins with it. While Redis does not answer, or the
// cluster is not published yet, Run keeps trying.
func (r *Reader) Run(ctx context.Context, handle func(Message) error) error {
	attempt, since := 0, time.Time{}
	for ctx.Err() == nil {
		streams, err := r.next(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			if attempt == 0 {
				since = time.Now()
				r.logger.Warn("redis does not answer, trying again", "error", err)
			}
			pause(ctx, backoff(attempt))
			attempt++
			continue
		}
		if attempt > 0 {
			r.logger.Info("redis answers again", "after", time.Since(since))
			attempt = 0
		}
		if err := r.hand(ctx, streams, handle); err != nil {
			return err
		}
	}
	return nil
}

// Messages is Run as an iterator. It ends with ctx. The message at which a loop
// is left is passed; ranging again goes on with the next.
func (r *Reader) Messages(ctx context.Context) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		ctx, leave := context.WithCancel(ctx)
		defer leave()
		_ = r.Run(ctx, func(m Message) error { // fails only if this does
			if !yield(m) {
				leave()
			}
			return nil
		})
	}
}

// next returns what the streams hold after the cursors, nothing if that stays
// so for a moment.
func (r *Reader) next(ctx context.Context) ([]redis.XStream, error) {
	if err := r.follow(ctx); err != nil {
		return nil, err
	}
	switch {
	case len(r.shards) == 0:
		pause(ctx, clusterRefresh)
		return nil, nil
	case !oneServer(r.client):
		return r.poll(ctx)
	}
	args := &redis.XReadArgs{Block: readBlock, Count: r.perStream()}
	for _, shard := range r.shards {
		args.Streams = append(args.Streams, EventsKey(r.opts.Cluster, shard))
	}
	for _, shard := range r.shards {
		args.Streams = append(args.Streams, r.cursors[shard])
	}
	streams, err := r.client.XRead(ctx, args).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return streams, nil
}

// poll reads shard by shard, in one pipeline, because a Redis Cluster takes no
// command with keys of several slots, and a blocking one would hold the others
// up.
func (r *Reader) poll(ctx context.Context) ([]redis.XStream, error) {
	pipe := r.client.Pipeline()
	for _, shard := range r.shards {
		pipe.XRead(ctx, &redis.XReadArgs{
			Streams: []string{EventsKey(r.opts.Cluster, shard), r.cursors[shard]},
			Count:   r.perStream(),
			Block:   -1, // do not block
		})
	}
	cmds, _ := pipe.Exec(ctx) // each command has its own error
	var streams []redis.XStream
	var firstErr error
	for _, cmd := range cmds {
		got, err := cmd.(*redis.XStreamSliceCmd).Result()
		if err != nil && !errors.Is(err, redis.Nil) && firstErr == nil {
			firstErr = fmt.Errorf("read events: %w", err)
		}
		streams = append(streams, got...)
	}
	switch {
	case len(streams) > 0: // the shards of the nodes that answer go on
		return streams, nil
	case firstErr == nil:
		pause(ctx, readPoll)
	}
	return nil, firstErr
}

func (r *Reader) perStream() int64 {
	return int64(max(readStreamEntries, readEntries/len(r.shards)))
}

// hand passes what was read on to handle, as far as ctx and handle allow.
func (r *Reader) hand(ctx context.Context, streams []redis.XStream, handle func(Message) error) error {
	shards := make(map[string]int, len(r.shards))
	for _, shard := range r.shards {
		shards[EventsKey(r.opts.Cluster, shard)] = shard
	}
	for _, s := range streams {
		shard, ok := shards[s.Stream]
		if !ok {
			continue // not a stream that was asked for
		}
		for _, x := range s.Messages {
			if ctx.Err() != nil {
				return nil
			}
			m, err := decode(shard, x)
			switch {
			case err != nil:
				r.logger.Warn("skipping a malformed entry", "shard", shard, "entry", x.ID, "error", err)
			case r.wanted(m.Type):
				if err := handle(m); err != nil {
					return err
				}
			}
			r.cursors[shard] = x.ID
		}
	}
	return nil
}

func (r *Reader) wanted(eventType string) bool {
	return len(r.opts.Types) == 0 || eventType == GapType || slices.Contains(r.opts.Types, eventType)
}

// decode reads an entry of a shard's stream, written by whoever can write there.
func decode(shard int, x redis.XMessage) (Message, error) {
	id, err := ParseID(x.ID)
	if err != nil {
		return Message{}, err
	}
	eventType, _ := x.Values[fieldType].(string)
	data, ok := x.Values[fieldData].(string)
	if eventType == "" || !ok {
		return Message{}, fmt.Errorf("want fields %s and %s", fieldType, fieldData)
	}
	return Message{Shard: shard, ID: id, Type: eventType, Data: []byte(data)}, nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
