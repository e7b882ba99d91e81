package main

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

type simCmd struct {
	Listen         string        `default:"127.0.0.1:8765" placeholder:"HOST:PORT" help:"Where to listen (${default})."`
	Token          config.Secret `default:"simulated-token" placeholder:"TOKEN" help:"The bot token that is accepted (${default})."`
	Shards         int           `default:"1" placeholder:"N" help:"Shards that it recommends (${default})."`
	MaxConcurrency int           `default:"1" placeholder:"N" help:"Identify buckets (${default})."`
	Guilds         int           `default:"100" placeholder:"N" help:"Guilds the bot is in (${default})."`
	Rate           float64       `default:"10" placeholder:"N" help:"Events per second over the whole bot (${default})."`
}

// Run serves until ctx ends.
func (c *simCmd) Run(ctx context.Context) error {
	sim, err := discordsim.New(discordsim.Options{
		Token: string(c.Token), Shards: c.Shards, MaxConcurrency: c.MaxConcurrency, Guilds: c.Guilds, Rate: c.Rate,
		Privileged: discordsim.PrivilegedIntents,
		Logger:     hclog.New(&hclog.LoggerOptions{Name: "discordsim", Output: os.Stderr}),
	})
	if err != nil {
		return badInput{err}
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return badInput{fmt.Errorf("--listen %s: %w", c.Listen, err)}
	}
	fmt.Printf("simulated Discord at http://%s/api/v10, for DISCORD_API_URL; Ctrl-C ends it\n", listener.Addr())
	return sim.Serve(ctx, listener)
}
