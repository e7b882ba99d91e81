package shard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
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
		r := start(t, nil, func(c *Config) {
			c.LargeThreshold, c.Capabilities = 250, 1<<15
			c.Presence = &Presence{Status: "idle", Activities: []Activity{{Name: "shard {{shard}}", Type: 3}}}
		})
		c := r.next()
		c.hello()
		want := `{"token":"token-secret","intents":1,"properties":{"os":"` + runtime.GOOS + `","browser":"muster","device":"muster"},` +
			`"shard":[3,16],"large_threshold":250,"presence":{"since":null,"activities":[{"name":"shard 3","type":3}],` +
			`"status":"idle","afk":false},"capabilities":32768}`
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
			c.Store = &storeFuncs{begin: func(Resume) error { return errors.New("no session was begun") }}
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
		if err := r.session.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("second Run: %v", err)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := r.session.Run(ctx); err != nil {
			t.Errorf("Run again: %v", err)
		}
	})
}
