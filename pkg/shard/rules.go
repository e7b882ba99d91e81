package shard

import (
	"time"

	"github.com/hashicorp/go-hclog"
)

// rules is the one table of how a connection can end and what follows. Its first part is Discord's table of close codes
// (Discord: Opcodes and Status Codes, Gateway Close Event Codes), read with an eye on cost: where the session might live, a
// needless RESUME is free, and a needless IDENTIFY spends the day's budget. A code that is not here resumes.
//
// Whatever the row, failures in a row are backed off from and RESUMEs that bring nothing are counted: see history.
var rules = []rule{
	{cause: lost, code: 0, text: "connection lost", remedy: resume},
	{cause: lost, code: 1000, text: "normal closure", remedy: resume},
	{cause: lost, code: 1001, text: "going away", remedy: resume},
	{cause: lost, code: 4000, text: "unknown error", remedy: resume},
	{cause: lost, code: 4001, text: "unknown opcode", remedy: resume},
	{cause: lost, code: 4002, text: "decode error", remedy: resume},
	{cause: lost, code: 4003, text: "not authenticated", remedy: identify},
	{cause: lost, code: 4004, text: "authentication failed", remedy: fatal, scope: ScopeBot,
		cure: "the bot token is wrong or was reset; give every worker the present one"},
	{cause: lost, code: 4005, text: "already authenticated", remedy: resumeOnce},
	{cause: lost, code: 4007, text: "invalid seq", remedy: identify},
	{cause: lost, code: 4008, text: "rate limited", remedy: resume, pause: delay{5 * time.Second, 10 * time.Second}},
	{cause: lost, code: 4009, text: "session timed out", remedy: identify},
	{cause: lost, code: 4010, text: "invalid shard", remedy: fatal, scope: ScopePlan,
		cure: "the number of shards is one Discord does not accept; take the number it recommends"},
	{cause: lost, code: 4011, text: "sharding required", remedy: fatal, scope: ScopePlan,
		cure: "the shard would have more than 2500 guilds; reshard to more shards"},
	{cause: lost, code: 4012, text: "invalid API version", remedy: fatal, scope: ScopeBot,
		cure: "Discord no longer speaks API v10; upgrade muster"},
	{cause: lost, code: 4013, text: "invalid intents", remedy: fatal, scope: ScopeBot,
		cure: "the intents have a bit Discord does not know; correct them"},
	{cause: lost, code: 4014, text: "disallowed intents", remedy: fatal, scope: ScopeBot,
		cure: "a privileged intent is not granted; switch it on in the developer portal or leave it out"},

	// Discord asked, in a message. It asks for the pause after op 9 (Discord: Gateway, Resuming, formerly in the docs).
	{cause: reconnect, text: "discord asked to reconnect", remedy: resume, atOnce: true},
	{cause: suspended, text: "session to be resumed", remedy: resume, pause: delay{1 * time.Second, 5 * time.Second}},
	{cause: invalidated, text: "session invalidated", remedy: identify, pause: delay{1 * time.Second, 5 * time.Second}},

	// We gave the connection up. To Discord the session goes on.
	{cause: unreachable, text: "could not connect", remedy: resume, level: hclog.Warn},
	{cause: deafHello, text: "no hello in time", remedy: resume, level: hclog.Warn},
	{cause: unanswered, text: "no answer to identify or resume", remedy: resume},
	{cause: zombie, text: "heartbeats not answered", remedy: resume, level: hclog.Warn},
	{cause: broken, text: "unreadable or disordered message", remedy: resume, level: hclog.Warn},

	// Our own program ended it. Nothing follows within this Run.
	{cause: stopped, text: "stopped", remedy: resume},
	{cause: failed, text: "callback failed", remedy: resume},
}

// rule is a row of the table.
type rule struct {
	cause cause
	code  int // of a close by Discord; 0 without a close frame, and for every other cause
	text  string

	remedy remedy
	pause  delay // waited before the next connection, at least
	atOnce bool  // and, the first time in a row, not a moment longer

	level hclog.Level // the log's; not set: Debug, since Discord ends connections all the time
	scope Scope       // fatal only
	cure  string      // what a person has to do; fatal only
}

// remedy is what follows the end of a connection.
type remedy int

const (
	resume     remedy = iota // the session goes on
	resumeOnce               // the session may go on: try that once
	identify                 // the session is gone
	fatal                    // the same configuration would fail again
)

// ruleFor returns the rule for a cause and, if that is lost, a close code.
func ruleFor(why cause, code int) rule {
	for _, r := range rules {
		if r.cause == why && (r.code == code || why != lost) {
			return r
		}
	}
	return rule{cause: why, code: code, text: "unlisted code", remedy: resume}
}

// String says it in words, for people.
func (c cause) String() string { return ruleFor(c, 0).text }
