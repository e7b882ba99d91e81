package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/app"
	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

type simCmd struct {
	Listen string   `default:"127.0.0.1:8765" placeholder:"HOST:PORT" help:"Where to listen (${default}). On loopback the control API is served too, under /sim/v1/."`
	Strict bool     `help:"When it ends, print what clients did that Discord forbids, and exit 1 if they did anything."`
	Allow  []string `placeholder:"RULE,…" help:"What clients may do all the same, such as 'session thrown away'."`
	Check  bool     `help:"Ask the simulated Discord that runs with this --listen whether it answers, and exit: 0 if it does, else 1."`
	Record bool     `help:"Remember every event of every session, for /sim/v1/sessions?dispatches=true."`

	Token             config.Secret `default:"simulated-token" placeholder:"TOKEN" help:"The bot token that is accepted (${default})."`
	Shards            int           `default:"1" placeholder:"N" help:"Shards that it recommends (${default})."`
	ShardMultiple     int           `default:"1" placeholder:"N" help:"Number of which num_shards must be a multiple, as for large bots (${default})."`
	MaxConcurrency    int           `default:"1" placeholder:"N" help:"Identify buckets (${default})."`
	Guilds            int           `default:"100" placeholder:"N" help:"Guilds the bot is in (${default})."`
	Rate              float64       `default:"10" placeholder:"N" help:"Events per second over the whole bot (${default})."`
	Privileged        []string      `default:"members,presences,content" enum:"members,presences,content,none" placeholder:"NAME,…" help:"Privileged intents the bot was granted, or none (${default})."`
	SessionLimit      int           `default:"1000" placeholder:"N" help:"IDENTIFYs a day (${default})."`
	SessionLimitUsed  int           `default:"0" placeholder:"N" help:"How many of them are spent already (${default})."`
	SessionLimitReset time.Duration `default:"24h" placeholder:"DURATION" help:"How long that day is (${default})."`
	IdentifyWindow    time.Duration `default:"5s" placeholder:"DURATION" help:"Least time between two IDENTIFYs of a bucket (${default})."`
	HeartbeatInterval time.Duration `default:"41.25s" placeholder:"DURATION" help:"What HELLO asks for (${default})."`
	SessionLifetime   time.Duration `default:"3m" placeholder:"DURATION" help:"How long a session without a socket can be resumed (${default})."`
	ReplayEvents      int           `default:"50000" placeholder:"N" help:"Events a session remembers for RESUME (${default})."`
	ResumeWhileLive   string        `default:"take-over" enum:"take-over,share,refuse" placeholder:"NAME" help:"What a RESUME does whose session has a socket: take-over, share or refuse (${default})."`
	AcksBehindBacklog bool          `help:"Answer a heartbeat only after the events that were due before it."`
	Seed              uint64        `default:"0" placeholder:"N" help:"Chooses the guilds and the course of the traffic (${default})."`
}

// options are what the flags ask for.
func (c *simCmd) options() discordsim.Options {
	opts := discordsim.Options{
		Token: string(c.Token), Shards: c.Shards, ShardMultiple: c.ShardMultiple, MaxConcurrency: c.MaxConcurrency,
		Guilds: c.Guilds, Rate: c.Rate, Privileged: privileged(c.Privileged),
		SessionLimit:   discordsim.SessionLimit{Total: c.SessionLimit, Used: c.SessionLimitUsed, ResetAfter: c.SessionLimitReset},
		IdentifyWindow: c.IdentifyWindow, HeartbeatInterval: c.HeartbeatInterval, SessionLifetime: c.SessionLifetime,
		ReplayEvents: c.ReplayEvents, Seed: c.Seed, Record: c.Record,
		Unspecified: discordsim.Unspecified{
			ResumeWhileLive: discordsim.ResumeWhileLive(c.ResumeWhileLive), AcksBehindBacklog: c.AcksBehindBacklog,
		},
	}
	for _, rule := range c.Allow {
		opts.Allow = append(opts.Allow, discordsim.Rule(rule))
	}
	if c.Guilds == 0 {
		opts.Guilds = -1 // none, where the package's own zero is its default
	}
	return opts
}

func privileged(names []string) (granted discordsim.Intents) {
	for _, name := range names {
		granted |= map[string]discordsim.Intents{
			"members": discordsim.IntentGuildMembers, "presences": discordsim.IntentGuildPresences, "content": discordsim.IntentMessageContent,
		}[name]
	}
	return granted
}

// Run serves until ctx ends.
func (c *simCmd) Run(ctx context.Context) error {
	if c.Check {
		return app.CheckHTTP(c.Listen, "/api/v10/gateway")
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return badInput{fmt.Errorf("--listen %s: %w", c.Listen, err)}
	}
	defer listener.Close()
	return c.serve(ctx, listener, os.Stdout)
}

// serve is Run on a listener.
func (c *simCmd) serve(ctx context.Context, listener net.Listener, out io.Writer) error {
	opts := c.options()
	opts.Logger = hclog.New(&hclog.LoggerOptions{Name: "discordsim", Output: os.Stderr})
	opts.ControlAPI = onLoopback(listener.Addr()) // it has no authentication
	sim, err := discordsim.New(opts)
	if err != nil {
		return badInput{err}
	}
	fmt.Fprintf(out, "simulated Discord at http://%s/api/v10, for DISCORD_API_URL; Ctrl-C ends it\n", listener.Addr())
	if opts.ControlAPI {
		fmt.Fprintf(out, "control API at http://%s%s\n", listener.Addr(), discordsim.APIPath)
	} else {
		fmt.Fprintln(out, "no control API, which has no authentication and is served on loopback only")
	}
	if err := sim.Serve(ctx, listener); err != nil || !c.Strict {
		return err
	}
	return verdict(out, sim)
}

func onLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// verdict prints what clients did that Discord forbids, which is an error if it is anything.
func verdict(out io.Writer, sim *discordsim.Server) error {
	violations := sim.Violations()
	if len(violations) == 0 {
		fmt.Fprintln(out, "no violations")
		return nil
	}
	fmt.Fprintf(out, "violations: %d\n", sim.Stats().Violations) // the list is bounded
	printViolations(out, violations)
	return errUnclean
}

func printViolations(out io.Writer, violations []discordsim.Violation) {
	for _, v := range violations {
		who := "no shard yet"
		if v.Shard >= 0 {
			who = fmt.Sprintf("shard %d of %d", v.Shard, v.Total)
		}
		fmt.Fprintf(out, "  %s  connection %d, %s: %s: %s\n", v.At.UTC().Format("15:04:05.000"), v.Connection, who, v.Rule, v.Detail)
	}
}
