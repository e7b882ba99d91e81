package shard

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const testToken = "MTk4.very-secret.token"

const goodAnswer = `{"url":"wss://gateway.discord.gg/","shards":9,
	"session_start_limit":{"total":1000,"remaining":999,"reset_after":14400000,"max_concurrency":1},"new_field":[]}`

func TestGatewayBot(t *testing.T) {
	answer := func(change, to string) string { return strings.Replace(goodAnswer, change, to, 1) }
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string // part of the error; empty: none
	}{
		{"as documented", 200, goodAnswer, ""},
		{"plain websocket, as the simulator's", 200, answer("wss://", "ws://"), ""},
		{"refused", 401, `{"message":"401: Unauthorized","code":0}`, "token refused"},
		{"not found", 404, "", "404 Not Found"},
		{"too many requests", 429, `{"retry_after":1}`, "429 Too Many Requests"},
		{"broken", 500, goodAnswer, "500 Internal Server Error"},
		{"another success", 204, "", "204 No Content"},
		{"empty", 200, "", "not JSON of its form"},
		{"garbage", 200, "<html>", "not JSON of its form"},
		{"cut off", 200, goodAnswer[:60], "not JSON of its form"},
		{"of another form", 200, answer(`"shards":9`, `"shards":"9"`), "not JSON of its form"},
		{"too long", 200, strings.Repeat(" ", 2<<20) + goodAnswer, "not JSON of its form"},
		{"address of another scheme", 200, answer("wss://", "https://"), `"https://gateway.discord.gg/": want wss://host`},
		{"address without a host", 200, answer("wss://gateway.discord.gg/", "wss:///"), "has no host"},
		{"address that is none", 200, answer("wss://", "wss://%zz"), "invalid URL escape"},
		{"no address", 200, answer(`"url"`, `"uri"`), `"": want wss://host`},
		{"no shards", 200, answer(`"shards":9`, `"shards":0`), "0 shards"},
		{"no concurrency", 200, answer(`"max_concurrency":1`, `"max_concurrency":0`), "max_concurrency is 0"},
		{"no limit", 200, answer(`"session_start_limit"`, `"limit"`), "max_concurrency is 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.Path != "/api/gateway/bot" || r.Header.Get("Authorization") != "Bot "+testToken {
					t.Errorf("asked %s %s with the wrong token: %v", r.Method, r.URL, r.Header)
				}
				if !strings.HasPrefix(r.UserAgent(), "DiscordBot (") {
					t.Errorf("user agent %q is not of the form that Discord asks for", r.UserAgent())
				}
				if !r.Close {
					t.Error("the connection would be kept open")
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
			}))
			defer server.Close()
			bot, err := GetGatewayBot(t.Context(), nil, server.URL+"/api/", testToken)
			checkError(t, err, test.want)
			if errors.Is(err, ErrTokenRefused) != (test.status == http.StatusUnauthorized) {
				t.Errorf("error %v for status %d", err, test.status)
			}
			if api, ok := errors.AsType[*APIError](err); ok != (test.status != 200 && test.status != 401) || ok && api.Status != test.status {
				t.Errorf("error %v for status %d", err, test.status)
			}
			if err == nil && (bot.Shards != 9 || bot.Limits != IdentifyLimits{1, 1000, 999, 4 * time.Hour}) {
				t.Errorf("understood %+v", bot)
			}
		})
	}
}

// checkError checks an error's text, and that it says nothing it must not.
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("got error %v, want one with %q", err, want)
	}
	if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hunter2")) {
		t.Errorf("error gives a secret away: %v", err)
	}
}

func TestGatewayBotGivesNoSecretAway(t *testing.T) {
	const nobody = "127.0.0.1:1" // where only root could listen
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	withPassword := strings.Replace(server.URL, "http://", "http://bot:hunter2@", 1)
	for name, ask := range map[string]struct{ base, token, want string }{
		"nobody listens":               {"http://" + nobody, testToken, "refused"},
		"a token no header can carry":  {server.URL, "secret\n", "invalid header field value"},
		"a password in the address":    {withPassword, testToken, "404"},
		"a password, nobody listens":   {"http://bot:hunter2@" + nobody, testToken, "refused"},
		"a scheme nobody knows":        {"gopher://bot:hunter2@localhost", testToken, "unsupported protocol"},
		"an address that is not one":   {"http://bot:hunter2@a b", testToken, "invalid"},
		"an address without a scheme ": {"://", testToken, "missing protocol scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := GetGatewayBot(t.Context(), nil, ask.base, ask.token)
			checkError(t, err, ask.want)
		})
	}
}

// A server that takes the question and never answers is given up on.
func TestGatewayBotTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		start := time.Now()
		_, err := GetGatewayBot(t.Context(), client, "http://discord.test", testToken)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != apiTimeout {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestGatewayBotRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0.25": 250 * time.Millisecond, "1e300": time.Hour, "Inf": time.Hour,
		"-1": 0, "NaN": 0, "soon": 0, "Wed, 21 Oct 2026 07:28:00 GMT": 0,
	} {
		client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {header}}, Body: http.NoBody}, nil
		})}
		_, err := GetGatewayBot(t.Context(), client, "", testToken)
		if api, ok := errors.AsType[*APIError](err); !ok || api.RetryAfter != want || api.URL != "https://discord.com/api/v10/gateway/bot" {
			t.Errorf("Retry-After %q: got error %v, want to wait %s", header, err, want)
		}
	}
}
