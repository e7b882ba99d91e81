package discordsim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// inject has something go wrong.
func (r *rig) inject(fault string) Injected {
	r.t.Helper()
	f, err := decodeFault([]byte(fault))
	if err != nil {
		r.t.Fatal(err)
	}
	done, err := r.Inject(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return done
}

// silence reads for a while and fails if anything comes, the end of the connection included.
func (c *client) silence(d time.Duration) {
	c.t.Helper()
	got := make(chan string, 1)
	go func() {
		m, err := c.next()
		got <- fmt.Sprint(m.raw, err)
	}()
	select {
	case what := <-got:
		c.t.Errorf("want nothing, got %s", what)
	case <-time.After(d):
	}
}

// Whatever strikes a new connection, it does so at its stage and as often as it should; then connections are as ever.
func TestFaultsOnNewConnections(t *testing.T) {
	login := func(c *client) { c.send(identifyJSON(0, 1, 1)) }
	for _, tc := range []struct {
		fault string
		then  func(*client)
	}{
		{`{"stage":"hello","kind":"close","code":4000}`, func(c *client) { c.closedNext(4000) }},
		{`{"stage":"hello","kind":"drop"}`, func(c *client) { c.closedNext(-1) }},
		{`{"stage":"hello","kind":"send","message":{"op":7,"d":null}}`, func(c *client) { c.want(7, "") }},
		{`{"stage":"hello","kind":"blackhole"}`, func(c *client) { c.silence(time.Minute - 1) }},
		{`{"stage":"after-hello","kind":"close","code":1001}`, func(c *client) { c.want(10, ""); c.closedNext(1001) }},
		{`{"stage":"after-hello","kind":"drop"}`, func(c *client) { c.want(10, ""); c.closedNext(-1) }},
		{`{"stage":"after-hello","kind":"send","message":{"op":9,"d":true}}`, func(c *client) { c.want(10, ""); c.want(9, "") }},
		{`{"stage":"after-hello","kind":"send","message":{"op":99,"d":{}}}`, func(c *client) { c.want(10, ""); c.want(99, "") }},
		{`{"stage":"login","kind":"close","code":4000,"shards":[0]}`, func(c *client) { c.want(10, ""); login(c); c.closedNext(4000) }},
		{`{"stage":"login","kind":"drop"}`, func(c *client) { c.want(10, ""); login(c); c.closedNext(-1) }},
		{`{"stage":"login","kind":"send","message":{"op":9,"d":false}}`, func(c *client) { c.want(10, ""); login(c); c.want(9, "") }},
		{`{"stage":"login","kind":"blackhole"}`, func(c *client) { c.want(10, ""); login(c); c.silence(time.Minute - 1) }},
		{`{"stage":"login","kind":"repeat"}`, func(c *client) { c.want(10, ""); login(c); c.want(0, "READY"); c.want(0, "READY") }},
		{`{"stage":"login","kind":"omit"}`, func(c *client) {
			c.want(10, "")
			login(c)
			c.send(`{"op":1}`)
			c.want(11, "")
		}},
	} {
		t.Run(tc.fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Guilds: -1})
				r.inject(tc.fault[:len(tc.fault)-1] + `,"times":2}`)
				for range 2 {
					tc.then(r.dial(jsonQuery))
					time.Sleep(5 * time.Second)
				}
				r.dial(jsonQuery).login(0, 1, 1)
				if v := r.Violations(); len(v) != 0 {
					t.Errorf("violations: %+v", v)
				}
			})
		})
	}
}

// closedNext is wantClose with nothing before it.
func (c *client) closedNext(code websocket.StatusCode) {
	c.t.Helper()
	if m, err := c.next(); err == nil || websocket.CloseStatus(err) != code {
		c.t.Fatalf("got %s, %v, want the end with code %d", m.raw, err, code)
	}
}

// A login that a fault keeps from succeeding counts and is spaced like any other; a fault for one shard leaves others be.
func TestFaultAtLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Shards: 2, MaxConcurrency: 2})
		storm := r.inject(`{"stage":"login","kind":"send","message":{"op":9,"d":false},"shards":[1]}`)
		r.dial(jsonQuery).login(0, 2, 1)
		c := r.dial(jsonQuery)
		c.want(10, "")
		for range 2 {
			c.send(identifyJSON(1, 2, 1))
			c.want(9, "")
		}
		if v := r.Violations(); len(v) != 1 || v[0].Rule != RuleIdentifyRate {
			t.Errorf("violations: %+v", v)
		}
		if st := r.Stats(); st.Identifies != 1 || st.IdentifiesRefused != 2 || st.BudgetRemaining != 997 {
			t.Errorf("stats: %+v", st)
		}
		if !r.Lift(storm.ID) || r.Lift(storm.ID) {
			t.Error("the fault is not lifted once")
		}
		time.Sleep(5 * time.Second)
		c.send(identifyJSON(1, 2, 1))
		c.want(0, "READY")
	})
}

// A RESUME that is answered with op 9 by a fault leaves its session to be resumed.
func TestFaultAtResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		r.Drop(0)
		synctest.Wait()
		r.inject(`{"stage":"login","kind":"send","message":{"op":9,"d":true},"times":1}`)
		c = r.dialURL(resumeURL)
		c.want(10, "")
		c.send(resumeJSON(id, 1))
		c.want(9, "")
		c.send(resumeJSON(id, 1))
		c.want(0, "RESUMED")
	})
}

// What strikes now strikes the sockets of its shards.
func TestFaultsNow(t *testing.T) {
	for fault, then := range map[string]func(*client){
		`{"kind":"drop"}`:                 func(c *client) { c.wantClose(-1) },
		`{"kind":"close","code":4009}`:    func(c *client) { c.wantClose(4009) },
		`{"kind":"send","message":[1,2]}`: func(c *client) { c.undecodable("[1,2]") },
		`{"kind":"send","message":{"op":0,"t":"X","s":9,"d":0}}`: func(c *client) {
			if m := c.want(0, "X"); *m.S != 9 {
				c.t.Errorf("seq %d", *m.S)
			}
		},
		`{"kind":"omit"}`:   func(c *client) { c.numbers(3, 4) },
		`{"kind":"repeat"}`: func(c *client) { c.numbers(2, 2, 3, 4) },
		`{"kind":"bomb","size":1000000}`: func(c *client) {
			if m := c.want(11, ""); len(m.raw) != 1_000_000 {
				c.t.Errorf("%d bytes", len(m.raw))
			}
			c.numbers(2, 3, 4)
		},
	} {
		t.Run(fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Guilds: -1, Shards: 2, MaxConcurrency: 2})
				c, other := r.dial(jsonQuery), r.dial(jsonQuery)
				c.login(0, 2, 1)
				other.login(1, 2, 1)
				if done := r.inject(fault[:len(fault)-1] + `,"shards":[0]}`); done.Affected != 1 {
					t.Errorf("affected %d", done.Affected)
				}
				r.dispatch(3)
				then(c)
				r.Beat(1)
				other.want(1, "")
				if n := r.LiftAll(); n != 0 {
					t.Errorf("%d faults to lift", n)
				}
			})
		})
	}
}

// numbers reads dispatches that must have these sequence numbers.
func (c *client) numbers(want ...int64) {
	c.t.Helper()
	for _, seq := range want {
		if m := c.must(); m.S == nil || *m.S != seq {
			c.t.Fatalf("got %s, want number %d", m.raw, seq)
		}
	}
}

// undecodable reads a message that is not one of the gateway's.
func (c *client) undecodable(want string) {
	c.t.Helper()
	if m, err := c.next(); err == nil || m.raw != want {
		c.t.Fatalf("got %s, %v, want %s", m.raw, err, want)
	}
}

// A half-open socket swallows everything and stays open; its session can be resumed elsewhere, and nobody is to blame.
func TestBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		r.inject(`{"kind":"blackhole"}`)
		forget := r.OnMessage(func(m *Message) bool {
			t.Errorf("what was swallowed arrived: %s", m.Raw)
			return false
		})
		r.dispatch(5)
		go func() {
			for range 3 {
				_ = c.trySend(`{"op":1,"d":1}`)
			}
		}()
		c.silence(55 * time.Second) // beyond the time at which the server gives up
		if log := r.Sessions()[0]; log.Attached || log.Ended != "" {
			t.Errorf("session: %+v", log)
		}
		forget()
		second, replayed := r.resumeWant(id, 1)
		if len(replayed) != 6 {
			t.Errorf("replayed %d", len(replayed))
		}
		r.inject(`{"kind":"blackhole"}`)
		third, _ := r.resumeWant(id, 7) // while the server believes in the second
		third.send(`{"op":1,"d":1}`)
		third.want(11, "")
		_ = second.ws.CloseNow()
		if v := r.Violations(); len(v) != 0 {
			t.Errorf("violations: %+v", v)
		}
	})
}

// A server that stops takes its black holes with it.
func TestBlackHoleEndsWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		r.inject(`{"kind":"blackhole"}`)
		r.inject(`{"stage":"gateway","kind":"blackhole"}`)
		asked := make(chan error, 1)
		go func() {
			resp, err := r.http.Get(r.base + "/api/v10/gateway")
			if err == nil {
				_ = resp.Body.Close()
			}
			asked <- err
		}()
		time.Sleep(time.Hour)
		begun := time.Now()
		r.stop()
		c.closedNext(-1)
		if err := <-asked; err == nil || time.Since(begun) > 0 {
			t.Errorf("a request in a black hole ended with %v; it took %v for all to end", err, time.Since(begun))
		}
	})
}

// The resume host can be down while the base URL works.
func TestFaultOnOnePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		r.Drop(0)
		synctest.Wait()
		for fault, says := range map[string]string{
			`{"stage":"handshake","kind":"status","code":503,"path":"resume"}`: "got 503",
			`{"stage":"handshake","kind":"drop","path":"resume"}`:              "EOF",
			`{"stage":"handshake","kind":"garbage","path":"resume"}`:           "got 200",
			`{"stage":"handshake","kind":"blackhole","path":"resume"}`:         "deadline exceeded",
		} {
			down := r.inject(fault)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			_, _, err := websocket.Dial(ctx, resumeURL, &websocket.DialOptions{HTTPClient: r.http})
			cancel()
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want %q", fault, err, says)
			}
			r.Lift(down.ID)
		}
		r.inject(`{"stage":"handshake","kind":"drop","path":"resume"}`)
		c = r.dial(jsonQuery)
		c.want(10, "")
		c.send(resumeJSON(id, 1))
		c.want(0, "RESUMED")
	})
}

// What /gateway/bot can answer instead of the truth.
func TestFaultsOfTheGatewayEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{})
		ask := func(want int, body, retryAfter string) {
			t.Helper()
			req, err := http.NewRequest(http.MethodGet, r.base+"/api/v10/gateway/bot", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bot "+DefaultToken)
			resp, err := r.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != want || !strings.Contains(string(got), body) || resp.Header.Get("Retry-After") != retryAfter {
				t.Errorf("%d %s (Retry-After %s), want %d %s (%s)", resp.StatusCode, got, resp.Header.Get("Retry-After"), want, body, retryAfter)
			}
		}
		r.inject(`{"stage":"gateway","kind":"status","code":401,"times":1}`)
		r.inject(`{"stage":"gateway","kind":"status","code":429,"retry_after":1.5,"times":1}`)
		r.inject(`{"stage":"gateway","kind":"status","code":500,"times":1}`)
		r.inject(`{"stage":"gateway","kind":"garbage","times":1}`)
		ask(401, `"401: Unauthorized"`, "")
		ask(429, `"retry_after":1.5`, "2")
		ask(500, `"500: Internal Server Error"`, "")
		ask(200, "<html>", "")
		ask(200, `"shards":1`, "")
		if n := r.LiftAll(); n != 4 {
			t.Errorf("lifted %d", n)
		}
	})
}

// A slow network takes its time, on sockets that are open and on new ones, until it is lifted; nothing is lost.
func TestSlowNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, HeartbeatInterval: time.Hour})
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		payload := fmt.Appendf(nil, `"%s"`, strings.Repeat("x", 10_000))
		read := func() time.Duration {
			t.Helper()
			begun := time.Now()
			if _, err := r.Dispatch(0, "SIM_TEST", payload); err != nil {
				t.Fatal(err)
			}
			if m := c.want(0, "SIM_TEST"); string(m.D) != string(payload) {
				t.Errorf("got %d bytes", len(m.D))
			}
			return time.Since(begun)
		}
		slow := r.inject(`{"kind":"slow","bytes_per_second":1000}`)
		if took := read(); took < 9900*time.Millisecond || took > 10_200*time.Millisecond {
			t.Errorf("10 kB at 1 kB/s took %v", took)
		}
		r.Lift(slow.ID)
		synctest.Wait()
		time.Sleep(time.Second) // what is left of its last pause
		if took := read(); took != 0 {
			t.Errorf("afterwards it took %v", took)
		}
		r.inject(`{"stage":"hello","kind":"slow","bytes_per_second":100}`)
		begun := time.Now()
		c = r.dial(jsonQuery)
		c.want(10, "")
		if took := time.Since(begun); took < time.Second/2 {
			t.Errorf("HELLO at 100 B/s took %v", took)
		}
	})
}

// A socket that is closed while its network is slow does not wait for it.
func TestSlowNetworkDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		r.inject(`{"kind":"slow","bytes_per_second":1}`)
		r.dispatch(10)
		done := c.drain()
		begun := time.Now()
		r.Drop(0)
		if _, err := done(); err == nil || time.Since(begun) > closePatience {
			t.Errorf("ended with %v after %v", err, time.Since(begun))
		}
	})
}

// Split bytes arrive one by one.
func TestSplitLink(t *testing.T) {
	near, far := net.Pipe()
	l := newLink(near)
	l.setPace(Fault{Kind: FaultSplit}.pace())
	go func() {
		_, _ = l.Write([]byte("hello"))
		_ = l.Close()
	}()
	buf := make([]byte, 100)
	for _, want := range "hello" {
		if n, err := far.Read(buf); n != 1 || rune(buf[0]) != want {
			t.Errorf("read %q, %v", buf[:n], err)
		}
	}
	if _, err := far.Read(buf); err != io.EOF {
		t.Error(err)
	}
}

func TestSplitNetworkLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 3})
		r.inject(`{"stage":"hello","kind":"split"}`)
		c := r.dial(query("zstd-stream"))
		c.decode = zstdDecoder(t)
		c.login(0, 1, 1)
		for range 3 {
			c.want(0, "GUILD_CREATE")
		}
	})
}

// A corrupt message cannot be decoded, however it was compressed.
func TestCorrupt(t *testing.T) {
	inflate := map[string]func([]byte) error{
		"none": func(b []byte) error {
			if json.Valid(b) {
				return nil
			}
			return io.ErrUnexpectedEOF
		},
		"zlib-stream": func(b []byte) error {
			z, err := zlib.NewReader(bytes.NewReader(b))
			if err == nil {
				_, err = io.Copy(io.Discard, z)
			}
			return err
		},
		"zstd-stream": func(b []byte) error {
			z, err := zstd.NewReader(bytes.NewReader(b))
			if err == nil {
				defer z.Close()
				_, err = io.Copy(io.Discard, z)
			}
			return err
		},
	}
	for transport, decode := range inflate {
		t.Run(transport, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Guilds: -1})
				c := r.dial(query(transport))
				var stream []byte
				read := func() {
					t.Helper()
					_, b, err := c.ws.Read(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					stream = append(stream, b...)
				}
				read()                                                               // HELLO
				if err := decode(stream); err != nil && err != io.ErrUnexpectedEOF { // the stream has no end yet
					t.Fatalf("HELLO: %v", err)
				}
				r.inject(`{"kind":"corrupt"}`)
				c.send(`{"op":1}`)
				read()
				if err := decode(stream); err == nil || transport != "none" && err == io.ErrUnexpectedEOF {
					t.Errorf("what is corrupt decodes: %v", err)
				}
			})
		})
	}
}

func TestInjectRejectsWhatMakesNoSense(t *testing.T) {
	r := start(t, Options{ControlAPI: true})
	for fault, says := range map[string]string{
		``:                                 "decode fault: EOF",
		`{`:                                "decode fault: ",
		`{"kind":"drop"} {}`:               "more than one value",
		`{"kind":"drop","stages":"hello"}`: `unknown field "stages"`,
		`{"kind":"flood"}`:                 `kind is "flood", unknown`,
		`{}`:                               `kind is "", unknown`,
		`{"kind":"drop","stage":"later"}`:  `stage is "later", must be one of now, gateway`,
		`{"kind":"status","code":500,"stage":"hello"}`:                    `stage is "hello", must be one of gateway, handshake`,
		`{"kind":"drop","stage":"hello","shards":[1]}`:                    "shards are given",
		`{"kind":"drop","stage":"hello","path":"both"}`:                   `path is "both"`,
		`{"kind":"drop","path":"base"}`:                                   "path is given",
		`{"kind":"drop","stage":"hello","times":-1}`:                      "times is -1",
		`{"kind":"drop","times":1}`:                                       "times is given",
		`{"kind":"close","code":1005}`:                                    "code is 1005",
		`{"kind":"drop","code":4000}`:                                     "code is given",
		`{"kind":"status","code":100,"stage":"gateway"}`:                  "code is 100",
		`{"kind":"status","code":429,"stage":"gateway","retry_after":-1}`: "retry_after is -1",
		`{"kind":"drop","retry_after":1}`:                                 "retry_after is given",
		`{"kind":"send"}`:                                                 "message is not JSON",
		`{"kind":"drop","message":{}}`:                                    "message is given",
		`{"kind":"slow"}`:                                                 "bytes_per_second is 0",
		`{"kind":"drop","bytes_per_second":1}`:                            "bytes_per_second is given",
		`{"kind":"bomb","size":-1}`:                                       "size is -1",
		`{"kind":"bomb","size":1073741825}`:                               "size is 1073741825",
		`{"kind":"drop","size":1}`:                                        "size is given",
	} {
		if status, got := r.post("fault", fault); status != http.StatusBadRequest || !strings.Contains(got, says) || strings.Contains(got, "\n") {
			t.Errorf("%s: %d %q, want 400 and %q", fault, status, got, says)
		}
	}
	if n := r.LiftAll(); n != 0 {
		t.Errorf("%d faults were injected all the same", n)
	}
	for path, want := range map[string]int{"lift?id=x": 400, "lift?all=1": 400, "fault?shard=1": 400, "lift": 200} {
		if status, _ := r.post(path, `{"kind":"drop"}`); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	if _, got := r.post("fault", `{"kind":"split","stage":"hello"}`); got != `{"id":1,"affected":0}` {
		t.Errorf("a fault: %s", got)
	}
	for _, want := range []string{`{"affected":1}`, `{"affected":0}`} {
		if _, got := r.post("lift?id=1", ``); got != want {
			t.Errorf("lifted: %s, want %s", got, want)
		}
	}
}

// What is left out or repeated is a dispatch, not what happens to be sent next.
func TestOmitAndRepeatWaitForADispatch(t *testing.T) {
	for kind, want := range map[string][]int64{"omit": {3}, "repeat": {2, 2, 3}} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Options{Guilds: -1})
			c := r.dial(jsonQuery)
			c.login(0, 1, 1)
			r.inject(`{"kind":"` + kind + `"}`)
			r.Beat(0)
			c.want(1, "")
			r.dispatch(2)
			c.numbers(want...)
		})
	}
}
