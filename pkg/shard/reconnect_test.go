package shard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

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

// provoke brings each cause of the table about on a running session. What is missing ends Run and not just a connection.
var provoke = map[cause]func(r *rig, c *peerConn, rule rule){
	lost: func(_ *rig, c *peerConn, rule rule) {
		if rule.code == 0 {
			c.cut()
		} else {
			c.close(rule.code)
		}
	},
	reconnect:   func(_ *rig, c *peerConn, _ rule) { c.send(`{"t":null,"s":null,"op":7,"d":null}`) },
	suspended:   func(_ *rig, c *peerConn, _ rule) { c.send(`{"t":null,"s":null,"op":9,"d":true}`) },
	invalidated: func(_ *rig, c *peerConn, _ rule) { c.send(`{"t":null,"s":null,"op":9,"d":false}`) },
	unreachable: func(r *rig, c *peerConn, _ rule) { r.peer.dropped.Store(1); c.cut() },
	deafHello:   func(r *rig, c *peerConn, _ rule) { c.cut(); r.next().expectClose() },
	unanswered: func(r *rig, c *peerConn, _ rule) {
		c.cut()
		c = r.next()
		c.hello()
		c.expectResume("session-secret", 1)
		c.expectClose()
	},
	zombie: func(_ *rig, c *peerConn, _ rule) { c.ack.Store(false); c.expectClose() },
	broken: func(_ *rig, c *peerConn, _ rule) { c.send(`secret nonsense`) },
}

// TestRules brings about every row of the table, and looks at what comes next: nothing, a RESUME or an IDENTIFY.
func TestRules(t *testing.T) {
	for _, rule := range rules {
		end := provoke[rule.cause]
		if end == nil {
			if rule.cause != stopped && rule.cause != failed {
				t.Errorf("nothing provokes %q", rule.text)
			}
			continue
		}
		inBubble(t, fmt.Sprintf("%s %d", rule.text, rule.code), func(t *testing.T) {
			r := start(t, nil, nil)
			end(r, r.live(), rule)
			if rule.remedy == fatal {
				var f *FatalError
				if err := <-r.done; !errors.As(err, &f) || f.Code != rule.code || f.Scope() != rule.scope {
					t.Fatalf("returned %v", err)
				}
				if s := r.session.Status(); s.State != StateFailed || s.LastClose != rule.code {
					t.Fatalf("status %+v", s)
				}
				return
			}
			c := r.next()
			if s := r.session.Status(); s.LastEnd != rule.text || s.LastClose != rule.code {
				t.Errorf("status %+v", s)
			}
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
		gate := make(chan struct{})
		r := start(t, held, gated(gate, stalling(&open, &stalled)))
		r.refuse.Store(50)
		close(gate)
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

func TestGarbageAndTooMuch(t *testing.T) {
	for _, compression := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
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

// TestRedirect: the token goes to the host Discord's API named, and to no other.
func TestRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := start(t, nil, gated(gate, func(*Config) {}))
		r.moved.Store(3)
		close(gate)
		if c := r.next(); c.host != "base.test" || r.moved.Load() != 0 {
			t.Errorf("dialled %s with %d redirects to go", c.host, r.moved.Load())
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}
