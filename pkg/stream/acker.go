package stream

import (
	"context"
	"errors"
	"sync"

	"github.com/redis/go-redis/v9"
)

// acker acknowledges what handlers are done with, for all shards in one
// pipeline: what is done while one is under way goes with the next.
type acker struct {
	client Client
	group  string
	wake   chan struct{} // holds one token when ready may have become non-empty

	mu    sync.Mutex
	ready []*receipts
}

// receipts are the entries of one shard that are to be acknowledged. The acker's
// mutex guards them.
type receipts struct {
	key    string
	valid  context.Context // once it has ended, a failed attempt is the last
	ids    []string
	queued bool          // in ready, or being sent
	clear  chan struct{} // closed when none is left, if somebody waits
}

func newAcker(client Client, group string) *acker {
	return &acker{client: client, group: group, wake: make(chan struct{}, 1)}
}

func (a *acker) ack(r *receipts, id string) {
	a.mu.Lock()
	r.ids = append(r.ids, id)
	if !r.queued {
		r.queued = true
		a.ready = append(a.ready, r)
	}
	a.mu.Unlock()
	signal(a.wake)
}

// flush waits until all of r are acknowledged, or given up.
func (a *acker) flush(r *receipts) {
	a.mu.Lock()
	if !r.queued {
		a.mu.Unlock()
		return
	}
	if r.clear == nil {
		r.clear = make(chan struct{})
	}
	cleared := r.clear
	a.mu.Unlock()
	select {
	case <-cleared:
	case <-r.valid.Done():
	}
}

// run sends acknowledgements until ctx ends. Those that fail are kept and sent
// again; there are never more than have been read and not acknowledged.
func (a *acker) run(ctx context.Context) {
	for attempt := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		if a.send(ctx) {
			attempt = 0
			continue
		}
		pause(ctx, backoff(attempt))
		attempt++
		signal(a.wake)
	}
}

// send makes one attempt at all that is ready and reports whether it succeeded.
func (a *acker) send(ctx context.Context) bool {
	a.mu.Lock()
	round := a.ready
	a.ready = nil
	sent := make([][]string, len(round))
	for i, r := range round {
		sent[i], r.ids = r.ids, nil
	}
	a.mu.Unlock()

	pipe := a.client.Pipeline()
	acks := make([]*redis.IntCmd, len(round))
	for i, r := range round {
		acks[i] = pipe.XAck(ctx, r.key, a.group, sent[i]...)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error

	a.mu.Lock()
	defer a.mu.Unlock()
	failed := false
	for i, r := range round {
		if err := acks[i].Err(); err != nil && r.valid.Err() == nil && !errors.Is(err, redis.Nil) {
			r.ids = append(sent[i], r.ids...)
			failed = true
		}
		if len(r.ids) > 0 {
			a.ready = append(a.ready, r)
			signal(a.wake)
			continue
		}
		r.queued = false
		if r.clear != nil {
			close(r.clear)
			r.clear = nil
		}
	}
	return !failed
}
