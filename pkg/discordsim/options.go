package discordsim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
)

// DefaultToken is the bot token accepted when [Options.Token] is empty.
const DefaultToken = "simulated-token"

// Options describes the simulated bot and how its gateway behaves. The zero value of a field means the default named
// with it.
type Options struct {
	// Token is the bot token that is accepted, without the "Bot " prefix. Default [DefaultToken].
	Token string
	// Shards is what GET /gateway/bot recommends. A client may IDENTIFY with another count, as with Discord. Default 1.
	Shards int
	// MaxConcurrency is the number of identify buckets; shard s is in bucket s % MaxConcurrency. Default 1.
	MaxConcurrency int
	// ShardMultiple makes the bot a "large bot" whose num_shards must be a multiple of it. Default 1.
	ShardMultiple int
	// SessionLimit is the daily IDENTIFY budget.
	SessionLimit SessionLimit

	// Guilds is how many guilds the bot is in. Their ids spread evenly over any number of shards. Default 100; a
	// negative number means none.
	Guilds int
	// Rate is the background traffic: events per second over the whole bot. Default 0, no traffic.
	Rate float64
	// Privileged is which privileged intents the bot was granted. Asking for another one closes with 4014. Default
	// none, as for a newly made bot.
	Privileged Intents

	// HeartbeatInterval is what HELLO asks for. Default 41.25 s, which Discord uses.
	HeartbeatInterval time.Duration
	// HeartbeatGrace is how much longer than the interval a client may be silent before its socket is closed.
	// Discord's is unknown. Default 10 s.
	HeartbeatGrace time.Duration
	// SilenceCode closes a socket whose heartbeats stopped. Its session can be resumed whatever the code. Discord's
	// documentation suggests 4009; clients have also seen 1000. Default 4009.
	SilenceCode CloseCode
	// IdentifyWindow is the least time between two IDENTIFYs of one bucket. Default 5 s.
	IdentifyWindow time.Duration
	// SessionLifetime is how long a session without a socket can be resumed. Discord says "a few minutes". Default 3 m.
	SessionLifetime time.Duration
	// ReplayEvents and ReplayBytes bound what one session keeps for a client that lags or resumes. What no longer fits
	// is forgotten, oldest first. Defaults 50,000 events and 16 MiB.
	ReplayEvents int
	ReplayBytes  int

	// KeepTokenOnOverrun answers an IDENTIFY beyond the budget with op 9 only. Default false: as Discord does, end
	// every session and reset the token, after which every request is refused.
	KeepTokenOnOverrun bool

	// Unspecified is how to behave where Discord's documentation does not say.
	Unspecified Unspecified

	// Allow is what clients may do without its being a violation; it is answered all the same.
	Allow []Rule
	// Record keeps a line for each dispatch of each session, for [Server.Sessions]. It costs about 40 bytes per event
	// for the life of the server.
	Record bool
	// ControlAPI serves [Server.ControlHandler] beside Discord's own paths. It has no authentication: set it only when
	// the simulator listens on loopback.
	ControlAPI bool
	// Seed chooses the guilds and the course of the traffic. Times, session ids and snowflakes of live events differ
	// from run to run all the same.
	Seed uint64
	// Logger hears of violations (warn) and of each connection (debug). Default: none.
	Logger hclog.Logger
}

// SessionLimit is the session_start_limit of GET /gateway/bot: how many IDENTIFYs the bot may send, over all shards.
type SessionLimit struct {
	// Total is the budget of one period. Default 1000.
	Total int
	// Used is how much of the first period's budget is spent already. Default 0.
	Used int
	// ResetAfter is the length of a period, which starts with its first IDENTIFY. Default 24 h.
	ResetAfter time.Duration
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (o Options) withDefaults() Options {
	orDefault(&o.Token, DefaultToken)
	orDefault(&o.Shards, 1)
	orDefault(&o.MaxConcurrency, 1)
	orDefault(&o.ShardMultiple, 1)
	orDefault(&o.SessionLimit.Total, 1000)
	orDefault(&o.SessionLimit.ResetAfter, 24*time.Hour)
	orDefault(&o.Guilds, 100)
	o.Guilds = max(o.Guilds, 0)
	orDefault(&o.HeartbeatInterval, 41250*time.Millisecond)
	orDefault(&o.HeartbeatGrace, 10*time.Second)
	orDefault(&o.SilenceCode, CloseSessionTimedOut)
	orDefault(&o.IdentifyWindow, 5*time.Second)
	orDefault(&o.SessionLifetime, 3*time.Minute)
	orDefault(&o.ReplayEvents, 50_000)
	orDefault(&o.ReplayBytes, 16<<20)
	o.Unspecified = o.Unspecified.withDefaults()
	if o.Logger == nil {
		o.Logger = hclog.NewNullLogger()
	}
	return o
}

// validate names every field that makes no sense.
func (o Options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("discordsim: options: "+format, args...))
		}
	}
	check(o.Shards > 0, "Shards is %d, must be positive", o.Shards)
	check(o.MaxConcurrency > 0, "MaxConcurrency is %d, must be positive", o.MaxConcurrency)
	check(o.ShardMultiple > 0, "ShardMultiple is %d, must be positive", o.ShardMultiple)
	check(o.ShardMultiple <= 0 || o.Shards%o.ShardMultiple == 0,
		"ShardMultiple is %d, must divide Shards (%d)", o.ShardMultiple, o.Shards)
	check(o.SessionLimit.Total > 0, "SessionLimit.Total is %d, must be positive", o.SessionLimit.Total)
	check(o.SessionLimit.Used >= 0 && o.SessionLimit.Used <= o.SessionLimit.Total,
		"SessionLimit.Used is %d, must be between 0 and Total (%d)", o.SessionLimit.Used, o.SessionLimit.Total)
	check(o.SessionLimit.ResetAfter > 0, "SessionLimit.ResetAfter is %v, must be positive", o.SessionLimit.ResetAfter)
	check(o.Guilds <= maxGuilds, "Guilds is %d, must be at most %d", o.Guilds, maxGuilds)
	check(validRate(o.Rate), "Rate is %v, must be a number not below 0", o.Rate)
	check(o.Privileged&^PrivilegedIntents == 0, "Privileged is %d, which has bits that are not privileged", o.Privileged)
	check(o.HeartbeatInterval >= time.Millisecond, "HeartbeatInterval is %v, must be at least 1ms", o.HeartbeatInterval)
	check(o.HeartbeatGrace > 0, "HeartbeatGrace is %v, must be positive", o.HeartbeatGrace)
	check(o.SilenceCode == CloseNormal || o.SilenceCode >= 4000 && o.SilenceCode < 5000,
		"SilenceCode is %d, must be 1000 or in 4000-4999", o.SilenceCode)
	check(o.IdentifyWindow > 0, "IdentifyWindow is %v, must be positive", o.IdentifyWindow)
	check(o.SessionLifetime > 0, "SessionLifetime is %v, must be positive", o.SessionLifetime)
	check(o.ReplayEvents > 0, "ReplayEvents is %d, must be positive", o.ReplayEvents)
	o.Unspecified.check(o.Guilds, check)
	for _, rule := range o.Allow {
		check(slices.Contains(rules, rule), "Allow is %q, which is no rule", rule)
	}
	check(o.ReplayBytes > 0, "ReplayBytes is %d, must be positive", o.ReplayBytes)
	return errors.Join(errs...)
}
