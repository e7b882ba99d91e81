package discordsim

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Whatever a control request says, it is answered with JSON, or with 400 and one line, and then has changed nothing.
func FuzzControlAPI(f *testing.F) {
	for _, seed := range []struct{ name, query, body string }{
		{"drop", "shard=0", ""}, {"close", "code=4000&shard=1", ""}, {"invalidate", "resumable=true", ""}, {"rate", "per_second=1e3", ""},
		{"dispatch", "type=X&shard=0", "{}"}, {"dispatch", "type=GUILD_UPDATE", `{"id":"132274119133347210"}`}, {"dispatch", "guild=1&type=X", "null"},
		{"fault", "", `{"kind":"drop"}`}, {"lift", "id=1", ""}, {"drop", "%zz", ""}, {"drop", "shard=0&shard=1", ""}, {"close", "code=-1", ""},
	} {
		f.Add(seed.name, seed.query, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, name, query string, body []byte) {
		if controls[name] == nil {
			return
		}
		s, err := New(Options{Guilds: 2})
		if err != nil {
			t.Fatal(err)
		}
		sess := &session{total: 1, intents: AllIntents, replay: replay{maxEvents: 10, maxBytes: 1 << 20}}
		s.sessions = append(s.sessions, sess)
		s.reroute()
		w := httptest.NewRecorder()
		s.ControlHandler().ServeHTTP(w, &http.Request{
			Method: http.MethodPost, URL: &url.URL{Path: APIPath + name, RawQuery: query}, Body: readCloser{strings.NewReader(string(body))},
		})
		answer := strings.TrimSuffix(w.Body.String(), "\n")
		switch w.Code {
		case http.StatusOK:
			var result struct {
				Affected *int `json:"affected"`
			}
			if err := json.Unmarshal([]byte(answer), &result); err != nil || result.Affected == nil || *result.Affected < 0 {
				t.Errorf("%s?%s: %s", name, query, answer)
			}
		case http.StatusBadRequest:
			if answer == "" || strings.Contains(answer, "\n") || !sess.alive() || sess.replay.last > 0 || s.LiftAll() > 0 {
				t.Errorf("%s?%s %q: %q, session %+v", name, query, body, answer, sess.snapshot())
			}
		default:
			t.Errorf("%s?%s: %d", name, query, w.Code)
		}
	})
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// A fault that is taken is the same fault when it is written and read again, and can be lifted.
func FuzzFault(f *testing.F) {
	for _, seed := range []string{
		`{"kind":"drop"}`, `{"stage":"login","kind":"send","message":{"op":9,"d":false},"shards":[1,2],"times":3}`,
		`{"stage":"gateway","kind":"status","code":429,"retry_after":1.5}`, `{"stage":"hello","kind":"slow","bytes_per_second":1}`,
		`{"kind":"bomb"}`, `{"kind":"bomb","size":1e9}`, `{"stage":"handshake","kind":"blackhole","path":"resume"}`, `{"KIND":"split"}`, `null`, `[]`, `{"kind":1}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fault, err := decodeFault(body)
		if err != nil {
			return
		}
		s, err := New(Options{Guilds: -1})
		if err != nil {
			t.Fatal(err)
		}
		done, err := s.Inject(fault)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" || s.LiftAll() > 0 {
				t.Errorf("%s: refused with %q", body, err)
			}
			return
		}
		if !s.Lift(done.ID) && fault.withDefaults().Stage != StageNow {
			t.Errorf("%s cannot be lifted", body)
		}
		written, err := json.Marshal(fault)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeFault(written)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		rewritten, err := json.Marshal(again)
		if err != nil || string(rewritten) != string(written) {
			t.Errorf("%s became %s, %v", written, rewritten, err)
		}
	})
}
