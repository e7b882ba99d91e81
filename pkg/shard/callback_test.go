package shard

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestBackPressure holds up Deliver for ten minutes. Heartbeats go on, their answers lie unread in the socket, and the
// connection is not taken for dead; afterwards all that was sent is delivered.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var r *rig
		r = start(t, nil, func(c *Config) {
			c.Deliver = func(ctx context.Context, e Event) error {
				if e.Seq == 2 {
					<-release
				}
				return r.deliver(ctx, e)
			}
		})
		c := r.live()
		go func() {
			for seq := range int64(20) {
				c.dispatch(seq+2, "X", `"`+strings.Repeat("x", 10_000)+`"`)
			}
		}()
		time.Sleep(10 * time.Minute)
		if n := c.beats.Load(); n < 14 {
			t.Errorf("%d heartbeats in ten minutes", n)
		}
		if n := len(r.seen()); n != 1 {
			t.Errorf("%d events delivered while Deliver was held up", n)
		}
		close(release)
		synctest.Wait()
		if n := len(r.seen()); n != 21 || r.session.Status().Connects != 1 {
			t.Errorf("%d events, status %+v", n, r.session.Status())
		}
		time.Sleep(10 * time.Minute)
		if err := r.stop(nil); err != nil || r.session.Status().Connects != 1 {
			t.Errorf("%v, status %+v", err, r.session.Status())
		}
	})
}

// TestPermitDeadline: a permit that ran out is not used; another is asked for.
func TestPermitDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, sent atomic.Int64
		r := start(t, nil, func(c *Config) {
			c.Identifier = identifier(func(context.Context) (Permit, error) {
				permit := Permit{Deadline: time.Now(), Sent: func() { sent.Add(1) }}
				if asked.Add(1) == 3 {
					permit.Deadline = time.Now().Add(time.Second)
				}
				return permit, nil
			})
		})
		c := r.next()
		c.hello()
		c.expect(opIdentify)
		synctest.Wait()
		if asked.Load() != 3 || sent.Load() != 1 || r.session.Status().Identifies != 1 {
			t.Errorf("asked %d times, sent %d", asked.Load(), sent.Load())
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestGate: nothing is sent while the gate is closed, neither before dialling nor between HELLO and RESUME. Heartbeats
// go on. A gate that closes while an identify permit is waited for outlasts the permit, which is then not used.
func TestGate(t *testing.T) {
	inBubble(t, "before the dial", func(t *testing.T) {
		open := make(chan struct{})
		r := start(t, held, func(c *Config) { c.Gate = func(context.Context) error { <-open; return nil } })
		time.Sleep(time.Hour)
		if s := r.session.Status(); s.Connects != 0 || s.State != StateWaiting {
			t.Errorf("status %+v", s)
		}
		close(open)
		c := r.next()
		c.hello()
		c.expect(opResume)
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
	for _, resume := range []*Resume{held, nil} {
		inBubble(t, fmt.Sprintf("after hello, resume %v", resume != nil), func(t *testing.T) {
			gates := make(chan struct{}, 3)
			permits := 0
			r := start(t, resume, func(c *Config) {
				c.Gate = func(ctx context.Context) error {
					select {
					case <-gates:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				c.Identifier = identifier(func(context.Context) (Permit, error) {
					permits++
					return Permit{Deadline: time.Now().Add(5 * time.Second)}, nil
				})
			})
			gates <- struct{}{}
			c := r.next()
			c.hello()
			time.Sleep(10 * time.Minute)
			c.silent()
			if n := c.beats.Load(); n < 14 || r.session.Status().State != StateAsking {
				t.Errorf("%d heartbeats, status %+v", n, r.session.Status())
			}
			gates <- struct{}{}
			if resume != nil {
				c.expect(opResume)
			} else {
				time.Sleep(2 * retryLatePermit) // the permit has run out meanwhile
				c.silent()
				gates <- struct{}{}
				c.expect(opIdentify)
				if permits != 2 {
					t.Errorf("%d permits", permits)
				}
			}
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPermissionEndsWithTheConnection: the wait for a permit is cancelled and joined when the connection is lost.
func TestPermissionEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting atomic.Int64
		r := start(t, nil, func(c *Config) {
			c.Identifier = identifier(func(ctx context.Context) (Permit, error) {
				waiting.Add(1)
				defer waiting.Add(-1)
				<-ctx.Done()
				return Permit{}, ctx.Err()
			})
		})
		for range 3 {
			c := r.next()
			if waiting.Load() != 0 {
				t.Error("an earlier wait is still on")
			}
			c.hello()
			synctest.Wait()
			if waiting.Load() != 1 {
				t.Error("no permit was asked for")
			}
			c.cut()
		}
		if err := r.stop(nil); err != nil || waiting.Load() != 0 {
			t.Error(err)
		}
	})
}

func TestCallbackErrors(t *testing.T) {
	boom := errors.New("boom")
	text := map[string]string{"load": "load session", "begin": "save session"}
	for name, change := range map[string]func(*Config){
		"gate": func(c *Config) { c.Gate = func(context.Context) error { return boom } },
		"load": func(c *Config) { c.Store = &storeFuncs{load: func() error { return boom }} },
		"identify": func(c *Config) {
			c.Identifier = identifier(func(context.Context) (Permit, error) { return Permit{}, boom })
		},
		"begin":   func(c *Config) { c.Store = &storeFuncs{begin: func(Resume) error { return boom }} },
		"deliver": func(c *Config) { c.Deliver = func(context.Context, Event) error { return boom } },
	} {
		inBubble(t, name, func(t *testing.T) {
			r := start(t, nil, change)
			if name != "gate" && name != "load" {
				c := r.next()
				c.hello()
				if name != "identify" {
					c.expect(opIdentify)
					c.ready("session-secret")
				}
				if code := c.expectClose(); code != closeResumable {
					t.Errorf("closed with %d", code)
				}
			}
			err := <-r.done
			if !errors.Is(err, boom) || !strings.Contains(err.Error(), "shard 3/16: "+cmp.Or(text[name], name)) {
				t.Errorf("returned %v", err)
			}
			if r.session.Status().Seq != 0 {
				t.Error("an event that was not delivered moved the position")
			}
		})
	}
}

// TestStore: the store is told of a session before its READY is delivered, and in the end of where it stands, also when that
// is nowhere; and the next Run goes on from there.
func TestStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *rig
		var told []string
		tell := func(what string, s Resume) error {
			told = append(told, fmt.Sprintf("%s %q %d after %d", what, s.SessionID, s.Seq, len(r.seen())))
			return nil
		}
		store := &storeFuncs{begin: func(s Resume) error { return tell("begin", s) },
			end: func(ctx context.Context, s Resume) error { return errors.Join(ctx.Err(), tell("end", s)) }}
		r = start(t, nil, func(c *Config) { c.Store = store })
		r.live().dispatch(2, "X", `{}`)
		synctest.Wait()
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { r.done <- r.session.Run(ctx) }()
		c := r.next()
		c.hello()
		c.expectResume("session-secret", 2)
		cancel(ErrEndSession)
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		want := []string{`begin "session-secret" 0 after 0`, `end "session-secret" 2 after 2`, `end "" 0 after 2`}
		if !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// TestStoreIsKeptWhenItCannotBeRead: a Run that was stopped before it knew its session must not report that there is none.
func TestStoreIsKeptWhenItCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		store := &storeFuncs{load: func() error { return ctx.Err() }, end: func(context.Context, Resume) error {
			t.Error("told of an end")
			return nil
		}}
		cfg := goodConfig()
		cfg.Store = store
		session, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Run(ctx); err != nil || session.Status().State != StateStopped {
			t.Errorf("Run: %v, %+v", err, session.Status())
		}
	})
}

// TestStoreThatFailsInTheEnd: Run says so, but what ended it comes first.
func TestStoreThatFailsInTheEnd(t *testing.T) {
	boom := errors.New("boom")
	synctest.Test(t, func(t *testing.T) {
		refusing := func(c *Config) {
			c.Store = &storeFuncs{end: func(context.Context, Resume) error { return boom }}
		}
		r := start(t, nil, refusing)
		r.live()
		if err := r.stop(nil); !errors.Is(err, boom) {
			t.Errorf("Run: %v", err)
		}
		r = start(t, nil, refusing)
		r.live().close(4004)
		if err := <-r.done; !errors.As(err, new(*FatalError)) {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestRunJoinsThePermission: Run does not return before the callback it waits for has.
func TestRunJoinsThePermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		returned := false
		r := start(t, nil, func(c *Config) {
			c.Identifier = identifier(func(ctx context.Context) (Permit, error) {
				<-ctx.Done()
				time.Sleep(time.Minute)
				returned = true
				return Permit{}, nil
			})
		})
		r.next().hello()
		synctest.Wait()
		if err := r.stop(nil); err != nil || !returned {
			t.Errorf("%v, callback had returned: %v", err, returned)
		}
	})
}

// TestStopWhileDelivering: Run returns only once Deliver has, and an event whose Deliver fails because the context
// ended counts as not delivered.
func TestStopWhileDelivering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := start(t, nil, func(c *Config) {
			c.Deliver = func(_ context.Context, e Event) error {
				if e.Seq == 1 {
					return nil
				}
				<-release
				return fmt.Errorf("queue: %w", context.Canceled)
			}
		})
		c := r.live()
		c.dispatch(2, "X", `{}`)
		synctest.Wait()
		r.cancel(nil)
		time.Sleep(time.Minute)
		select {
		case err := <-r.done:
			t.Fatalf("Run returned (%v) before Deliver did", err)
		default:
		}
		close(release)
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		if got, _ := r.session.Resume(); got.Seq != 1 {
			t.Errorf("resume point %v", got)
		}
	})
}

func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var states []State
		r := start(t, nil, func(c *Config) { c.Observe = func(s Status) { states = append(states, s.State) } })
		r.live().cut()
		c := r.next()
		c.hello()
		c.expect(opResume)
		synctest.Wait()
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
		want := []State{StateWaiting, StateConnecting, StateAsking, StateIdentifying, StateLive,
			StateWaiting, StateConnecting, StateAsking, StateResuming, StateWaiting, StateStopped}
		if !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}
