package discordsim

import (
	"slices"
	"time"
)

// Unspecified is how the simulator behaves where Discord's documentation is silent, or says that it may be either way. A
// bot that is to survive the real Discord should pass its tests whatever is set here. See the package documentation for
// what is known of each.
type Unspecified struct {
	// ResumeWhileLive is what a RESUME does whose session has a socket. Default [ResumeTakesOver].
	ResumeWhileLive ResumeWhileLive
	// InvalidSessionDelay is how long after a refused IDENTIFY its op 9 comes. Default 0.
	InvalidSessionDelay time.Duration
	// RefusedIdentifyIsFree leaves the budget alone when an IDENTIFY is refused because it came too soon. Default false.
	RefusedIdentifyIsFree bool
	// ShuffleGuilds sends the guilds after READY in an order that the seed decides. Default false: by id, as READY lists
	// them.
	ShuffleGuilds bool
	// GuildInterval is the time between two of them. Other events of the background wait until all were sent. Default
	// 0: as fast as the client reads.
	GuildInterval time.Duration
	// Outages is how many of the bot's guilds are in an outage: GUILD_DELETE with unavailable stands for their
	// GUILD_CREATE, and nothing happens in them. Default 0.
	Outages int
	// OldSeqCloses closes with 4007 when a RESUME names a sequence number that is no longer remembered. Default false:
	// op 9 with false.
	OldSeqCloses bool
	// GoingAwayCode is what the server closes with when it stops, and after op 7. Default 1001.
	GoingAwayCode CloseCode
	// ReconnectPatience is how long after op 7 the server closes the socket itself. Default 0: never.
	ReconnectPatience time.Duration
	// CutBaseResumesAfter is how long after a RESUME on the base URL, instead of resume_gateway_url, the server asks to
	// reconnect. Default 0: never.
	CutBaseResumesAfter time.Duration
	// ObfuscateChannels shows every session the channels that the bot cannot view, obfuscated. Default false: only those
	// that ask for it with capabilities.
	ObfuscateChannels bool
	// AcksBehindBacklog lets the answer to a heartbeat wait until the client was sent every event that was due before
	// it, so that a client that reads slowly sees it late. Default false: it passes the backlog.
	AcksBehindBacklog bool
}

// ResumeWhileLive is what a RESUME does whose session has a socket already. It is [RuleResumeLive] in any case.
type ResumeWhileLive string

// The ways to treat a second socket of a session.
const (
	ResumeTakesOver ResumeWhileLive = "take-over" // the old socket is closed with 4000
	ResumeShares    ResumeWhileLive = "share"     // both stay, and both are sent every further dispatch
	ResumeRefused   ResumeWhileLive = "refuse"    // the new socket is answered op 9 with false; the old one lives on
)

func (u Unspecified) withDefaults() Unspecified {
	orDefault(&u.ResumeWhileLive, ResumeTakesOver)
	orDefault(&u.GoingAwayCode, CloseGoingAway)
	return u
}

// check hands each condition that must hold to check.
func (u Unspecified) check(guilds int, check func(ok bool, format string, args ...any)) {
	check(slices.Contains([]ResumeWhileLive{ResumeTakesOver, ResumeShares, ResumeRefused}, u.ResumeWhileLive),
		"Unspecified.ResumeWhileLive is %q, must be take-over, share or refuse", u.ResumeWhileLive)
	check(u.InvalidSessionDelay >= 0, "Unspecified.InvalidSessionDelay is %v, must not be negative", u.InvalidSessionDelay)
	check(u.GuildInterval >= 0, "Unspecified.GuildInterval is %v, must not be negative", u.GuildInterval)
	check(u.Outages >= 0 && u.Outages <= guilds, "Unspecified.Outages is %d, must be between 0 and Guilds (%d)", u.Outages, guilds)
	check(u.GoingAwayCode.valid(), "Unspecified.GoingAwayCode is %d, must be 1000 to 1003, 1007 to 1014 or 3000 to 4999", u.GoingAwayCode)
	check(u.CutBaseResumesAfter >= 0, "Unspecified.CutBaseResumesAfter is %v, must not be negative", u.CutBaseResumesAfter)
	check(u.ReconnectPatience >= 0, "Unspecified.ReconnectPatience is %v, must not be negative", u.ReconnectPatience)
}
