package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultAPIURL is the base of Discord's REST API.
	DefaultAPIURL = "https://discord.com/api/v10"
	// apiTimeout bounds a request to it.
	apiTimeout = 10 * time.Second
	// maxRetryAfter bounds how long an answer can make us wait: to ask once an hour hurts nobody.
	maxRetryAfter = time.Hour
	// maxAPIAnswer bounds what is read of an answer, which has some two hundred bytes.
	maxAPIAnswer = 1 << 20
)

// ErrTokenRefused says that Discord does not accept the bot token. Trying again would not help.
var ErrTokenRefused = errors.New("bot token refused by Discord (401): if Discord reset it, make a new one in the Developer Portal")

// APIError is an answer of Discord's REST API that is neither what was asked for nor [ErrTokenRefused].
type APIError struct {
	URL        string        // without a password
	Status     int           // of HTTP
	RetryAfter time.Duration // how long not to ask again, at most an hour; 0 if Discord does not say, which it does with 429
}

// Error names the address and the status.
func (e *APIError) Error() string {
	text := fmt.Sprintf("GET %s: %d %s", e.URL, e.Status, http.StatusText(e.Status))
	if e.RetryAfter > 0 {
		text += fmt.Sprintf(" (to be asked again in %s)", e.RetryAfter)
	}
	return text
}

// GatewayBot is what Discord says about how the bot may connect (Discord: Gateway, Get Gateway Bot).
type GatewayBot struct {
	URL    string         // for [Config.GatewayURL]
	Shards int            // how many it recommends
	Limits IdentifyLimits // at the moment of the answer
}

// GetGatewayBot makes one GET {base}/gateway/bot, which takes at most ten seconds. A base of "" stands for [DefaultAPIURL].
// A nil client stands for one that keeps no connection open afterwards.
//
// The error is [ErrTokenRefused], wrapped, if Discord does not accept the token, an [*APIError] if it answers with another status
// than 200, and of no particular type if it does not answer, or not with what its documentation says. It never holds the token.
func GetGatewayBot(ctx context.Context, client *http.Client, base, token string) (GatewayBot, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if base == "" {
		base = DefaultAPIURL
	}
	if client == nil {
		client = newAPIClient(nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/gateway/bot", nil)
	if err != nil {
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = parse.Err // without the address, which may hold a password
		}
		return GatewayBot{}, fmt.Errorf("ask Discord: make the request: %w", err)
	}
	req.Header.Set("Authorization", "Bot "+token)
	req.Header.Set("User-Agent", "DiscordBot (https://github.com/muster-gateway/muster, 1)")
	resp, err := client.Do(req)
	if err != nil {
		return GatewayBot{}, fmt.Errorf("ask Discord: %w", err)
	}
	defer resp.Body.Close()
	address := req.URL.Redacted()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return GatewayBot{}, fmt.Errorf("GET %s: %w", address, ErrTokenRefused)
	default:
		return GatewayBot{}, &APIError{URL: address, Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	}
	bot, err := readGatewayBot(io.LimitReader(resp.Body, maxAPIAnswer))
	if err != nil {
		return GatewayBot{}, fmt.Errorf("GET %s: %w", address, err)
	}
	return bot, nil
}

// newAPIClient makes a client that keeps no connection open from one question to the next, which are far between. A nil dial is
// the usual one.
func newAPIClient(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	if dial != nil {
		transport.DialContext = dial
	}
	return &http.Client{Transport: transport}
}

// retryAfter reads Retry-After, which Discord gives in seconds (Discord: Rate Limits).
func retryAfter(header http.Header) time.Duration {
	seconds, err := strconv.ParseFloat(header.Get("Retry-After"), 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
}

// readGatewayBot reads an answer and checks what it says.
func readGatewayBot(body io.Reader) (GatewayBot, error) {
	var answer struct {
		URL               string `json:"url"`
		Shards            int    `json:"shards"`
		SessionStartLimit struct {
			Total          int   `json:"total"`
			Remaining      int   `json:"remaining"`
			ResetAfter     int64 `json:"reset_after"` // milliseconds
			MaxConcurrency int   `json:"max_concurrency"`
		} `json:"session_start_limit"`
	}
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return GatewayBot{}, fmt.Errorf("answer is not JSON of its form: %w", err)
	}
	limit := answer.SessionStartLimit
	if err := checkGatewayURL(answer.URL); err != nil {
		return GatewayBot{}, fmt.Errorf("gateway url: %w", err)
	}
	if answer.Shards < 1 {
		return GatewayBot{}, fmt.Errorf("%d shards recommended", answer.Shards)
	}
	if limit.MaxConcurrency < 1 {
		return GatewayBot{}, fmt.Errorf("max_concurrency is %d", limit.MaxConcurrency)
	}
	return GatewayBot{URL: answer.URL, Shards: answer.Shards, Limits: IdentifyLimits{
		MaxConcurrency: limit.MaxConcurrency, Total: limit.Total, Remaining: limit.Remaining,
		ResetAfter: time.Duration(limit.ResetAfter) * time.Millisecond,
	}}, nil
}
