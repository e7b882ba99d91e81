package discordsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A hook sees every message with what is known of its shard, and lets it pass.
func TestMessageHookSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Shards: 4})
		var seen []string
		remove := r.OnMessage(func(m *Message) bool {
			seen = append(seen, fmt.Sprintf("%d on %d for [%d,%d], d of %d bytes", m.Op, m.Peer.ID(), m.Shard, m.Total, len(m.D)))
			if addr := m.Peer.RemoteAddr(); addr == nil || addr.Network() != "pipe" {
				t.Errorf("the client is at %v", addr)
			}
			return false
		})
		c := r.dial(jsonQuery)
		c.want(10, "")
		c.send(`{"op":1,"d":null}`)
		c.want(11, "")
		c.send(identifyJSON(3, 4, 1))
		var ready readyData
		if err := json.Unmarshal(c.want(0, "READY").D, &ready); err != nil {
			t.Fatal(err)
		}
		c.send(`{"op":1,"d":251}`)
		c.want(11, "")
		r.Drop(AllShards)
		synctest.Wait()
		c, _ = r.resumeWant(ready.SessionID, 1)
		remove()
		c.send(`{"op":1,"d":251}`)
		c.want(11, "")
		resumed := len(resumeJSON(ready.SessionID, 1)) - len(`{"op":6,"d":}`)
		identified := len(identifyJSON(3, 4, 1)) - len(`{"op":2,"d":}`)
		want := fmt.Sprint([]string{
			"1 on 1 for [-1,0], d of 4 bytes", fmt.Sprintf("2 on 1 for [3,4], d of %d bytes", identified),
			"1 on 1 for [3,4], d of 3 bytes", fmt.Sprintf("6 on 2 for [3,4], d of %d bytes", resumed),
		})
		if fmt.Sprint(seen) != want {
			t.Errorf("seen %v\nwant %v", seen, want)
		}
	})
}

// A hook that deals with a message answers as it likes, and the simulator does not.
func TestMessageHookAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(*Peer)
		then   func(*client)
	}{
		"not at all":        {func(*Peer) {}, func(*client) {}},
		"with an op":        {func(p *Peer) { p.Send(9, json.RawMessage(`true`)) }, func(c *client) { c.want(9, "") }},
		"with anything":     {func(p *Peer) { p.SendRaw(`{"op":77}`) }, func(c *client) { c.want(77, "") }},
		"with a close code": {func(p *Peer) { p.Close(4242) }, func(c *client) { c.wantClose(4242) }},
		"with a cut":        {(*Peer).Drop, func(c *client) { c.wantClose(-1) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Guilds: -1})
				second := 0
				r.OnMessage(func(m *Message) bool {
					if m.Op == 2 {
						tc.answer(m.Peer)
					}
					return m.Op == 2
				})
				r.OnMessage(func(*Message) bool { second++; return false })
				c := r.dial(jsonQuery)
				c.want(10, "")
				c.send(`{"op":1}`)
				c.want(11, "")
				c.send(identifyJSON(0, 1, 1))
				tc.then(c)
				synctest.Wait()
				if st := r.Stats(); st.Identifies != 0 || second != 1 {
					t.Errorf("%d identifies, second hook called %d times", st.Identifies, second)
				}
			})
		})
	}
}

// A hook may call the server's methods, and what is no gateway message is shown as such.
func TestMessageHookMayCallTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		r.OnMessage(func(m *Message) bool {
			if m.Op == -1 && string(m.Raw) == "nonsense" {
				return r.Stats().Sockets == 1 && r.Beat(AllShards) == 1
			}
			return false
		})
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		c.send("nonsense")
		c.want(1, "")
	})
}

// A heartbeat whose acknowledgement a hook withholds is a sign of life all the same.
func TestWithheldAckIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		r.OnMessage(func(m *Message) bool { return m.Op == 1 })
		c := r.dial(jsonQuery)
		c.login(0, 1, 1)
		for range 3 {
			time.Sleep(40 * time.Second)
			c.send(`{"op":1,"d":1}`)
		}
		r.Reconnect(0)
		c.want(7, "")
		if v := r.Violations(); len(v) != 0 {
			t.Errorf("violations: %+v", v)
		}
	})
}

// A request hook stands before Discord's paths and handshakes, not before the control API.
func TestRequestHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, ControlAPI: true})
		remove := r.OnRequest(func(w http.ResponseWriter, req *http.Request) bool {
			if strings.HasSuffix(req.URL.Path, "/gateway/bot") {
				return false
			}
			http.Error(w, "out of order", http.StatusBadGateway)
			return true
		})
		for path, want := range map[string]int{"/api/v10/gateway/bot": 200, "/api/v10/gateway": 502, "/resume" + jsonQuery: 502, APIPath + "stats": 200} {
			if status, _ := r.get(path, "Bot "+DefaultToken); status != want {
				t.Errorf("%s: %d, want %d", path, status, want)
			}
		}
		remove()
		r.dial(jsonQuery).login(0, 1, 1)
	})
}
