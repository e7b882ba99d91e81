package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const testToken = "MTk4.very-secret.token"

const goodAnswer = `{"url":"wss://gateway.discord.gg/","shards":9,
	"session_start_limit":{"total":1000,"remaining":999,"reset_after":14400000,"max_concurrency":1},"new_field":[]}`

func TestAskDiscord(t *testing.T) {
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
		{"address of another scheme", 200, answer("wss://", "https://"), `"https://gateway.discord.gg/" is not a ws://`},
		{"address without a host", 200, answer("wss://gateway.discord.gg/", "wss:///"), "is not a ws://"},
		{"address that is none", 200, answer("wss://", "wss://%zz"), "is not a ws://"},
		{"no address", 200, answer(`"url"`, `"uri"`), `"" is not a ws://`},
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
			before := time.Now()
			bot, err := askDiscord(t.Context(), newDiscordClient(), server.URL+"/api/", testToken)
			checkError(t, err, test.want)
			if errors.Is(err, ErrTokenRefused) != (test.status == http.StatusUnauthorized) {
				t.Errorf("error %v for status %d", err, test.status)
			}
			if limit := bot.SessionStartLimit; err == nil && (bot.Shards != 9 || limit.Total != 1000 || limit.Remaining != 999 ||
				limit.ResetAfter != 14_400_000 || limit.MaxConcurrency != 1 || bot.asked.Before(before)) {
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

func TestAskDiscordGivesNoSecretAway(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	withPassword := strings.Replace(server.URL, "http://", "http://bot:hunter2@", 1)
	for name, ask := range map[string]struct{ base, token, want string }{
		"nobody listens":               {"http://" + nobody.Addr().String(), testToken, "refused"},
		"a token no header can carry":  {server.URL, "secret\n", "invalid header field value"},
		"a password in the address":    {withPassword, testToken, "404"},
		"a password, nobody listens":   {"http://bot:hunter2@" + nobody.Addr().String(), testToken, "refused"},
		"a scheme nobody knows":        {"gopher://bot:hunter2@localhost", testToken, "unsupported protocol"},
		"an address that is not one":   {"http://bot:hunter2@a b", testToken, "invalid"},
		"an address without a scheme ": {"://", testToken, "missing protocol scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := askDiscord(t.Context(), newDiscordClient(), ask.base, ask.token)
			checkError(t, err, ask.want)
		})
	}
}

// A server that takes the question and never answers is given up on.
func TestAskDiscordTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		start := time.Now()
		_, err := askDiscord(t.Context(), client, "http://discord.test", testToken)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != askTimeout {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPollAfter(t *testing.T) {
	for _, test := range []struct {
		resetAfter int // milliseconds
		want       time.Duration
	}{
		{14_400_000, pollEvery},
		{60_000, 61 * time.Second},
		{0, 10 * time.Second},
		{-1, 10 * time.Second},
	} {
		var bot gatewayBot
		bot.SessionStartLimit.ResetAfter = test.resetAfter
		if got := pollAfter(bot); got != test.want {
			t.Errorf("limit resets after %d ms: asked again after %v, want %v", test.resetAfter, got, test.want)
		}
	}
}

// poller is a coordinator that only polls, on virtual time, a Discord that answers from a list and then well for ever.
func poller(answers ...func() (*http.Response, error)) (c *Coordinator, asked *[]time.Time) {
	c, asked = New(Config{Token: testToken, APIURL: "http://discord.test", Logger: quiet}), new([]time.Time)
	c.discord = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		*asked = append(*asked, time.Now())
		if len(*asked) <= len(answers) {
			return answers[len(*asked)-1]()
		}
		return respond(http.StatusOK)()
	})}
	return c, asked
}

func respond(status int) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader(goodAnswer))}, nil
	}
}

func TestPollDiscord(t *testing.T) {
	fails := func() (*http.Response, error) { return nil, errors.New("no route") }

	t.Run("a token refused at the first answer ends it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, _ := poller(fails, respond(500), respond(401))
			if err := c.pollDiscord(t.Context()); !errors.Is(err, ErrTokenRefused) {
				t.Errorf("got error %v", err)
			}
		})
	})

	t.Run("refused later it is asked again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, asked := poller(respond(200), respond(401), respond(401))
			poll(t, c)
			<-c.answers
			<-c.answers
			if len(*asked) != 4 || (*asked)[1].Sub((*asked)[0]) != pollEvery {
				t.Errorf("asked at %v", *asked)
			}
		})
	})

	t.Run("a failing Discord is asked ever less often", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, asked := poller(slices.Repeat([]func() (*http.Response, error){fails}, 20)...)
			poll(t, c)
			<-c.answers
			for i := 1; i < len(*asked); i++ { // backoff's jitter is a half either way
				if wait := (*asked)[i].Sub((*asked)[i-1]); wait < 250*time.Millisecond || wait > 90*time.Second {
					t.Errorf("attempt %d came %v after the one before", i, wait)
				}
			}
			if last := (*asked)[20].Sub((*asked)[19]); last < 30*time.Second {
				t.Errorf("after 20 failures it is asked after %v", last)
			}
		})
	})

	t.Run("a new leader does not wait for the next regular answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, asked := poller()
			poll(t, c)
			<-c.answers
			time.Sleep(time.Second)
			c.askAgain()
			<-c.answers
			synctest.Wait()
			if (*asked)[1].Sub((*asked)[0]) != time.Second {
				t.Errorf("asked at %v", *asked)
			}
		})
	})
}

// poll polls until the test ends.
func poll(t *testing.T, c *Coordinator) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.pollDiscord(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("poll ended with %v", err)
		}
	})
}
