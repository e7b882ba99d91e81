package stream

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// courier makes the calls of many goroutines in shared pipelines: what is asked
// for while one is under way goes with the next.
type courier struct {
	client Client
	wake   chan struct{} // holds one token when errands may have become non-empty

	mu      sync.Mutex
	errands []errand
}

type errand struct {
	*call
	done chan struct{} // closed when the call has ended
}

func newCourier(client Client) *courier {
	return &courier{client: client, wake: make(chan struct{}, 1)}
}

// do makes a call and returns its reply. When ctx ends first the call may be
// made nevertheless.
func (c *courier) do(ctx context.Context, script *redis.Script, keys []string, args ...any) (any, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	e := errand{call: &call{script: script, keys: keys, args: args}, done: make(chan struct{})}
	c.mu.Lock()
	c.errands = append(c.errands, e)
	c.mu.Unlock()
	signal(c.wake)
	select {
	case <-e.done:
		return e.cmd.Result()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *courier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
		c.mu.Lock()
		errands := c.errands
		c.errands = nil
		c.mu.Unlock()
		calls := make([]*call, len(errands))
		for i, e := range errands {
			calls[i] = e.call
		}
		roundTrip(ctx, c.client, calls)
		for _, e := range errands {
			close(e.done)
		}
	}
}

// signal puts a token into a channel that holds one, unless it is there.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
