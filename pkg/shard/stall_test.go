package shard

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stallingConn is a network connection on which, from some time on, writes get stuck. It counts those open.
type stallingConn struct {
	net.Conn
	open    *atomic.Int64
	stalled *atomic.Bool
	closed  chan struct{}
	once    sync.Once
}

func (c *stallingConn) Write(p []byte) (int, error) {
	if c.stalled.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *stallingConn) Close() error {
	c.once.Do(func() {
		c.open.Add(-1)
		close(c.closed)
	})
	return c.Conn.Close()
}

// stalling makes a session dial stallingConns.
func stalling(open *atomic.Int64, stalled *atomic.Bool) func(*Config) {
	return func(c *Config) {
		dial := c.DialContext
		c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			open.Add(1)
			return &stallingConn{Conn: conn, open: open, stalled: stalled, closed: make(chan struct{})}, nil
		}
	}
}

// TestStopOnADeadConnection takes no longer than closeTimeout.
func TestStopOnADeadConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		var stalled atomic.Bool
		r := start(t, nil, stalling(&open, &stalled))
		r.live()
		stalled.Store(true)
		begin := time.Now()
		if err := r.stop(nil); err != nil || time.Since(begin) > closeTimeout || open.Load() != 0 {
			t.Errorf("%v after %s, %d connections open", err, time.Since(begin), open.Load())
		}
	})
}

// TestIdentifyWriteEndsWithThePermit: an IDENTIFY stuck in the socket is given up when the permit runs out, and does not
// count as sent.
func TestIdentifyWriteEndsWithThePermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		var stalled atomic.Bool
		slow := stalling(&open, &stalled)
		r := start(t, nil, func(c *Config) {
			slow(c)
			c.Identifier = identifier(func(context.Context) (Permit, error) {
				stalled.Store(true)
				return Permit{Deadline: time.Now().Add(time.Second), Sent: func() { t.Error("counted as sent") }}, nil
			})
		})
		c := r.next()
		c.hello()
		begin := time.Now()
		c.expectClose()
		if took := time.Since(begin); took != time.Second {
			t.Errorf("given up after %s", took)
		}
		if n := r.session.Status().Identifies; n != 0 {
			t.Errorf("%d identifies", n)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}
