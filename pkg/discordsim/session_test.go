package discordsim

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

const resumeURL = "http://sim.invalid" + resumePath + jsonQuery

// resumeWant resumes on a new connection and returns it with what was replayed, up to and including RESUMED.
func (r *rig) resumeWant(id string, seq int64) (*client, []message) {
	r.t.Helper()
	c := r.dialURL(resumeURL)
	c.want(10, "")
	c.send(resumeJSON(id, seq))
	var replayed []message
	for {
		m := c.must()
		if m.Op != 0 {
			r.t.Fatalf("resume at %d: %s", seq, m.raw)
		}
		if replayed = append(replayed, m); m.T == "RESUMED" {
			return c, replayed
		}
	}
}

// refused resumes on a new connection, which must be answered with op 9, false.
func (r *rig) refused(id string, seq int64) *client {
	r.t.Helper()
	c := r.dialURL(resumeURL)
	c.want(10, "")
	c.send(resumeJSON(id, seq))
	if m := c.want(9, ""); string(m.D) != "false" {
		r.t.Fatalf("op 9 is %s, want false", m.D)
	}
	return c
}

func (r *rig) dispatch(n int) {
	r.t.Helper()
	for range n {
		if _, err := r.Dispatch(0, "SIM_TEST", fmt.Appendf(nil, `{"n":%d,"é":"\u00e9"}`, r.Stats().Dispatched)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// What a RESUME replays is what was sent, byte for byte, and then what happened meanwhile; RESUMED is numbered like any
// other dispatch and live events go on after it.
func TestResumeReplaysTheSameBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 3, Record: true})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, IntentGuilds).SessionID
		r.dispatch(10)
		var sent []string
		for range 13 {
			sent = append(sent, c.must().raw)
		}
		_ = c.ws.CloseNow()
		synctest.Wait()
		if log := r.Sessions()[0]; log.Attached || log.Ended != "" {
			t.Fatalf("after a broken connection: %+v", log)
		}
		r.dispatch(5)

		c, replayed := r.resumeWant(id, 4)
		if len(replayed) != 16 || *replayed[15].S != 20 || !strings.HasPrefix(string(replayed[15].D), `{"_trace":`) {
			t.Fatalf("replayed %d events", len(replayed))
		}
		for i, m := range replayed {
			if *m.S != int64(5+i) || i < 10 && m.raw != sent[3+i] {
				t.Errorf("event %d is %s, was %s", i, m.raw, sent[3+i])
			}
		}
		r.dispatch(1)
		if m := c.want(0, "SIM_TEST"); *m.S != 21 {
			t.Errorf("after RESUMED comes %d", *m.S)
		}

		log := r.Sessions()
		if len(log) != 1 || log[0].Last != 21 || len(log[0].Dispatches) != 21 {
			t.Fatalf("account: %+v", log)
		}
		for i, m := range replayed {
			if d := log[0].Dispatches[4+i]; d.Seq != *m.S || d.Type != m.T || d.Sum != Sum(m.D) {
				t.Errorf("recorded %+v, sent %s", d, m.raw)
			}
		}
		if st := r.Stats(); st.Resumes != 1 || st.ResumesOnBaseURL != 0 || st.Replayed != 15 || st.Identifies != 1 || st.Violations != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

func TestResumeFromTheNewestReplaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		r.Drop(0)
		if _, err := c.next(); err == nil || websocket.CloseStatus(err) != -1 {
			t.Errorf("a dropped connection ended with %v", err)
		}
		if _, replayed := r.resumeWant(id, 1); len(replayed) != 1 {
			t.Errorf("replayed %d", len(replayed)-1)
		}
	})
}

func TestResumeOnTheBaseURLIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		_ = c.ws.CloseNow()
		synctest.Wait()
		c = r.dial(jsonQuery)
		c.want(10, "")
		c.send(resumeJSON(id, 1))
		c.want(0, "RESUMED")
		if st := r.Stats(); st.ResumesOnBaseURL != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// Only the codes 1000 and 1001 of a client end its session.
func TestClientCloseCodes(t *testing.T) {
	for code, ends := range map[websocket.StatusCode]bool{
		1000: true, 1001: true, 1011: false, 1012: false, 3000: false, 4000: false, 4200: false, 4900: false,
		websocket.StatusNoStatusRcvd: false,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Guilds: -1})
				c := r.dial(jsonQuery)
				id := c.login(0, 1, 1).SessionID
				_ = c.ws.Close(code, "")
				synctest.Wait()
				if !ends {
					r.resumeWant(id, 1)
					return
				}
				r.refused(id, 1)
				if log := r.Sessions()[0]; log.Ended != EndClosed {
					t.Errorf("account: %+v", log)
				}
				v := r.Violations()
				if len(v) != 2 || v[0].Rule != RuleSessionThrownAway || v[0].Connection != 1 || v[1].Rule != RuleResumeEnded || v[1].Connection != 2 {
					t.Errorf("violations: %+v", v)
				}
			})
		})
	}
}

// Closing with 1000 is a violation where there is a session to lose, and it is not allowed.
func TestSessionThrownAway(t *testing.T) {
	for name, tc := range map[string]struct {
		opts       Options
		invalidate bool
		want       int
	}{
		"alive":              {Options{Guilds: -1}, false, 1},
		"allowed":            {Options{Guilds: -1, Allow: []Rule{RuleSessionThrownAway}}, false, 0},
		"invalidated before": {Options{Guilds: -1}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, tc.opts)
				c := r.dial(jsonQuery)
				c.login(0, 1, 1)
				if tc.invalidate {
					r.Invalidate(0, false)
					c.want(9, "")
				}
				_ = c.ws.Close(1000, "")
				synctest.Wait()
				if v := r.Violations(); len(v) != tc.want || r.Stats().Violations != tc.want {
					t.Errorf("violations: %+v", v)
				}
				if log := r.Sessions()[0]; log.Ended == "" {
					t.Errorf("session: %+v", log)
				}
			})
		})
	}
}

// A server that closes with 1000 keeps the session, though the client's answer carries the same code.
func TestServerCloseKeepsTheSession(t *testing.T) {
	for _, code := range []CloseCode{1000, 1001, 4000, 4009} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Options{Guilds: -1})
			c := r.dial(jsonQuery)
			id := c.login(0, 1, 1).SessionID
			if n := r.Disconnect(AllShards, code); n != 1 {
				t.Errorf("disconnected %d", n)
			}
			c.wantClose(code)
			r.resumeWant(id, 1)
		})
	}
}

func TestResumeRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		r.refused("0123456789abcdef0123456789abcdef", 1)
		other := r.dialURL(resumeURL)
		other.want(10, "")
		other.send(strings.Replace(resumeJSON(id, 1), DefaultToken, "other", 1))
		other.want(9, "")
		future := r.dialURL(resumeURL)
		future.want(10, "")
		future.send(resumeJSON(id, 2))
		future.wantClose(CloseInvalidSeq)

		// None of this touched the session.
		r.dispatch(1)
		c.want(0, "SIM_TEST")
		if st := r.Stats(); st.ResumesRefused != 3 || st.Sessions != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// After a refused RESUME the same connection may IDENTIFY.
func TestIdentifyAfterRefusedResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.refused("nonsense", 0)
		c.send(identifyJSON(0, 1, 1))
		c.want(0, "READY")
	})
}

func TestSessionLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, SessionLifetime: time.Minute})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		for range 3 { // each resume winds the clock up again
			_ = c.ws.CloseNow()
			synctest.Wait()
			time.Sleep(time.Minute - 1)
			c, _ = r.resumeWant(id, 1)
		}
		_ = c.ws.CloseNow()
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if log := r.Sessions()[0]; log.Ended != EndExpired {
			t.Errorf("account: %+v", log)
		}
		r.refused(id, 1)
	})
}

// A timer that fired while its session was being resumed, and waited for its turn until the socket was lost again, does
// not end the session early.
func TestStaleTimerDoesNotEndASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(conn)
		sess := &session{conns: []*conn{c}}
		sess.detach(c, time.Minute, func() {})
		if sess.expired(time.Now().Add(time.Minute - 1)) {
			t.Error("expired before its time")
		}
		if !sess.expired(time.Now().Add(time.Minute)) {
			t.Error("not expired at its time")
		}
		sess.attach(c, false)
		if sess.expired(time.Now().Add(time.Hour)) {
			t.Error("expired with a socket")
		}
	})
}

// A session remembers so many events and so many bytes; a RESUME from before that is refused.
func TestReplayBounds(t *testing.T) {
	for name, opts := range map[string]Options{
		"events": {Guilds: -1, ReplayEvents: 10},
		"bytes":  {Guilds: -1, ReplayBytes: 10 * len(`{"t":"SIM_TEST","s":11,"op":0,"d":{"n":10,"é":"\u00e9"}}`)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, opts)
				c := r.dial(jsonQuery)
				id := c.login(0, 1, 1).SessionID
				_ = c.ws.CloseNow()
				synctest.Wait()
				r.dispatch(20) // numbers 2 to 21, of which 12 to 21 are kept
				r.refused(id, 10)
				if log := r.Sessions()[0]; log.Ended != "" {
					t.Errorf("a refused resume ended the session: %+v", log)
				}
				// RESUMED needs room as well, at the expense of the oldest.
				_, replayed := r.resumeWant(id, 14)
				if len(replayed) != 8 || *replayed[0].S != 15 {
					t.Errorf("replayed %d from %d", len(replayed), *replayed[0].S)
				}
			})
		})
	}
}

// A client that does not read falls behind what is remembered; then its session ends with op 9, and other shards have
// not noticed.
func TestLaggingClientLosesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Shards: 2, MaxConcurrency: 2, ReplayEvents: 100})
		slow, quick := r.dial(jsonQuery), r.dial(jsonQuery)
		id := slow.login(0, 2, 1).SessionID
		quick.login(1, 2, 1)
		r.dispatch(1)
		synctest.Wait() // the writer is stuck now: nobody reads the pipe
		for range 101 {
			if _, err := r.Dispatch(AllShards, "SIM_TEST", []byte(`1`)); err != nil {
				t.Fatal(err)
			}
			quick.want(0, "SIM_TEST")
		}
		slow.want(0, "SIM_TEST")
		slow.want(9, "")
		if log := r.Sessions()[0]; log.Ended != EndLagged {
			t.Errorf("account: %+v", log)
		}
		r.refused(id, 103)
	})
}

// A RESUME while the old socket lives takes the session over.
func TestResumeOfALiveSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		old := r.dial(jsonQuery)
		id := old.login(0, 1, 1).SessionID
		c, _ := r.resumeWant(id, 1)
		old.wantClose(CloseUnknownError)
		r.dispatch(1)
		if m := c.want(0, "SIM_TEST"); *m.S != 3 {
			t.Errorf("next is %d", *m.S)
		}
		if v := r.Violations(); len(v) != 1 || v[0].Rule != RuleResumeLive {
			t.Errorf("violations: %+v", v)
		}
	})
}

func TestReconnectAndBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		if r.Reconnect(0) != 1 || r.Beat(0) != 1 || r.Reconnect(1) != 0 {
			t.Error("controls reached the wrong sockets")
		}
		if m := c.want(7, ""); m.raw != `{"t":null,"s":null,"op":7,"d":null}` {
			t.Errorf("op 7 is %s", m.raw)
		}
		c.want(1, "")
		c.send(`{"op":1,"d":1}`)
		c.want(11, "")
	})
}

func TestInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		r.Invalidate(0, true)
		if m := c.want(9, ""); string(m.D) != "true" {
			t.Errorf("op 9 is %s", m.D)
		}
		_ = c.ws.Close(4000, "")
		synctest.Wait()
		c, _ = r.resumeWant(id, 1)
		r.Invalidate(0, true) // and now on the same socket
		c.want(9, "")
		c.send(resumeJSON(id, 2))
		c.want(0, "RESUMED")
		r.Invalidate(0, false)
		if m := c.want(9, ""); string(m.D) != "false" {
			t.Errorf("op 9 is %s", m.D)
		}
		r.refused(id, 2)
		// The socket has no session now, and may ask for one.
		time.Sleep(5 * time.Second)
		c.send(identifyJSON(0, 1, 1))
		c.want(0, "READY")
		if n := len(r.Sessions()); n != 2 {
			t.Errorf("%d sessions", n)
		}
	})
}

// When the server stops it says goodbye, and nothing of it is left.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c, lost := r.dial(jsonQuery), r.dial(jsonQuery)
		c.login(0, 2, 1)
		time.Sleep(5 * time.Second)
		lost.login(1, 2, 1)
		_ = lost.ws.CloseNow() // leaves a session that waits to be resumed
		synctest.Wait()
		r.stop()
		c.wantClose(CloseGoingAway)
		synctest.Wait()
		if st := r.Stats(); st.Sockets != 0 || st.Sessions != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}
