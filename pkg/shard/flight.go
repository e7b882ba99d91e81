package shard

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"
)

// flight is a cluster from Up until all that started has ended.
type flight struct {
	ctx      context.Context // ends when the cluster has to go down
	cancel   context.CancelCauseFunc
	sessions []*Session    // in order of their indices; under the Cluster's mu
	done     chan struct{} // closed in the end
	err      error         // what took it down, unless it was asked to; to be read once done is closed
}

func (c *Cluster) current() *flight {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flight
}

// begin makes a new flight the current one, if the last is over. Of the context it takes the values only.
func (c *Cluster) begin(ctx context.Context) (*flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight != nil {
		select {
		case <-c.flight.done:
		default:
			return nil, errors.New("cluster is up already")
		}
	}
	f := &flight{done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c.flight = f
	return f, nil
}

// launch asks Discord and starts the sessions, whose end is the flight's. If it fails the flight is over.
func (c *Cluster) launch(f *flight) error {
	sessions, err := c.prepare(f.ctx)
	if err != nil {
		if f.ctx.Err() == nil {
			f.err = err
		}
		f.cancel(nil)
		close(f.done)
		return err
	}
	c.mu.Lock()
	f.sessions = sessions
	c.mu.Unlock()
	group, ctx := errgroup.WithContext(f.ctx)
	for _, s := range sessions {
		group.Go(func() error { return s.Run(ctx) })
	}
	go func() {
		defer close(f.done)
		f.err = group.Wait()
		f.cancel(nil)
	}()
	return nil
}

// prepare makes the sessions as Discord wants them now.
func (c *Cluster) prepare(ctx context.Context) ([]*Session, error) {
	bot, err := c.ask(ctx)
	if err != nil {
		return nil, fmt.Errorf("cluster up: %w", err)
	}
	if c.queue != nil {
		c.queue.Update(bot.Limits)
	}
	var sessions []*Session
	for _, id := range c.cfg.ids(bot.Shards) {
		cfg := c.cfg.Shard
		cfg.ID, cfg.GatewayURL = id, bot.URL
		cfg.Deliver = func(ctx context.Context, event Event) error { return c.deliver(ctx, id, event) }
		if c.cfg.Observe != nil {
			cfg.Observe = func(status Status) { c.cfg.Observe(id, status) }
		}
		session, err := New(cfg)
		if err != nil {
			return nil, fmt.Errorf("cluster up: %w", err)
		}
		sessions = append(sessions, session)
	}
	return sessions, nil
}

// ask asks Discord until it answers, refuses for good, or the context ends, and then returns its cause.
func (c *Cluster) ask(ctx context.Context) (GatewayBot, error) {
	var past history
	for {
		bot, err := GetGatewayBot(ctx, c.client, c.cfg.APIURL, c.cfg.Shard.Token)
		if ctx.Err() != nil {
			return GatewayBot{}, context.Cause(ctx)
		}
		pause, passes := passing(err)
		if !passes {
			return bot, err
		}
		past.failures++
		wait := past.backoff().atLeast(pause).draw()
		c.log.Warn("discord does not say how to connect; asking again", "error", err, "wait", wait)
		if sleep(ctx, wait) != nil {
			return GatewayBot{}, context.Cause(ctx)
		}
	}
}

// passing says whether an error of [GetGatewayBot] is trouble that may pass, and how long to give it at least.
func passing(err error) (pause delay, passes bool) {
	if api, ok := errors.AsType[*APIError](err); ok {
		return delay{api.RetryAfter, api.RetryAfter + backoffBase}, api.Status == http.StatusTooManyRequests || api.Status >= 500
	}
	return delay{}, err != nil && !errors.Is(err, ErrTokenRefused)
}

// deliver waits for the shard's turn, in which no other shard's event is delivered.
func (c *Cluster) deliver(ctx context.Context, id ID, event Event) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.turn }()
	return c.cfg.Deliver(ctx, id, event)
}
