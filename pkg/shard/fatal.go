package shard

import "fmt"

// Scope says how far a refusal of Discord's reaches, and so who has to stop.
type Scope int

// The scopes.
const (
	// ScopeBot: every shard of the bot shares what was refused (token, intents, API version). All of them stop.
	ScopeBot Scope = iota + 1
	// ScopePlan: this number of shards is refused, as such (4010) or as too few for the guilds of this shard (4011). Only
	// another number of shards helps; others that run now may go on until then.
	ScopePlan
)

// FatalError is a close code after which reconnecting with the same configuration would fail in the same way, so
// nothing should be tried again before something has changed.
type FatalError struct {
	Shard  ID
	Code   int
	Reason string // Discord's words, may be empty
	Cure   string // what has to be done, in words
}

// Error names the shard, the code, its meaning and the cure.
func (e *FatalError) Error() string {
	return fmt.Sprintf("shard %s: close %d (%s): %s", e.Shard, e.Code, ruleFor(lost, e.Code).text, e.Cure)
}

// Scope says who has to stop.
func (e *FatalError) Scope() Scope { return ruleFor(lost, e.Code).scope }
