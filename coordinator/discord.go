package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// askTimeout bounds a request to Discord's REST API. It is shorter than identifyWindow, or the leader would find an answer that took
// long too old to count by: see leader.takeAnswer.
const askTimeout = 4 * time.Second

// gatewayBot is what GET /gateway/bot says (Discord docs: Gateway, "Get Gateway Bot").
type gatewayBot struct {
	asked time.Time // just before the request left

	URL               string `json:"url"`
	Shards            int    `json:"shards"`
	SessionStartLimit struct {
		Total          int `json:"total"`
		Remaining      int `json:"remaining"`
		ResetAfter     int `json:"reset_after"` // milliseconds
		MaxConcurrency int `json:"max_concurrency"`
	} `json:"session_start_limit"`
}

// ErrTokenRefused says that Discord does not accept the bot token. Trying again would not help.
var ErrTokenRefused = errors.New("bot token refused by Discord (401): check DISCORD_TOKEN or DISCORD_TOKEN_FILE; if Discord reset it, make a new one in the Developer Portal")

// newDiscordClient keeps no connection open from one question to the next, which are minutes apart.
func newDiscordClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	return &http.Client{Transport: transport}
}

// askDiscord makes one GET {base}/gateway/bot.
func askDiscord(ctx context.Context, client *http.Client, base, token string) (gatewayBot, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/gateway/bot", nil)
	if err != nil {
		if parse, ok := errors.AsType[*url.Error](err); ok {
			err = parse.Err // without the address, which may hold a password
		}
		return gatewayBot{}, fmt.Errorf("ask Discord: make the request: %w", err)
	}
	address := req.URL.Redacted()
	asked := time.Now()
	req.Header.Set("Authorization", "Bot "+token)
	req.Header.Set("User-Agent", "DiscordBot (https://github.com/muster-gateway/muster, 1)")
	resp, err := client.Do(req)
	if err != nil {
		return gatewayBot{}, fmt.Errorf("ask Discord: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return gatewayBot{}, fmt.Errorf("GET %s: %w", address, ErrTokenRefused)
	default:
		return gatewayBot{}, fmt.Errorf("GET %s: %s", address, resp.Status)
	}
	bot := gatewayBot{asked: asked}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&bot); err != nil {
		return gatewayBot{}, fmt.Errorf("GET %s: answer is not JSON of its form: %w", address, err)
	}
	if err := bot.check(); err != nil {
		return gatewayBot{}, fmt.Errorf("GET %s: %w", address, err)
	}
	return bot, nil
}

func (b gatewayBot) check() error {
	u, err := url.Parse(b.URL)
	switch {
	case err != nil || (u.Scheme != "ws" && u.Scheme != "wss") || u.Host == "":
		return fmt.Errorf("gateway url %q is not a ws:// or wss:// address", b.URL)
	case b.Shards < 1:
		return fmt.Errorf("%d shards recommended", b.Shards)
	case b.SessionStartLimit.MaxConcurrency < 1:
		return fmt.Errorf("max_concurrency is %d", b.SessionStartLimit.MaxConcurrency)
	default:
		return nil
	}
}
