//go:build unix

package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

const (
	sinkBatch   = 1024 // commands of one pipeline, at most
	sinkPending = 8192 // events that wait for the next, at most
)

// sink writes events as plainly as it can be done: whatever waits goes into a pipeline of XADDs with ids of Redis' choice, with a field
// for the number. It knows nothing of order, and what becomes of an error is the end of it.
type sink struct {
	client *redis.Client
	keys   []string

	mu       sync.Mutex
	change   sync.Cond
	filling  *pending
	expected int // events that are still to come
	err      error
}

// pending are events whose bytes lie in one buffer.
type pending struct {
	events []event
	data   []byte
}

type event struct {
	shard int
	kind  string
	seq   int64
	end   int // of its bytes
}

func newSink(s spec) *sink {
	k := &sink{client: redis.NewClient(&redis.Options{Addr: s.Redis}), filling: new(pending), expected: s.entries()}
	k.change.L = &k.mu
	for i := range s.Shards {
		k.keys = append(k.keys, key(i))
	}
	return k
}

// add copies an event into the buffer. It waits while that is full.
func (k *sink) add(shard int, kind string, seq int64, data []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.filling.events) >= sinkPending && k.err == nil {
		k.change.Wait()
	}
	p := k.filling
	p.data = append(p.data, data...)
	p.events = append(p.events, event{shard, kind, seq, len(p.data)})
	if len(p.events) == 1 {
		k.change.Broadcast()
	}
	return k.err
}

// fail ends run.
func (k *sink) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.err = err
	}
	k.change.Broadcast()
}

// run sends until all expected events are in Redis.
func (k *sink) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { k.fail(context.Cause(ctx)) })
	defer stop()
	spare := new(pending)
	for k.expected > 0 {
		full, err := k.take(spare)
		if err == nil {
			err = k.send(ctx, full)
		}
		if err != nil {
			k.fail(err)
			return err
		}
		k.expected -= len(full.events)
		full.events, full.data = full.events[:0], full.data[:0]
		spare = full
	}
	return nil
}

// take waits for events and leaves spare in their place.
func (k *sink) take(spare *pending) (*pending, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.filling.events) == 0 && k.err == nil {
		k.change.Wait()
	}
	full := k.filling
	k.filling = spare
	if len(full.events) >= sinkPending {
		k.change.Broadcast()
	}
	return full, k.err
}

func (k *sink) send(ctx context.Context, p *pending) error {
	start := 0
	for events := p.events; len(events) > 0; {
		batch := events[:min(len(events), sinkBatch)]
		events = events[len(batch):]
		pipe := k.client.Pipeline()
		for _, e := range batch {
			pipe.Do(ctx, "XADD", k.keys[e.shard], "MAXLEN", "~", maxLen, "*", "t", e.kind, "s", strconv.FormatInt(e.seq, 10), "d", p.data[start:e.end])
			start = e.end
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("xadd: %w", err)
		}
	}
	return nil
}
