package shard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// held is a session to resume.
var held = &Resume{SessionID: "session-secret", URL: "ws://resume.test", Seq: 5}

// inBubble runs a test on virtual time.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestSessionLives(t *testing.T) {
	for _, compression := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
		inBubble(t, string(compression), func(t *testing.T) {
			r := start(t, nil, func(c *Config) { c.Compression = compression })
			c := r.live()
			if wantQuery := strings.TrimPrefix("compress="+string(compression)+"&", "compress=none&") + "encoding=json&v=10"; c.query != wantQuery {
				t.Errorf("connected with %s", c.query)
			}
			c.dispatch(2, "MESSAGE_CREATE", `{"id":"1",  "content":"é\u0041"}`)
			synctest.Wait()
			want := []string{
				`1 READY {"v":10,"session_id":"","resume_gateway_url":"ws://resume.test"}`,
				`2 MESSAGE_CREATE {"id":"1",  "content":"é\u0041"}`,
			}
			if got := r.seen(); !slices.Equal(got, want) {
				t.Fatalf("delivered %q, want %q", got, want)
			}
			if err := r.stop(nil); err != nil {
				t.Fatal(err)
			}
			if code := c.expectClose(); code != 4000 { // 1000 and 1001 would destroy the session
				t.Fatalf("closed with %d", code)
			}
			if got, ok := r.session.Resume(); !ok || got != (Resume{"session-secret", "ws://resume.test", 2}) {
				t.Fatalf("resume point %v", got)
			}
		})
	}
}

func TestIdentify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, func(c *Config) { c.LargeThreshold = 250; c.Presence = []byte(`{"status":"idle"}`) })
		c := r.next()
		c.hello()
		const want = `{"token":"token-secret","intents":1,"properties":{"os":"linux","browser":"muster","device":"muster"},` +
			`"shard":[3,16],"large_threshold":250,"presence":{"status":"idle"}}`
		if got := string(c.expect(opIdentify).Data); got != want {
			t.Errorf("IDENTIFY with %s", got)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, held, nil)
		c := r.next()
		if c.host != "resume.test" {
			t.Errorf("dialled %s", c.host)
		}
		c.hello()
		c.expectResume("session-secret", 5)
		c.dispatch(4, "A", `4`) // Discord may begin before what we have
		c.dispatch(5, "B", `5`)
		c.dispatch(6, "C", `6`)
		c.dispatch(7, "RESUMED", `{"_trace":[]}`)
		c.dispatch(8, "D", `8`)
		synctest.Wait()
		if got, want := r.seen(), []string{"6 C 6", `7 RESUMED {"_trace":[]}`, "8 D 8"}; !slices.Equal(got, want) {
			t.Errorf("delivered %q, want %q", got, want)
		}
		if s := r.session.Status(); s.State != StateLive || s.Resumes != 1 || s.Identifies != 0 || s.Seq != 8 {
			t.Errorf("status %+v", s)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestReplayOfReady: a session resumed from its beginning has its READY replayed, whose id must not be seen either.
func TestReplayOfReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &Resume{SessionID: "session-secret"}, func(c *Config) {
			c.Established = func(Resume) error { return errors.New("no session was begun") }
		})
		c := r.next()
		c.hello()
		c.expectResume("session-secret", 0)
		c.ready("session-secret")
		c.dispatch(2, "RESUMED", `null`)
		synctest.Wait()
		want := []string{`1 READY {"v":10,"session_id":"","resume_gateway_url":"ws://resume.test"}`, "2 RESUMED null"}
		if got := r.seen(); !slices.Equal(got, want) {
			t.Errorf("delivered %q", got)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// stages bring a connection to every stage at which Discord can end it. Each leaves it in a session held or not.
var stages = []struct {
	name string
	held bool
	to   func(r *rig, c *peerConn)
}{
	{"for hello", false, func(*rig, *peerConn) {}},
	{"after identify", false, func(_ *rig, c *peerConn) { c.hello(); c.expect(opIdentify) }},
	{"after ready", true, func(_ *rig, c *peerConn) { c.hello(); c.expect(opIdentify); c.ready("session-secret") }},
}

// TestCloseCodesEndToEnd closes a running session with each code of the table, and looks at what comes next.
func TestCloseCodesEndToEnd(t *testing.T) {
	for _, rule := range closeRules {
		inBubble(t, fmt.Sprint(rule.code), func(t *testing.T) {
			r := start(t, nil, nil)
			r.live().close(rule.code)
			if rule.remedy == fatal {
				var f *FatalError
				if err := <-r.done; !errors.As(err, &f) || f.Code != rule.code || f.FleetWide() != rule.fleetWide {
					t.Fatalf("returned %v", err)
				}
				if s := r.session.Status(); s.State != StateFailed || s.LastClose != rule.code {
					t.Fatalf("status %+v", s)
				}
				return
			}
			c := r.next()
			c.hello()
			if rule.remedy == identify {
				c.expect(opIdentify)
				if r, ok := r.session.Resume(); ok || r.Seq != 0 {
					t.Errorf("the lost session is still said to exist: %s", r)
				}
				if c.host != "base.test" || c.lastBeat.Load() != nil && c.lastBeat.Load() != "null" {
					t.Errorf("on %s, with heartbeat %v", c.host, c.lastBeat.Load())
				}
			} else {
				c.expectResume("session-secret", 1)
			}
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEndsAtEveryStage: op 7, op 9, a lost connection and an unreadable one, at every stage.
func TestEndsAtEveryStage(t *testing.T) {
	ends := []struct {
		name     string
		end      func(c *peerConn)
		loses    bool
		min, max time.Duration // until the next connection
	}{
		{"op 7", func(c *peerConn) { c.send(`{"t":null,"s":null,"op":7,"d":null}`) }, false, 0, 0},
		{"op 9 true", func(c *peerConn) { c.send(`{"t":null,"s":null,"op":9,"d":true}`) }, false, time.Second, 5 * time.Second},
		{"op 9 false", func(c *peerConn) { c.send(`{"t":null,"s":null,"op":9,"d":false}`) }, true, time.Second, 5 * time.Second},
		{"lost", func(c *peerConn) { c.cut() }, false, 0, 2 * time.Second},
		{"unreadable", func(c *peerConn) { c.send(`secret nonsense`) }, false, 0, 2 * time.Second},
	}
	for _, stage := range stages {
		for _, end := range ends {
			inBubble(t, end.name+" "+stage.name, func(t *testing.T) {
				r := start(t, nil, nil)
				c := r.next()
				stage.to(r, c)
				synctest.Wait()
				begin := time.Now()
				end.end(c)
				if code := c.expectClose(); end.name != "lost" && code != closeResumable {
					t.Errorf("closed with %d", code)
				}
				c = r.next()
				if took := time.Since(begin); took < end.min || took > end.max {
					t.Errorf("came back after %s", took)
				}
				c.hello()
				if stage.held && !end.loses {
					c.expectResume("session-secret", 1)
				} else {
					c.expect(opIdentify)
				}
				if err := r.stop(nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		time.Sleep(time.Hour)
		if n := c.beats.Load(); n < 89 || n > 90 {
			t.Errorf("%d heartbeats in an hour", n)
		}
		if got := c.lastBeat.Load(); got != "1" {
			t.Errorf("heartbeat with %v", got)
		}
		before := c.beats.Load()
		c.send(`{"t":null,"s":null,"op":1,"d":null}`)
		synctest.Wait()
		if c.beats.Load() != before+1 {
			t.Error("op 1 was not answered at once")
		}
		if s := r.session.Status(); s.LastAck.IsZero() || s.Connects != 1 {
			t.Errorf("status %+v", s)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

func TestZombie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		c.ack.Store(false)
		begin := time.Now()
		if code := c.expectClose(); code != closeResumable {
			t.Errorf("closed with %d", code)
		}
		if took := time.Since(begin); took > 2*interval+closeTimeout {
			t.Errorf("noticed after %s", took)
		}
		c = r.next()
		c.hello()
		c.expectResume("session-secret", 1)
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestBackPressure holds up Deliver for ten minutes. Heartbeats go on, their answers lie unread in the socket, and the
// connection is not taken for dead; afterwards all that was sent is delivered.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var r *rig
		r = start(t, nil, func(c *Config) {
			c.Deliver = func(e Event) error {
				if e.Seq == 2 {
					<-release
				}
				return r.deliver(e)
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

func TestDisorder(t *testing.T) {
	for name, seq := range map[string]int64{"skipped": 3, "again": 1} {
		inBubble(t, name, func(t *testing.T) {
			r := start(t, nil, nil)
			c := r.live()
			c.dispatch(seq, "X", `{}`)
			if code := c.expectClose(); code != closeResumable {
				t.Errorf("closed with %d", code)
			}
			c = r.next()
			c.hello()
			c.expectResume("session-secret", 1)
			if n := len(r.seen()); n != 1 {
				t.Errorf("%d events delivered", n)
			}
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPermitDeadline: a permit that ran out is not used; another is asked for.
func TestPermitDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, sent atomic.Int64
		r := start(t, nil, func(c *Config) {
			c.Identify = func(context.Context) (Permit, error) {
				permit := Permit{Deadline: time.Now(), Sent: func() { sent.Add(1) }}
				if asked.Add(1) == 3 {
					permit.Deadline = time.Now().Add(time.Second)
				}
				return permit, nil
			}
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
				c.Identify = func(context.Context) (Permit, error) {
					permits++
					return Permit{Deadline: time.Now().Add(5 * time.Second)}, nil
				}
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
			c.Identify = func(ctx context.Context) (Permit, error) {
				waiting.Add(1)
				defer waiting.Add(-1)
				<-ctx.Done()
				return Permit{}, ctx.Err()
			}
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
	for name, change := range map[string]func(*Config){
		"gate":        func(c *Config) { c.Gate = func(context.Context) error { return boom } },
		"identify":    func(c *Config) { c.Identify = func(context.Context) (Permit, error) { return Permit{}, boom } },
		"established": func(c *Config) { c.Established = func(Resume) error { return boom } },
		"deliver":     func(c *Config) { c.Deliver = func(Event) error { return boom } },
	} {
		inBubble(t, name, func(t *testing.T) {
			r := start(t, nil, change)
			if name != "gate" {
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
			if !errors.Is(err, boom) || !strings.Contains(err.Error(), "shard 3/16: "+name) {
				t.Errorf("returned %v", err)
			}
			if r.session.Status().Seq != 0 {
				t.Error("an event that was not delivered moved the position")
			}
		})
	}
}

func TestEstablished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *rig
		calls := 0
		r = start(t, nil, func(c *Config) {
			c.Established = func(got Resume) error {
				calls++
				if want := (Resume{"session-secret", "ws://resume.test", 0}); got != want || len(r.seen()) != 0 {
					t.Errorf("told of %q after %d events", got.SessionID, len(r.seen()))
				}
				return nil
			}
		})
		r.live()
		if err := r.stop(nil); err != nil || calls != 1 {
			t.Errorf("%v, %d calls", err, calls)
		}
	})
}

// TestLargeEvent is beyond the WebSocket library's default limit of 32 KiB.
func TestLargeEvent(t *testing.T) {
	for _, compression := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
		inBubble(t, string(compression), func(t *testing.T) {
			r := start(t, nil, func(c *Config) { c.Compression = compression })
			c := r.live()
			d := fmt.Sprintf("%q", noise(rand.New(rand.NewPCG(7, 8)), 500_000))
			c.dispatch(2, "GUILD_CREATE", d)
			synctest.Wait()
			if got := r.seen(); len(got) != 2 || got[1] != "2 GUILD_CREATE "+d {
				t.Errorf("%d events delivered", len(got))
			}
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestForeignReady: RESUME must not be answered by a session of another name.
func TestForeignReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, &Resume{SessionID: "session-secret"}, nil)
		c := r.next()
		c.hello()
		c.expectResume("session-secret", 0)
		c.ready("another-secret")
		if code := c.expectClose(); code != closeResumable || len(r.seen()) != 0 {
			t.Errorf("closed with %d after %q", code, r.seen())
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestRunJoinsThePermission: Run does not return before the callback it waits for has.
func TestRunJoinsThePermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		returned := false
		r := start(t, nil, func(c *Config) {
			c.Identify = func(ctx context.Context) (Permit, error) {
				<-ctx.Done()
				time.Sleep(time.Minute)
				returned = true
				return Permit{}, nil
			}
		})
		r.next().hello()
		synctest.Wait()
		if err := r.stop(nil); err != nil || !returned {
			t.Errorf("%v, callback had returned: %v", err, returned)
		}
	})
}

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

func TestEndSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		if err := r.stop(ErrEndSession); err != nil {
			t.Error(err)
		}
		if code := c.expectClose(); code != closeEndSession {
			t.Errorf("closed with %d", code)
		}
		if _, ok := r.session.Resume(); ok {
			t.Error("the session is still said to exist")
		}
	})
}

// TestStopWhileDelivering: Run returns only once Deliver has, and an event whose Deliver fails because the context
// ended counts as not delivered.
func TestStopWhileDelivering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := start(t, nil, func(c *Config) {
			c.Deliver = func(e Event) error {
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

// TestResumeHostFails: the URL is dropped, not the session, and is used again once the session has run.
func TestResumeHostFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		r.dropped.Store(1)
		c.cut()
		c = r.next()
		if c.host != "base.test" {
			t.Errorf("dialled %s", c.host)
		}
		c.hello()
		c.expectResume("session-secret", 1)
		c.dispatch(2, "RESUMED", `{}`)
		synctest.Wait()
		c.cut()
		if c = r.next(); c.host != "resume.test" {
			t.Errorf("dialled %s", c.host)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

func TestFailedResumesAreCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, held, nil)
		for range maxFailedResumes {
			c := r.next()
			c.hello()
			c.expectResume("session-secret", 5)
			c.cut()
		}
		c := r.next()
		c.hello()
		c.expect(opIdentify)
		c.ready("another-secret")
		synctest.Wait()
		if got, _ := r.session.Resume(); got.SessionID != "another-secret" || got.Seq != 1 || r.session.Status().Lost != 1 {
			t.Errorf("resume point %v, status %+v", got, r.session.Status())
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestRefusedHandshakes are retried for as long as it takes, and cost no session.
func TestRefusedHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open atomic.Int64
		var stalled atomic.Bool
		r := start(t, held, stalling(&open, &stalled))
		r.refuse.Store(50)
		begin := time.Now()
		c := r.next()
		if took := time.Since(begin); took < time.Minute || took > 50*backoffMax {
			t.Errorf("50 refusals took %s", took)
		}
		if n := open.Load(); n != 1 {
			t.Errorf("%d connections are open", n)
		}
		c.hello()
		c.expectResume("session-secret", 5)
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

func TestSilentHost(t *testing.T) {
	inBubble(t, "no handshake", func(t *testing.T) {
		deaf, theirs := net.Pipe()
		defer theirs.Close()
		first := true
		r := start(t, held, func(c *Config) {
			dial := c.DialContext
			c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if first {
					first = false
					return deaf, nil
				}
				return dial(ctx, network, addr)
			}
		})
		begin := time.Now()
		c := r.next()
		if took := time.Since(begin); c.host != "base.test" || took < dialTimeout || took > dialTimeout+2*time.Second {
			t.Errorf("dialled %s after %s", c.host, took)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
	inBubble(t, "no hello", func(t *testing.T) {
		r := start(t, held, nil)
		c := r.next()
		begin := time.Now()
		if code := c.expectClose(); code != closeResumable || time.Since(begin) > helloTimeout+closeTimeout {
			t.Errorf("closed with %d after %s", code, time.Since(begin))
		}
		if c = r.next(); c.host != "base.test" {
			t.Errorf("dialled %s", c.host)
		}
		c.hello()
		c.expectResume("session-secret", 5)
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
	inBubble(t, "no answer to resume", func(t *testing.T) {
		r := start(t, held, nil)
		c := r.next()
		c.hello()
		c.expectResume("session-secret", 5)
		begin := time.Now()
		if code := c.expectClose(); code != closeResumable || time.Since(begin) > (maxUnanswered+1)*interval {
			t.Errorf("closed with %d after %s", code, time.Since(begin))
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

func TestGarbageOnCompressedStreams(t *testing.T) {
	for _, compression := range streams {
		for name, bad := range map[string]func(c *peerConn){
			"garbage": func(c *peerConn) {
				c.pack = func(b []byte) []byte { return append(b, syncFlush...) }
				c.send("this is not compressed")
			},
			"bomb": func(c *peerConn) { c.dispatch(2, "X", `"`+strings.Repeat("a", 1<<20)+`"`) },
		} {
			inBubble(t, string(compression)+" "+name, func(t *testing.T) {
				r := start(t, nil, func(c *Config) { c.Compression = compression; c.MaxMessageBytes = 1 << 18 })
				c := r.live()
				bad(c)
				if code := c.expectClose(); code != closeResumable {
					t.Errorf("closed with %d", code)
				}
				c = r.next()
				c.hello()
				c.expectResume("session-secret", 1)
				c.dispatch(2, "RESUMED", `{}`)
				synctest.Wait()
				if r.session.Status().State != StateLive {
					t.Errorf("status %+v", r.session.Status())
				}
				if err := r.stop(nil); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestThousandReconnects: goleak, in TestMain, sees what they leave behind.
func TestThousandReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		for seq := range int64(1000) {
			if seq%2 == 0 {
				c.cut()
			} else {
				c.send(`{"t":null,"s":null,"op":7,"d":null}`)
			}
			c = r.next()
			c.hello()
			c.expectResume("session-secret", seq+1)
			c.dispatch(seq+2, "RESUMED", `{}`)
			synctest.Wait()
		}
		if s := r.session.Status(); s.Connects != 1001 || s.Resumes != 1000 || s.Identifies != 1 || s.Seq != 1001 {
			t.Errorf("status %+v", s)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestLogs: what is logged holds no secret, and a healthy session says nothing above debug.
func TestLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all, loud strings.Builder
		sink := hclog.NewInterceptLogger(&hclog.LoggerOptions{Level: hclog.Off})
		sink.RegisterSink(hclog.NewSinkAdapter(&hclog.LoggerOptions{Output: &all, Level: hclog.Trace}))
		sink.RegisterSink(hclog.NewSinkAdapter(&hclog.LoggerOptions{Output: &loud, Level: hclog.Info}))
		r := start(t, nil, func(c *Config) { c.Logger = sink })
		c := r.live()
		c.send(`{"t":null,"s":null,"op":7,"d":null}`)
		c = r.next()
		c.hello()
		c.expectResume("session-secret", 1)
		c.dispatch(2, "RESUMED", `{}`)
		synctest.Wait()
		if loud.Len() != 0 {
			t.Errorf("a healthy session logged %s", loud.String())
		}
		c.send(`{"secret":`)
		c = r.next()
		c.hello()
		c.expectResume("session-secret", 2)
		c.cut()
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
		if got := all.String(); strings.Contains(got, "secret") || strings.Count(loud.String(), "not a gateway frame") != 1 {
			t.Errorf("logged %s", got)
		}
	})
}

func TestRunTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		r.live()
		if err := r.session.Run(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("second Run: %v", err)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := r.session.Run(ctx, held); err != nil {
			t.Errorf("Run again: %v", err)
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
