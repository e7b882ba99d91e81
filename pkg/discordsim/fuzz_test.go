package discordsim

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"
)

// Whatever a client sends, before and in a session, the server answers with JSON or with a close code of the gateway's,
// goes on serving others, and shows hooks something sensible.
func FuzzClientMessages(f *testing.F) {
	for _, seed := range []string{
		`{"op":1,"d":null}`, `{"op":1,"d":251}`, `{"op":1,"d":1e3}`, `{"op":2,"d":{}}`, identifyJSON(0, 1, 1),
		identifyWith(`"shard":[0,9007199254740993]`), identifyWith(`"presence":{"status":1}`), identifyWith(`"shard":null`),
		resumeJSON("x", 9), `{"op":6,"d":{"token":"","session_id":"","seq":9223372036854775807}}`,
		`{"op":3,"d":{"since":0,"activities":[],"status":"online","afk":false}}`, `{"op":4,"d":{"guild_id":"1","channel_id":"2"}}`,
		`{"op":8,"d":{"guild_id":"132274119133347210","query":"","limit":0}}`,
		`{"op":8,"d":{"guild_id":132274119133347210,"user_ids":[1,"2"],"nonce":"\ud800"}}`,
		`{"op":31,"d":{"guild_ids":["132274119133347210"]}}`, `{"op":43,"d":{"guild_id":"132274119133347210","fields":["status"]}}`,
		`{"OP":1,"op":2,"Op":3}`, `[]`, `nul`, ``, "\x00", "\xff", `{"op":{}}`, `{"op":-1}`, `{"op":1.0,"d":{"a":[[[[]]]]}}`,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, sent []byte, inSession bool) {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Options{Guilds: 1})
			r.OnMessage(func(m *Message) bool {
				if (m.Total == 0) != (m.Shard == -1) || len(m.Raw) > maxPayload+1 {
					t.Errorf("the hook sees %+v", m)
				}
				return false
			})
			c := r.dial(jsonQuery)
			if inSession {
				c.login(0, 2, UnprivilegedIntents)
			} else {
				c.want(10, "")
			}
			go func() { _ = c.trySend(string(sent)) }()
			go func() { _ = c.trySend(`{"op":1,"d":null}`) }()
			for acked := 0; acked < 1; {
				m, err := c.next()
				if err != nil {
					if code := websocket.CloseStatus(err); code < 4000 || code > 4014 {
						t.Fatalf("%q ended the connection with %v", sent, err)
					}
					break
				}
				if m.Op == int(opHeartbeatAck) {
					acked++
				}
			}
			_ = c.ws.CloseNow()
			r.dial(jsonQuery).want(10, "")
		})
	})
}

// No query of the gateway URL breaks the handshake: it gives an encoder or a close code.
func FuzzHandshakeQuery(f *testing.F) {
	for _, seed := range []string{"v=10&encoding=json", "v=9", "v=10&compress=zstd-stream", "v=10;encoding=json", "%zz", "v=10&v=11", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		enc, refused := handshake(&http.Request{URL: &url.URL{RawQuery: query}})
		if (enc == nil) != (refused != nil) {
			t.Fatalf("%q: encoder %v, refusal %v", query, enc, refused)
		}
	})
}

// Every event that can be made is JSON and distinct from its neighbour.
func FuzzEvents(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint8(0))
	f.Add(uint64(1), uint64(1<<63), uint8(8))
	w := newWorld(Options{Guilds: 100})
	f.Fuzz(func(t *testing.T, seed, at uint64, k uint8) {
		e := event{kind: kind(int(k) % len(kinds)), id: at, at: int64(at % (1 << 42)), seed: seed}
		if !kinds[e.kind].direct || seed%3 > 0 {
			e.guild = w.guilds[seed%100]
		}
		next := e
		next.id++
		a, b := w.appendEvent(nil, e, true), w.appendEvent(nil, next, true)
		if !json.Valid(a) {
			t.Fatalf("%+v is not JSON: %s", e, a)
		}
		if string(a) == string(b) {
			t.Fatalf("%+v and the next are both %s", e, a)
		}
	})
}
