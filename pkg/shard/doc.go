// Package shard is one Discord gateway session: a WebSocket that Discord pushes events through, kept alive, resumed
// when it breaks, and handed on event by event in order.
//
// A bot is split into shards; each shard has a session of its own. A session begins with an IDENTIFY, which Discord
// limits strictly, and outlives its socket: for a few minutes after a socket is gone, a RESUME on a new one brings
// everything that was missed. This package therefore treats sockets as cheap and sessions as dear. It closes sockets
// with codes that keep the session, resumes wherever that can work, and identifies only where no session is left and
// only on a permit from its caller.
//
// # What it promises
//
//   - Events are delivered in order of their sequence number, each once per session, on one goroutine. What Discord
//     repeats while it replays is dropped; a number that is skipped ends the socket, and the session resumes from the
//     last event that was delivered.
//   - [Event.Data] is the exact bytes Discord sent. Only READY differs: its session_id is blanked, because whoever
//     knows it (and the token) can take the session over.
//   - When [Config.Deliver] blocks, the socket is not read, so back-pressure reaches Discord. Heartbeats go on, and
//     the connection is not taken for dead meanwhile.
//   - Nothing is sent for the shard, not even a dial, before [Config.Gate] allows it.
//   - The token and the session id appear in no log and in no error.
//
// # How it is built
//
// Decisions are plain code without clock, randomness or I/O: machine (machine.go) is the protocol on one connection,
// history (history.go) is what to do after one has ended, rules (rules.go) is the table of how connections end, and
// admit (sequence.go) is the order of events. Around them are two goroutines per connection: the reader (reader.go)
// turns bytes into events, and the loop (conn.go) owns the machine, the heartbeat timer and every write. Session.Run
// (session.go) goes from one connection to the next. A Standby (standby.go) is a connection whose loop runs before there is a
// session to speak on it.
//
// The protocol is described at https://docs.discord.com/developers/events/gateway.
package shard
