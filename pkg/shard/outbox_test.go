package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// note is a command that tests tell apart by its number.
func note(n int) Command { return Raw{Op: opVoiceState, Data: json.RawMessage(fmt.Sprint(n))} }

// sendAll sends so many notes, in order, without waiting for them, and returns where their fates come.
func (r *rig) sendAll(ctx context.Context, count int) chan error {
	fates := make(chan error, count)
	for n := range count {
		go func() { fates <- r.session.Send(ctx, note(n)) }()
		synctest.Wait() // it is in the queue before the next comes
	}
	return fates
}

// TestSend: commands wait for the session to be live, go out in order, and survive a reconnect.
func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.next()
		fates := r.sendAll(t.Context(), 3)
		c.hello()
		c.expect(opIdentify)
		c.cut() // before READY
		c = r.next()
		c.hello()
		c.expect(opIdentify)
		synctest.Wait()
		c.silent()
		if s := r.session.Status(); s.Queued != 3 || s.Commands != 0 {
			t.Errorf("status %+v", s)
		}
		c.ready("session-secret")
		for n := range 3 {
			if m := c.expect(opVoiceState); string(m.Data) != fmt.Sprint(n) {
				t.Errorf("%s came where %d was due", m.Data, n)
			}
			if err := <-fates; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if s := r.session.Status(); s.Queued != 0 || s.Commands != 3 {
			t.Errorf("status %+v", s)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestSendIsPaced: the limit of the connection holds commands back but no heartbeat, and goes on by itself.
func TestSendIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		begin := time.Now()
		fates := r.sendAll(t.Context(), 200)
		for range 200 {
			c.expect(opVoiceState)
			if err := <-fates; err != nil {
				t.Error(err)
			}
		}
		// IDENTIFY and heartbeats take part, so 115 to 116 go at once and the rest a minute later.
		if took := time.Since(begin); took < sendPeriod-time.Second || took > sendPeriod+time.Second {
			t.Errorf("200 commands took %s", took)
		}
		if n := c.beats.Load(); n < 1 {
			t.Errorf("%d heartbeats meanwhile", n)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestSendAfterReconnectIsPacedAnew: what waited for the limit of the old connection goes out on the new one at once.
func TestSendAfterReconnectIsPacedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		begin := time.Now()
		fates := r.sendAll(t.Context(), 150)
		c.cut()
		c = r.next()
		c.hello()
		c.expect(opResume)
		c.dispatch(2, "RESUMED", `{}`)
		for range 150 {
			if err := <-fates; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("150 commands took %s", took)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestSendGivesUp: with its context, with Run, when the queue is full, and before Run.
func TestSendGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.next()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.session.Send(impatient, note(0)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without patience: %v", err)
		}
		fates := r.sendAll(t.Context(), maxQueued)
		if err := r.session.Send(t.Context(), note(0)); !errors.Is(err, ErrQueueFull) {
			t.Errorf("one too many: %v", err)
		}
		if err := r.session.Send(t.Context(), Raw{}); !errors.Is(err, ErrBadCommand) {
			t.Errorf("bad command: %v", err)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
		for range maxQueued {
			if err := <-fates; !errors.Is(err, ErrNotRunning) {
				t.Fatalf("when Run ended: %v", err)
			}
		}
		if err := r.session.Send(t.Context(), note(0)); !errors.Is(err, ErrNotRunning) {
			t.Errorf("after Run: %v", err)
		}
		c.cut()
	})
}

// TestSendIntoABrokenConnection: whether Discord saw the command is unknown, so it is not sent again.
func TestSendIntoABrokenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		var stalled atomic.Bool
		r := start(t, nil, stalling(&open, &stalled))
		c := r.live()
		stalled.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // over before the write is given up
		defer cancel()
		if err := r.session.Send(ctx, note(1)); !errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("Send: %v", err)
		}
		stalled.Store(false)
		c.expectClose()
		c = r.next()
		c.hello()
		c.expect(opResume)
		c.dispatch(2, "RESUMED", `{}`)
		synctest.Wait()
		c.silent()
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// slowConn is a network connection on which, from some time on, each write takes a second.
type slowConn struct {
	net.Conn
	slow *atomic.Bool
}

func (c slowConn) Write(p []byte) (int, error) {
	if c.slow.Load() {
		time.Sleep(time.Second) // virtual
	}
	return c.Conn.Write(p)
}

// TestHeartbeatsComeFirst: one that is due waits for the command that is being written, and for no other, however many wait.
func TestHeartbeatsComeFirst(t *testing.T) {
	for range 10 { // without that, chance would decide each time
		synctest.Test(t, func(t *testing.T) {
			var slow atomic.Bool
			r := start(t, nil, func(c *Config) {
				dial := c.DialContext
				c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := dial(ctx, network, addr)
					return slowConn{conn, &slow}, err
				}
			})
			c := r.live()
			slow.Store(true)
			for n := range 110 {
				go func() { _ = r.session.Send(t.Context(), note(n)) }()
			}
			beats, last := c.beats.Load(), time.Time{}
			for range 110 {
				c.expect(opVoiceState)
				if n := c.beats.Load(); n != beats {
					now := time.Now()
					// The beat before was written, an interval went by, at most one command was being written, then this one.
					if wait := now.Sub(last); !last.IsZero() && wait > interval+4*time.Second {
						t.Errorf("a heartbeat came %s after the one before", wait)
					}
					beats, last = n, now
				}
			}
			if last.IsZero() {
				t.Error("no heartbeat")
			}
			slow.Store(false)
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPresencesArePaced: the sixth in twenty seconds waits, though the connection has room, and lets others pass.
func TestPresencesArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		r.live()
		begin := time.Now()
		for range presenceLimit {
			if err := r.session.Send(t.Context(), Presence{Status: "idle"}); err != nil || time.Since(begin) != 0 {
				t.Errorf("after %s: %v", time.Since(begin), err)
			}
		}
		sixth := make(chan error)
		go func() { sixth <- r.session.Send(t.Context(), Presence{Status: "dnd"}) }()
		synctest.Wait()
		if err := r.session.Send(t.Context(), note(1)); err != nil || time.Since(begin) != 0 {
			t.Errorf("another kind after %s: %v", time.Since(begin), err)
		}
		if err := <-sixth; err != nil || time.Since(begin) != presencePeriod {
			t.Errorf("the sixth after %s: %v", time.Since(begin), err)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestRateLimited: RATE_LIMITED holds further requests for members of its guild back, and is delivered like any event.
func TestRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		c.dispatch(2, "RATE_LIMITED", `{"opcode":8,"retry_after":12.5,"meta":{"guild_id":"7","nonce":"n"}}`)
		synctest.Wait()
		begin := time.Now()
		if err := r.session.Send(t.Context(), RequestGuildMembers{GuildID: 8}); err != nil || time.Since(begin) != 0 {
			t.Errorf("another guild after %s: %v", time.Since(begin), err)
		}
		if err := r.session.Send(t.Context(), RequestGuildMembers{GuildID: 7}); err != nil || time.Since(begin) != 12500*time.Millisecond {
			t.Errorf("the guild after %s: %v", time.Since(begin), err)
		}
		if n := len(r.seen()); n != 2 {
			t.Errorf("%d events", n)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestRateLimitedInOtherForms: what cannot be read holds nothing back, and a wait is bounded.
func TestRateLimitedInOtherForms(t *testing.T) {
	for d, want := range map[string]time.Duration{
		`{"opcode":8,"retry_after":1e300,"meta":{"guild_id":"7"}}`: maxHold,
		`{"opcode":8,"retry_after":-1,"meta":{"guild_id":"7"}}`:    -1,
		`{"opcode":3,"retry_after":1,"meta":{"guild_id":"7"}}`:     -1,
		`{"opcode":8,"retry_after":"1","meta":{"guild_id":"7"}}`:   -1,
		`[]`: -1,
	} {
		if in, ok := rateLimited([]byte(d)); ok != (want >= 0) || ok && in.interval != want {
			t.Errorf("%s: %+v, %v", d, in, ok)
		}
	}
}

// TestBeatsThatAreAskedFor: Discord may ask for many, but not for so many that the answers break its own limit.
func TestBeatsThatAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		for range 2 * sendLimit {
			c.send(`{"t":null,"s":null,"op":1,"d":null}`)
		}
		synctest.Wait()
		if n := c.beats.Load(); n < sendLimit-10 || n >= sendLimit { // IDENTIFY was one
			t.Errorf("%d heartbeats", n)
		}
		time.Sleep(2 * sendPeriod)
		if s := r.session.Status(); s.State != StateLive || s.Connects != 1 {
			t.Errorf("status %+v", s)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}
