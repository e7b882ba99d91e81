package discordsim

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// identifyWith is an IDENTIFY whose d has these members besides a good token; later ones win.
func identifyWith(members string) string {
	return fmt.Sprintf(`{"op":2,"d":{"token":%q,"intents":1,"properties":{"os":"","browser":"","device":""},%s}}`, DefaultToken, members)
}

// Each line of Discord's close code table that a client can bring about.
func TestCloseCodes(t *testing.T) {
	const before, after = false, true // the session
	for _, tc := range []struct {
		name string
		on   bool // with a session already
		send string
		code CloseCode
		rule Rule
	}{
		{"not json", before, `{"op":1`, CloseDecodeError, RuleBadPayload},
		{"not json, in a session", after, `]`, CloseDecodeError, RuleBadPayload},
		{"no op", before, `{"d":null}`, CloseDecodeError, RuleBadPayload},
		{"op is a string", before, `{"op":"1","d":null}`, CloseDecodeError, RuleBadPayload},
		{"4097 bytes", after, `{"op":1,"d":null}` + strings.Repeat(" ", 4097-17), CloseDecodeError, RulePayloadSize},
		{"much too large", before, strings.Repeat("x", 1<<20), CloseDecodeError, RulePayloadSize},
		{"unknown opcode", before, `{"op":5,"d":{}}`, CloseUnknownOpcode, RuleUnknownOpcode},
		{"dispatch from a client", after, `{"op":0,"d":{},"s":1,"t":"READY"}`, CloseUnknownOpcode, RuleUnknownOpcode},
		{"opcode of user accounts", after, `{"op":14,"d":{}}`, CloseUnknownOpcode, RuleUnknownOpcode},
		{"huge opcode", before, `{"op":99999999999999999999,"d":{}}`, CloseDecodeError, RuleBadPayload},
		{"presence before identify", before, `{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}`, CloseNotAuthenticated, RuleBeforeIdentify},
		{"members before identify", before, `{"op":8,"d":{}}`, CloseNotAuthenticated, RuleBeforeIdentify},
		{"second identify", after, identifyJSON(0, 1, 1), CloseAlreadyAuthenticated, RuleSecondIdentify},
		{"resume in a session", after, resumeJSON("x", 1), CloseAlreadyAuthenticated, RuleSecondIdentify},

		{"heartbeat is a string", after, `{"op":1,"d":"5"}`, CloseDecodeError, RuleBadPayload},
		{"heartbeat is an object", before, `{"op":1,"d":{}}`, CloseDecodeError, RuleBadPayload},
		{"heartbeat is negative", after, `{"op":1,"d":-1}`, CloseDecodeError, RuleBadPayload},

		{"identify is an array", before, `{"op":2,"d":[]}`, CloseDecodeError, RuleBadPayload},
		{"identify is null", before, `{"op":2,"d":null}`, CloseDecodeError, RuleBadPayload},
		{"identify has no d", before, `{"op":2}`, CloseDecodeError, RuleBadPayload},
		{"wrong token", before, identifyWith(`"token":"other"`), CloseAuthenticationFailed, RuleBadToken},
		{"no token", before, identifyWith(`"token":""`), CloseAuthenticationFailed, RuleBadToken},
		{"wrong token comes before wrong shard", before, identifyWith(`"token":"other","shard":[9,1]`), CloseAuthenticationFailed, RuleBadToken},
		{"shard is not below num_shards", before, identifyWith(`"shard":[4,4]`), CloseInvalidShard, RuleBadIdentify},
		{"negative shard", before, identifyWith(`"shard":[-1,4]`), CloseInvalidShard, RuleBadIdentify},
		{"no shards", before, identifyWith(`"shard":[0,0]`), CloseInvalidShard, RuleBadIdentify},
		{"shard of three numbers", before, identifyWith(`"shard":[0,1,2]`), CloseInvalidShard, RuleBadIdentify},
		{"not a multiple of the large bot's", before, identifyWith(`"shard":[0,3]`), CloseInvalidShard, RuleBadIdentify},
		{"wrong shard comes before wrong intents", before, identifyWith(`"shard":[4,4],"intents":8388608`), CloseInvalidShard, RuleBadIdentify},
		{"intents that do not exist", before, identifyWith(`"shard":[0,2],"intents":8388608`), CloseInvalidIntents, RuleBadIdentify},
		{"negative intents", before, identifyWith(`"shard":[0,2],"intents":-1`), CloseInvalidIntents, RuleBadIdentify},
		{"null intents", before, identifyWith(`"shard":[0,2],"intents":null`), CloseInvalidIntents, RuleBadIdentify},
		{"intents not granted", before, identifyWith(`"shard":[0,2],"intents":256`), CloseDisallowedIntents, RuleBadIdentify},
		{"null properties", before, identifyWith(`"shard":[0,2],"properties":null`), CloseDecodeError, RuleBadIdentify},
		{"unknown status in identify", before, identifyWith(`"shard":[0,2],"presence":{"status":"busy"}`), CloseDecodeError, RuleBadIdentify},
		{"small large_threshold", before, identifyWith(`"shard":[0,2],"large_threshold":49`), CloseDecodeError, RuleBadIdentify},
		{"large_threshold", before, identifyWith(`"shard":[0,2],"large_threshold":251`), CloseDecodeError, RuleBadIdentify},

		{"resume without seq", before, `{"op":6,"d":{"token":"x","session_id":"y"}}`, CloseDecodeError, RuleBadPayload},
		{"resume at a negative seq", before, resumeJSON("x", -1), CloseDecodeError, RuleBadPayload},

		{"unknown status", after, `{"op":3,"d":{"since":null,"activities":[],"status":"busy","afk":false}}`, CloseDecodeError, RuleBadPayload},
		{"voice state without guild", after, `{"op":4,"d":{"channel_id":null}}`, CloseDecodeError, RuleBadPayload},
		{"members of no guild", after, `{"op":8,"d":{"query":"","limit":0}}`, CloseDecodeError, RuleBadPayload},
		{"members of several guilds", after, `{"op":8,"d":{"guild_id":["1","2"],"query":"","limit":0}}`, CloseDecodeError, RuleBadPayload},
		{"members by 101 ids", after, `{"op":8,"d":{"guild_id":"1","user_ids":[` + strings.Repeat("1,", 100) + `1]}}`, CloseDecodeError, RuleBadPayload},
		{"members by neither query nor id", after, `{"op":8,"d":{"guild_id":"1","limit":0}}`, CloseDecodeError, RuleBadPayload},
		{"soundboard of a word", after, `{"op":31,"d":{"guild_ids":["one"]}}`, CloseDecodeError, RuleBadPayload},
		{"channel info of no guild", after, `{"op":43,"d":{"fields":[]}}`, CloseDecodeError, RuleBadPayload},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Shards: 2, ShardMultiple: 2, Guilds: -1})
				c := r.dial(jsonQuery)
				if tc.on == after {
					c.login(0, 2, IntentGuilds)
				} else {
					c.want(10, "")
				}
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					_ = c.trySend(tc.send) // the server may hang up in the middle of what is too long
				}()
				c.wantClose(tc.code)
				<-sent
				if v := r.Violations(); len(v) != 1 || v[0].Rule != tc.rule || v[0].Connection != 1 || v[0].Detail == "" ||
					strings.Contains(v[0].Detail, DefaultToken) {
					t.Errorf("violations are %+v, want one of %q", v, tc.rule)
				}
				if tc.on == after {
					if log := r.Sessions()[0]; log.Ended != "" || log.Attached {
						t.Errorf("the session is %+v, want one to resume", log)
					}
				} else if n := len(r.Sessions()); n != 0 {
					t.Errorf("%d sessions began", n)
				}
			})
		})
	}
}

func TestHandshakeQuery(t *testing.T) {
	for query, code := range map[string]CloseCode{
		"":                                  CloseInvalidAPIVersion,
		"?v=8&encoding=json":                CloseInvalidAPIVersion,
		"?v=11&encoding=json":               CloseInvalidAPIVersion,
		"?v=10&encoding=etf":                CloseUnknownError,
		"?v=10&encoding=json&compress=gzip": CloseUnknownError,
	} {
		t.Run(query, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{})
				r.dial(query).wantClose(code)
				if v := r.Violations(); len(v) != 1 || v[0].Rule != RuleHandshake {
					t.Errorf("violations are %+v", v)
				}
			})
		})
	}
	for _, query := range []string{"?v=9&encoding=json", "?v=10", "?v=10&encoding=json&unknown=1"} {
		synctest.Test(t, func(t *testing.T) {
			start(t, Options{}).dial(query).login(0, 1, IntentGuilds)
		})
	}
}

// A token with the prefix that HTTP needs is tolerated, and so are a binary frame and one of 4,096 bytes.
func TestTolerance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 1})
		c := r.dial(jsonQuery)
		c.want(10, "")
		c.send(identifyWith(`"token":"Bot ` + DefaultToken + `"`))
		c.want(0, "READY")
		c.want(0, "GUILD_CREATE")
		beat := []byte(`{"op":1,"d":2}` + strings.Repeat(" ", maxPayload-14)) // as long as it may be
		if err := c.ws.Write(t.Context(), websocket.MessageBinary, beat); err != nil {
			t.Fatal(err)
		}
		c.want(11, "")
		if v := r.Violations(); len(v) != 0 {
			t.Errorf("violations: %+v", v)
		}
	})
}

func TestReadyAndGuilds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Shards: 4, Guilds: 80, Rate: 1000})
		c := r.dial(jsonQuery)
		ready := c.login(3, 4, UnprivilegedIntents)
		time.Sleep(time.Second) // live events happen meanwhile, but the guilds come first
		if ready.ResumeURL != "ws://sim.invalid/resume" || len(ready.SessionID) != 32 || fmt.Sprint(ready.Shard) != "[3 4]" {
			t.Errorf("READY is %+v", ready)
		}
		if len(ready.Guilds) != 20 {
			t.Errorf("%d guilds of 80 on one shard of four, want 20", len(ready.Guilds))
		}
		for i, g := range ready.Guilds {
			m := c.want(0, "GUILD_CREATE")
			if *m.S != int64(i+2) || !strings.HasPrefix(string(m.D), `{"id":"`+g.ID+`"`) || !g.Unavailable {
				t.Errorf("guild %d is %+v, then seq %d: %.60s", i, g, *m.S, m.D)
			}
		}
		log := r.Sessions()[0]
		if log.Trace != ready.Trace[0] || log.Trace == ready.SessionID || log.Shard != 3 || log.Total != 4 || !log.Attached {
			t.Errorf("account is %+v, READY %+v", log, ready)
		}
	})
}

// A client that is not interested in guilds hears of them in READY only.
func TestNoGuildCreateWithoutItsIntent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 5})
		c := r.dial(jsonQuery)
		if ready := c.login(0, 1, IntentGuildMessages); len(ready.Guilds) != 5 {
			t.Errorf("%d guilds in READY", len(ready.Guilds))
		}
		c.send(`{"op":1,"d":1}`)
		c.want(11, "")
	})
}

func TestTooManyGuildsOnAShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 2501})
		c := r.dial(jsonQuery)
		c.want(10, "")
		c.send(identifyJSON(0, 1, 1))
		c.wantClose(CloseShardingRequired)
		r.dial(jsonQuery).login(0, 2, 1)
	})
}

func TestEveryHeartbeatIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		m := c.want(10, "")
		if !strings.HasPrefix(string(m.D), `{"heartbeat_interval":41250,`) {
			t.Errorf("HELLO is %s", m.D)
		}
		for _, beat := range []string{`{"op":1,"d":null}`, `{"op":1}`} {
			c.send(beat)
			c.want(11, "")
		}
		c.send(identifyJSON(0, 1, 1))
		c.want(0, "READY")
		for range 1000 { // half a day
			time.Sleep(41250 * time.Millisecond)
			c.send(`{"op":1,"d":1}`)
			c.want(11, "")
		}
		if v := r.Violations(); len(v) != 0 {
			t.Errorf("violations: %+v", v)
		}
	})
}

func TestSilenceClosesTheSocketAndKeepsTheSession(t *testing.T) {
	for _, code := range []CloseCode{0, CloseNormal} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Options{Guilds: -1, SilenceCode: code})
			c := r.dial(jsonQuery)
			ready := c.login(0, 1, 1)
			begun := time.Now()
			want := code
			if code == 0 {
				want = CloseSessionTimedOut
			}
			c.wantClose(want)
			if silent := time.Since(begun); silent != 51250*time.Millisecond {
				t.Errorf("closed after %v, want interval and grace", silent)
			}
			if v := r.Violations(); len(v) != 1 || v[0].Rule != RuleHeartbeatSilence || v[0].Shard != 0 || v[0].Total != 1 {
				t.Errorf("violations: %+v", v)
			}
			c = r.dialURL("http://sim.invalid/resume" + jsonQuery)
			c.want(10, "")
			c.send(resumeJSON(ready.SessionID, 1))
			c.want(0, "RESUMED")
		})
	}
}

// 120 messages in 60 s are allowed, the 121st is not, and a new connection starts afresh.
func TestSendLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, HeartbeatInterval: 2 * time.Minute})
		for range 2 {
			c := r.dial(jsonQuery)
			c.want(10, "")
			for range sendLimit {
				c.send(`{"op":1,"d":null}`)
				c.want(11, "")
			}
			time.Sleep(sendPeriod - 1)
			c.send(`{"op":1,"d":null}`)
			c.wantClose(CloseRateLimited)
		}
		c := r.dial(jsonQuery)
		c.want(10, "")
		for range 10 * sendLimit {
			c.send(`{"op":1,"d":null}`)
			c.want(11, "")
			time.Sleep(sendPeriod / sendLimit)
		}
		if v := r.Violations(); len(v) != 2 || v[0].Rule != RuleSendRate {
			t.Errorf("violations: %+v", v)
		}
	})
}

// Five presences in 20 s are allowed. What Discord does about a sixth is not known; here it is noted and accepted.
func TestPresenceRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		presence := func() { c.send(`{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}`) }
		for range presenceLimit {
			presence()
		}
		time.Sleep(presencePeriod)
		for range presenceLimit {
			presence()
		}
		synctest.Wait()
		if v := r.Violations(); len(v) != 0 {
			t.Errorf("violations: %+v", v)
		}
		time.Sleep(presencePeriod - 1)
		presence()
		c.send(`{"op":1,"d":1}`)
		c.want(11, "")
		if v := r.Violations(); len(v) != 1 || v[0].Rule != RulePresenceRate || v[0].Detail != "more than 5 in 20s" {
			t.Errorf("violations: %+v", v)
		}
	})
}

// Heartbeats do not wait behind a client that reads slowly for its events: an answer passes the backlog.
func TestAnswersPassTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		big := fmt.Appendf(nil, `"%s"`, strings.Repeat("x", burstBytes))
		for range 20 {
			if _, err := r.Dispatch(0, "X", big); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		c.send(`{"op":1,"d":1}`)
		synctest.Wait() // or events are read before the server has looked at what was sent
		for i := range 20 {
			if m := c.must(); m.Op == 11 {
				if i > 3 {
					t.Errorf("the acknowledgement came after %d of 20 events", i)
				}
				return
			}
		}
		t.Error("no acknowledgement")
	})
}
