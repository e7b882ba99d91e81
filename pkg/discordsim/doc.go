// Package discordsim is a simulated Discord gateway to test bots against.
//
// It is a real HTTP and WebSocket server that speaks version 9 and 10 of the gateway protocol in JSON, plain or
// compressed, and is as strict as Discord itself: it checks tokens, shard pairs and intents, spaces IDENTIFYs, counts
// them against a daily budget, closes sockets that stop beating or send too much, and replays missed events to a session
// that resumes. Behind it stands an invented bot with guilds, members and messages, so a client sees READY, then its
// guilds, then a realistic stream of events that is never the same twice.
//
// Nothing of it needs Discord, a network or an account:
//
//	sim, err := discordsim.New(discordsim.Options{Shards: 4, MaxConcurrency: 2, Rate: 500})
//	…
//	err = sim.Serve(ctx, listener) // blocks until ctx ends
//
// A client is pointed at http://<listener>/api/v10, asks for /gateway/bot as it would ask Discord, and goes on from
// there. Tests that bring their own HTTP server use [Server.Handler] and [Server.Run] instead of [Server.Serve].
//
// # What it remembers
//
// The server keeps an account of what it did. [Server.Sessions] lists every session with each event it was sent (sequence
// number, name, checksum of the payload), so that a test can prove that nothing was lost, doubled or reordered on the
// way to wherever the client put it. [Server.Violations] lists what clients did that Discord would punish.
//
// # What it promises
//
// Within a session sequence numbers start at 1 and have no gaps. A replay carries the very bytes that were sent first.
// A client that reads slowly only delays itself; when it falls further behind than the replay buffer reaches, its
// session is invalidated. Everything a session or a socket keeps in memory is bounded by [Options].
//
// The package calls the time package directly and starts no goroutine outside Run, Serve and the handlers of live
// sockets, so it works inside a testing/synctest bubble when its listener is in memory.
//
// # Where Discord's documentation is silent
//
// The lifetime of a disconnected session, the depth of the replay buffer, the grace given to late heartbeats and the
// close code that ends it are not documented by Discord. They are options here; their defaults are guesses from what
// client authors have observed.
package discordsim
