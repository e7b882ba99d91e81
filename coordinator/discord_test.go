package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// The question itself is pkg/shard's; here is what a coordinator adds: when it asked, and which of its settings is wrong.
func TestAskDiscord(t *testing.T) {
	for _, test := range []struct {
		status int
		answer string
		want   string // part of the error; empty: none
	}{
		{200, goodAnswer, ""},
		{200, strings.Replace(goodAnswer, "9", "200001", 1), "200001 shards"},
		{200, strings.Replace(goodAnswer, `concurrency":1`, `concurrency":200001`, 1), "200001 at a time"},
		{401, goodAnswer, "DISCORD_TOKEN or DISCORD_TOKEN_FILE"},
		{429, goodAnswer, "429 Too Many Requests"},
	} {
		t.Run(fmt.Sprint(test.status, test.want), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/gateway/bot" || r.Header.Get("Authorization") != "Bot "+testToken {
					t.Errorf("asked %s with the wrong token: %v", r.URL, r.Header)
				}
				if !r.Close {
					t.Error("the connection would be kept open")
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.answer)
			}))
			defer server.Close()
			before := time.Now()
			bot, err := askDiscord(t.Context(), newDiscordClient(nil), server.URL+"/api/", testToken)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
			if errors.Is(err, ErrTokenRefused) != (test.status == http.StatusUnauthorized) {
				t.Errorf("error %v for status %d", err, test.status)
			}
			if limit := bot.SessionStartLimit; err == nil && (bot.Shards != 9 || limit.Total != 1000 || limit.Remaining != 999 ||
				limit.ResetAfter != 14_400_000 || limit.MaxConcurrency != 1 || bot.asked.Before(before) || bot.URL != "wss://gateway.discord.gg/") {
				t.Errorf("understood %+v", bot)
			}
		})
	}
}

// A server that takes the question and never answers is given up on while an answer would still count.
func TestAskDiscordTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}
		start := time.Now()
		_, err := askDiscord(t.Context(), client, "http://discord.test", testToken)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took >= identifyWindow {
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

	t.Run("a Discord that says when is asked then", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, asked := poller(func() (*http.Response, error) {
				resp, err := respond(http.StatusTooManyRequests)()
				resp.Header = http.Header{"Retry-After": {"600"}}
				return resp, err
			})
			poll(t, c)
			<-c.answers
			if wait := (*asked)[1].Sub((*asked)[0]); wait != 10*time.Minute {
				t.Errorf("asked again after %v", wait)
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
