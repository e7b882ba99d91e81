package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// runAlone is Run without a group.
func (r *Reader) runAlone(ctx context.Context, handle Handler) error {
	outage := outage{logger: r.logger, trouble: "redis does not answer", relief: "redis answers again"}
	for attempt := 0; ctx.Err() == nil; {
		streams, err := r.next(ctx)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			outage.note(err)
			pause(ctx, backoff(attempt))
			attempt++
			continue
		}
		outage.over()
		attempt = 0
		if err := r.hand(ctx, streams, handle); err != nil {
			return err
		}
	}
	return nil
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
	args := &redis.XReadArgs{Block: readBlock, Count: perStream(len(r.shards))}
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
			Count:   perStream(len(r.shards)),
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

func perStream(streams int) int64 { return int64(max(readStreamEntries, readEntries/streams)) }

// hand passes what was read on to handle, as far as ctx and handle allow.
func (r *Reader) hand(ctx context.Context, streams []redis.XStream, handle Handler) error {
	shards := make(map[string]int, len(r.shards))
	for _, shard := range r.shards {
		shards[EventsKey(r.opts.Cluster, shard)] = shard
	}
	for _, s := range streams {
		shard, ok := shards[s.Stream]
		if !ok {
			continue // not a stream that was asked for
		}
		r.checkTrimmed(ctx, shard, s.Messages)
		for _, x := range s.Messages {
			if ctx.Err() != nil {
				return nil
			}
			m, err := decode(shard, x)
			switch {
			case err != nil:
				r.malformed(shard, x.ID, err)
			case r.wanted(m.Type):
				if err := handle(ctx, m); err != nil {
					return err
				}
				r.counts.entries.Add(1)
			}
			r.cursors[shard] = x.ID
		}
	}
	return nil
}

// checkTrimmed reports a loss if entries between a shard's cursor and what was
// read next were trimmed. Within one answer nothing can be missing.
func (r *Reader) checkTrimmed(ctx context.Context, shard int, read []redis.XMessage) {
	after, err := ParseID(r.cursors[shard])
	if err != nil || after.IsZero() || len(read) == 0 {
		return // a beginning, or a foreign entry: what came after it is not known
	}
	next, err := decode(shard, read[0])
	if err != nil || !mayHaveSkipped(after, next) {
		return
	}
	trimmed, err := trimmedUpTo(ctx, r.client, EventsKey(r.opts.Cluster, shard), after)
	if err != nil {
		r.logger.Warn("whether entries were lost is not known", "shard", shard, "after", after, "error", err)
	}
	if trimmed {
		r.lost(ctx, Loss{Shard: shard, After: after, Before: next.ID})
	}
}

// trimmedUpTo reports whether a stream holds nothing up to an id any more. Streams
// are trimmed from their beginning, so if it does, what follows is all there, and
// a hole after it is a filter's.
func trimmedUpTo(ctx context.Context, client Client, key string, last ID) (bool, error) {
	kept, err := client.XRangeN(ctx, key, "-", last.String(), 1).Result()
	if err != nil {
		return false, fmt.Errorf("read %s up to %v: %w", key, last, err)
	}
	return len(kept) == 0, nil
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
