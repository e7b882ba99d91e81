package discordsim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

// post sends a control request.
func (r *rig) post(path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, r.base+APIPath+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSuffix(string(answer), "\n")
}

// look reads a view of the control API.
func look[T any](r *rig, path string) (v T) {
	r.t.Helper()
	status, body := r.get(APIPath+path, "")
	if err := json.Unmarshal([]byte(body), &v); status != http.StatusOK || err != nil {
		r.t.Fatalf("%s: %d %s (%v)", path, status, body, err)
	}
	return v
}

// Each control over HTTP does what the method of that name does.
func TestControlAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Shards: 2, MaxConcurrency: 2, Guilds: 2, ControlAPI: true, Record: true})
		guild := r.Guilds()[0]
		shard := shardOf(guild, 2)
		c, other := r.dial(jsonQuery), r.dial(jsonQuery)
		ready := c.login(shard, 2, IntentGuildMessages)
		other.login(1-shard, 2, IntentGuildMessages)
		control := func(path, body string, affected int) {
			t.Helper()
			if status, got := r.post(path, body); status != http.StatusOK || got != fmt.Sprintf(`{"affected":%d}`, affected) {
				t.Errorf("%s: %d %s, want %d affected", path, status, got, affected)
			}
		}

		control("beat", "", 2)
		other.want(1, "")
		c.want(1, "")
		control(fmt.Sprintf("reconnect?shard=%d", shard), "", 1)
		c.want(7, "")
		control(fmt.Sprintf("dispatch?type=MESSAGE_CREATE&guild=%d", guild), `{"content": "hi"}`, 1)
		if m := c.want(0, "MESSAGE_CREATE"); string(m.D) != `{"content": "hi"}` {
			t.Errorf("d is %s", m.D)
		}
		control(fmt.Sprintf("dispatch?type=SIM_TEST&shard=%d", shard), `5`, 1)
		c.want(0, "SIM_TEST")
		control("rate?per_second=0", "", 2)
		control(fmt.Sprintf("invalidate?resumable=true&shard=%d", shard), "", 1)
		if m := c.want(9, ""); string(m.D) != "true" {
			t.Errorf("op 9 is %s", m.D)
		}
		c.send(resumeJSON(ready.SessionID, 3))
		c.want(0, "RESUMED")
		control(fmt.Sprintf("close?code=4009&shard=%d", shard), "", 1)
		c.wantClose(CloseSessionTimedOut)
		control("drop", "", 1)
		control("drop?shard=7", "", 0)
		control("invalidate?shard="+fmt.Sprint(shard), "", 1)

		log := look[[]sessionView](r, "sessions?dispatches=true")[0]
		want := fmt.Sprintf("[2 MESSAGE_CREATE %016x]", Sum([]byte(`{"content": "hi"}`)))
		if log.Shard != shard || log.Total != 2 || log.Trace != ready.Trace[0] || log.Intents != IntentGuildMessages || log.Last != 4 ||
			log.Attached || log.Ended != EndInvalidated || len(log.Dispatches) != 4 || fmt.Sprint(log.Dispatches[1]) != want {
			t.Errorf("session is %+v", log)
		}
		if status, body := r.get(APIPath+"sessions", ""); status != http.StatusOK || strings.Contains(body, ready.SessionID) || strings.Contains(body, "dispatches") {
			t.Errorf("sessions: %d %s", status, body)
		}
		if st := look[statsView](r, "stats"); st.Identifies != 2 || st.Sessions != 1 || st.BudgetRemaining != 998 || st.BudgetResetAfter != 86_400_000 {
			t.Errorf("stats: %+v", st)
		}
		if _, body := r.get(APIPath+"violations", ""); body != "[]\n" {
			t.Errorf("violations: %s", body)
		}
		c = r.dial("?v=8")
		c.wantClose(CloseInvalidAPIVersion)
		if v := look[[]Violation](r, "violations"); len(v) != 1 || v[0].Rule != RuleHandshake || v[0].Shard != -1 || v[0].Detail == "" || v[0].At.IsZero() {
			t.Errorf("violations: %+v", v)
		}
	})
}

// What a control request gets wrong it is told, in one line, and nothing happens.
func TestControlAPIRefusesWhatItDoesNotUnderstand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, ControlAPI: true})
		c := r.dial(jsonQuery)
		c.login(0, 1, IntentGuilds)
		for _, tc := range []struct{ path, body, says string }{
			{"drop?shard=one", "", `shard is "one"`},
			{"drop?shard=-1", "", `shard is "-1"`},
			{"drop?shards=0", "", "shards is not a parameter"},
			{"drop?shard=0&shard=1", "", "shard is given 2 times"},
			{"drop?%zz", "", "query: "},
			{"close", "", `code is ""`},
			{"close?code=1006", "", `code is "1006"`},
			{"close?code=65536", "", `code is "65536"`},
			{"invalidate?resumable=yes", "", `resumable is "yes"`},
			{"rate?per_second=-1", "", `per_second is "-1"`},
			{"rate?per_second=NaN", "", `per_second is "NaN"`},
			{"dispatch", `{}`, `dispatch "": not an event name`},
			{"dispatch?type=X", `{`, `dispatch "X": d is not JSON`},
			{"dispatch?type=X", ``, `dispatch "X": d is not JSON`},
			{"dispatch?type=x%22", `{}`, `not an event name`},
			{"dispatch?type=X&guild=G", `{}`, `guild is "G"`},
			{"dispatch?type=X&guild=1&shard=0", `{}`, `shard is not a parameter`},
		} {
			status, body := r.post(tc.path, tc.body)
			if status != http.StatusBadRequest || !strings.Contains(body, tc.says) || strings.Contains(body, "\n") {
				t.Errorf("%s: %d %q, want 400 and %q", tc.path, status, body, tc.says)
			}
		}
		if status, _ := r.get(APIPath+"drop", ""); status != http.StatusMethodNotAllowed {
			t.Errorf("GET drop: status %d", status)
		}
		if status, _ := r.get(APIPath+"sessions?dispatches=1", ""); status != http.StatusBadRequest {
			t.Errorf("dispatches=1: status %d", status)
		}
		c.send(`{"op":1,"d":1}`)
		c.want(11, "") // and nothing before it
	})
}

// Without the option there is no control API.
func TestControlAPIIsOffByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{})
		if status, _ := r.post("drop", ""); status != http.StatusNotFound {
			t.Errorf("status %d", status)
		}
	})
}

func TestControlAPIBoundsItsBodies(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	body := strings.NewReader(strings.Repeat(" ", maxControlBody) + "{}")
	s.ControlHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, APIPath+"dispatch?type=X", body))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "too large") {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}
