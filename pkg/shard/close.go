package shard

import (
	"fmt"
	"time"
)

// The close codes we send. Sending 1000 or 1001 destroys the session, any other code keeps it (Discord: Gateway,
// Initiating a Disconnect).
const (
	closeResumable  = 4000
	closeEndSession = 1000
)

// remedy is what follows a close code.
type remedy int

const (
	resume     remedy = iota // the session goes on
	resumeOnce               // the session may go on: try that once
	identify                 // the session is gone
	fatal                    // the same configuration would fail again
)

// closeRule is a row of Discord's table of gateway close codes, read with an eye on cost: where the session might
// live, a needless RESUME is free, and a needless IDENTIFY spends the day's budget.
type closeRule struct {
	code      int
	meaning   string
	remedy    remedy
	pause     delay  // waited before the next connection, at least
	fleetWide bool   // fatal for every shard of the bot
	cure      string // what a person has to do; fatal codes only
}

// closeRules follows Discord: Opcodes and Status Codes, Gateway Close Event Codes. A code that is not here resumes.
var closeRules = []closeRule{
	{code: 1000, meaning: "normal closure", remedy: resume},
	{code: 1001, meaning: "going away", remedy: resume},
	{code: 4000, meaning: "unknown error", remedy: resume},
	{code: 4001, meaning: "unknown opcode", remedy: resume},
	{code: 4002, meaning: "decode error", remedy: resume},
	{code: 4003, meaning: "not authenticated", remedy: identify},
	{code: 4004, meaning: "authentication failed", remedy: fatal, fleetWide: true,
		cure: "the bot token is wrong or was reset; give every worker the present one"},
	{code: 4005, meaning: "already authenticated", remedy: resumeOnce},
	{code: 4007, meaning: "invalid seq", remedy: identify},
	{code: 4008, meaning: "rate limited", remedy: resume, pause: delay{5 * time.Second, 10 * time.Second}},
	{code: 4009, meaning: "session timed out", remedy: identify},
	{code: 4010, meaning: "invalid shard", remedy: fatal, fleetWide: true,
		cure: "the number of shards is one Discord does not accept; take the number it recommends"},
	{code: 4011, meaning: "sharding required", remedy: fatal,
		cure: "the shard would have more than 2500 guilds; reshard to more shards"},
	{code: 4012, meaning: "invalid API version", remedy: fatal, fleetWide: true,
		cure: "Discord no longer speaks API v10; upgrade muster"},
	{code: 4013, meaning: "invalid intents", remedy: fatal, fleetWide: true,
		cure: "the intents have a bit Discord does not know; correct them"},
	{code: 4014, meaning: "disallowed intents", remedy: fatal, fleetWide: true,
		cure: "a privileged intent is not granted; switch it on in the developer portal or leave it out"},
}

// ruleFor returns the rule for a close code. Code 0 is a socket that went without a close frame.
func ruleFor(code int) closeRule {
	for _, rule := range closeRules {
		if rule.code == code {
			return rule
		}
	}
	if code == 0 {
		return closeRule{meaning: "connection lost", remedy: resume}
	}
	return closeRule{code: code, meaning: "unlisted code", remedy: resume}
}

// FatalError is a close code after which reconnecting with the same configuration would fail in the same way, so
// nothing should be tried again before a person has changed something.
//
// Codes 4004 (token), 4010 (number of shards), 4012 (API version), 4013 and 4014 (intents) are fleet-wide: every
// shard of the bot shares what was refused, and FleetWide says true. 4011 (too many guilds) is about this shard.
type FatalError struct {
	Shard  ID
	Code   int
	Reason string // Discord's words, may be empty
	Cure   string // what has to be done, in words
}

// Error names the shard, the code, its meaning and the cure.
func (e *FatalError) Error() string {
	return fmt.Sprintf("shard %s: close %d (%s): %s", e.Shard, e.Code, ruleFor(e.Code).meaning, e.Cure)
}

// FleetWide says whether every shard of the bot will be refused alike.
func (e *FatalError) FleetWide() bool { return ruleFor(e.Code).fleetWide }
