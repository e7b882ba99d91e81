package shard

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestCaughtUp: who reads slowly is not caught up until what was sent before is delivered, whatever heartbeats are answered first.
func TestCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var r *rig
		r = start(t, nil, func(c *Config) {
			c.Deliver = func(ctx context.Context, e Event) error {
				if e.Seq == 2 || e.Seq == 3 {
					<-release
				}
				return r.deliver(ctx, e)
			}
		})
		c := r.live()
		go func() {
			c.dispatch(2, "X", `"a"`)
			time.Sleep(2 * interval) // a heartbeat's answer is between them
			c.dispatch(3, "X", `"b"`)
		}()
		time.Sleep(5 * interval / 2)
		done := make(chan error, 1)
		go func() { done <- r.session.CaughtUp(t.Context()) }()
		release <- struct{}{}
		synctest.Wait()
		if len(done) != 0 {
			t.Error("an answer that lay there already was taken for ours")
		}
		release <- struct{}{}
		if err := <-done; err != nil || len(r.seen()) != 3 {
			t.Errorf("%v, delivered %v", err, r.seen())
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestCaughtUpOnTheNextConnection: an answer that never comes is asked for again.
func TestCaughtUpOnTheNextConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		c.ack.Store(false)
		done := make(chan error, 1)
		go func() { done <- r.session.CaughtUp(t.Context()) }()
		synctest.Wait()
		c.cut()
		c = r.next()
		c.hello()
		c.expectResume("session-secret", 1)
		synctest.Wait()
		if len(done) != 0 {
			t.Error("caught up before the replay")
		}
		c.dispatch(2, "X", `"a"`)
		c.dispatch(3, "RESUMED", `{}`)
		if err := <-done; err != nil || len(r.seen()) != 3 {
			t.Errorf("%v, delivered %v", err, r.seen())
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := r.session.CaughtUp(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("when it does not run: %v", err)
		}
	})
}
