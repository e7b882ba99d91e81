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
// # A first test
//
// Who is new to the gateway should know four words. A client opens a socket and sends IDENTIFY, which starts a session:
// a numbered series of events. When the socket breaks, the session lives on for a while; a client that says RESUME on
// another socket, with the last number it has, is sent what it missed. IDENTIFYs are few (one in five seconds, a thousand
// a day), RESUMEs are free. So a good client resumes whenever it can, identifies only when it must, and loses no event.
// To test that, let it connect, break something ([Server.Drop], [Server.Reconnect], [Server.Invalidate], [Server.Inject]),
// and then ask [Server.Sessions] what it ought to have and [Server.Violations] what it did wrong; [Server.Stats] counts the
// IDENTIFYs and RESUMEs it took.
//
// Tests in other languages start `muster sim` and do the same over HTTP; see [Server.ControlHandler].
//
// # What it remembers
//
// The server keeps an account of what it did. [Server.Sessions] lists every session with each event it was sent (sequence
// number, name, checksum of the payload), so that a test can prove that nothing was lost, doubled or reordered on the
// way to wherever the client put it. [Server.Violations] lists what clients did that Discord would punish.
//
// # What can go wrong
//
// [Server.Inject] makes something go wrong, once or until it is lifted: connections are refused, cut, slowed, swallowed by
// a black hole or answered with op 7 and op 9, messages corrupted, left out or repeated; see [Fault]. What it has no word
// for, a hook can do: [Server.OnMessage] and [Server.OnRequest] see everything first, and may answer it themselves.
//
// # What it promises
//
// Within a session sequence numbers start at 1 and have no gaps. A replay carries the very bytes that were sent first.
// A client that reads slowly only delays itself; when it falls further behind than the replay buffer reaches, its
// session is invalidated. Everything a session or a socket keeps in memory is bounded by [Options]. Faults and hooks can
// break the first of these promises for a client, but not the account of what it ought to have been sent.
//
// The package calls the time package directly and starts no goroutine outside Run, Serve and the handlers of live
// sockets, so it works inside a testing/synctest bubble when its listener is in memory.
//
// # Where Discord's documentation is silent
//
// What Discord does not document, or was seen to do in more than one way, is an option. Their defaults are guesses from
// what client authors have observed and Discord's staff has said.
//
//	option                               what is known                                       default
//	SessionLifetime                      "a few minutes"; about 90 s reported in 2020        3 min
//	ReplayEvents, ReplayBytes            more than that invalidates the session              50,000 events, 16 MiB
//	HeartbeatGrace                       nothing                                             10 s
//	SilenceCode                          4009 suggested by the documentation; 1000 seen      4009
//	KeepTokenOnOverrun                   the token is reset; not wanted in every test        reset
//	Unspecified.ResumeWhileLive          nothing                                             the old socket is closed
//	Unspecified.InvalidSessionDelay      op 9 comes seconds late at times                    at once
//	Unspecified.RefusedIdentifyIsFree    nothing; clients had better assume it is not        it spends budget
//	Unspecified.ShuffleGuilds            nothing                                             by id
//	Unspecified.GuildInterval            nothing                                             as fast as the client reads
//	Unspecified.Outages                  they occur                                          none
//	Unspecified.OldSeqCloses             4007 according to staff; op 9 seen                  op 9
//	Unspecified.GoingAwayCode            1000, 1001 and none at all seen                     1001
//	Unspecified.ReconnectPatience        the server "may" close some seconds after op 7      never
//	Unspecified.CutBaseResumesAfter      sooner than on resume_gateway_url, says staff       never
//	Unspecified.ObfuscateChannels        announced for all from 16 Nov 2026                  who asks for it
//	Unspecified.AcksBehindBacklog        acknowledgements were seen to queue behind events   they pass it
//
// Where an option would be too much, the simulator does one thing: presences beyond five in 20 s are noted and accepted,
// a wrong encoding or compression closes with 4000, payload compression begins at 1 KiB, and a period of a limit may start
// anywhere. Not simulated are the permissions a bot has in a guild, the ban of those who send ten thousand bad requests,
// and encoding etf.
package discordsim
