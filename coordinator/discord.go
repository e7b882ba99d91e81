package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

// askTimeout bounds a request to Discord's REST API. It is shorter than identifyWindow, or the leader would find an answer that took
// long too old to count by: see leader.takeAnswer.
const askTimeout = 4 * time.Second

// ErrTokenRefused says that Discord does not accept the bot token. Trying again would not help.
var ErrTokenRefused = shard.ErrTokenRefused

// gatewayBot is what GET /gateway/bot says, in the form the leader counts by.
type gatewayBot struct {
	asked time.Time // just before the request left

	URL               string
	Shards            int
	SessionStartLimit struct {
		Total, Remaining int
		ResetAfter       int // milliseconds
		MaxConcurrency   int
	}
}

// newDiscordClient keeps no connection open from one question to the next, which are minutes apart.
func newDiscordClient(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	if dial != nil {
		transport.DialContext = dial
	}
	return &http.Client{Transport: transport}
}

// askDiscord makes one GET {base}/gateway/bot.
func askDiscord(ctx context.Context, client *http.Client, base, token string) (gatewayBot, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	bot := gatewayBot{asked: time.Now()}
	said, err := shard.GetGatewayBot(ctx, client, base, token)
	if errors.Is(err, ErrTokenRefused) {
		return gatewayBot{}, fmt.Errorf("DISCORD_TOKEN or DISCORD_TOKEN_FILE: %w", err)
	}
	if err != nil {
		return gatewayBot{}, err
	}
	if most := max(said.Shards, said.Limits.MaxConcurrency); most > lease.MaxShards { // no plan can have them, and no bucket be without a shard
		return gatewayBot{}, fmt.Errorf("discord recommends %d shards, and to start %d at a time: want at most %d", said.Shards, said.Limits.MaxConcurrency, lease.MaxShards)
	}
	bot.URL, bot.Shards = said.URL, said.Shards
	limit := &bot.SessionStartLimit
	limit.Total, limit.Remaining, limit.MaxConcurrency = said.Limits.Total, said.Limits.Remaining, said.Limits.MaxConcurrency
	limit.ResetAfter = int(said.Limits.ResetAfter.Milliseconds())
	return bot, nil
}
