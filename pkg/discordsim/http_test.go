package discordsim

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// get asks for a path with an Authorization header.
func (r *rig) get(path, authorization string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", authorization)
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Token: "right", Shards: 9})
		for _, tc := range []struct {
			path, authorization string
			status              int
			body                string
		}{
			{"/api/v10/gateway", "", 200, `{"url":"ws://sim.invalid"}`},
			{"/api/v9/gateway", "", 200, `{"url":"ws://sim.invalid"}`},
			{"/api/v10/gateway/bot", "Bot right", 200,
				`{"url":"ws://sim.invalid","shards":9,"session_start_limit":{"total":1000,"remaining":1000,"reset_after":0,"max_concurrency":1}}`},
			{"/api/v10/gateway/bot", "Bot wrong", 401, `{"message":"401: Unauthorized","code":0}`},
			{"/api/v10/gateway/bot", "right", 401, `{"message":"401: Unauthorized","code":0}`},
			{"/api/v10/gateway/bot", "", 401, `{"message":"401: Unauthorized","code":0}`},
			{"/api/v8/gateway/bot", "Bot right", 400, `{"message":"Invalid API version","code":50041}`},
			{"/api/v10/users/@me", "Bot right", 404, `{"message":"404: Not Found","code":0}`},
		} {
			status, body := r.get(tc.path, tc.authorization)
			if status != tc.status || body != tc.body+"\n" {
				t.Errorf("%s as %q: %d %s", tc.path, tc.authorization, status, body)
			}
		}
	})
}

// What /gateway/bot says of the budget is true.
func TestGatewayBotTellsTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, MaxConcurrency: 4, HeartbeatInterval: 48 * time.Hour})
		limit := func() sessionStart {
			var bot gatewayBot
			_, body := r.get("/api/v10/gateway/bot", "Bot "+DefaultToken)
			if err := json.Unmarshal([]byte(body), &bot); err != nil {
				t.Fatal(err)
			}
			return bot.Limit
		}
		time.Sleep(time.Hour)
		r.dial(jsonQuery).login(0, 1, 1)
		time.Sleep(time.Hour)
		want := sessionStart{Total: 1000, Remaining: 999, ResetAfter: (23 * time.Hour).Milliseconds(), MaxConcurrency: 4}
		if got := limit(); got != want {
			t.Errorf("after one identify: %+v", got)
		}
		time.Sleep(23 * time.Hour)
		want.Remaining, want.ResetAfter = 1000, 0
		if got := limit(); got != want {
			t.Errorf("after the reset: %+v", got)
		}
	})
}

// A plain request where a WebSocket belongs gets an answer, not a hang.
func TestGatewayWithoutUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if status, _ := start(t, Options{}).get("/?v=10&encoding=json", ""); status != http.StatusUpgradeRequired {
			t.Errorf("status %d", status)
		}
	})
}
