// Package stream is muster's Redis side: how events are written to Redis
// Streams so that each is there exactly once and in order, and how they are
// read back.
//
// Every shard has one stream, EventsKey. An entry's id is "<epoch>-<seq>": the
// number of the Discord session, counted per shard from 1, and the sequence
// number Discord gave the event. The stream is therefore its own checkpoint: a
// worker that takes a shard over asks Redis where the stream ends (Tail) and
// resumes the session from there. Nothing else has to be saved.
//
// # Writing
//
// A Writer serves all shards of a process. Writer.Open gives the Log of one
// shard, Log.Append copies an entry into a bounded buffer, and Writer.Run sends
// what has gathered: one script call per shard, those of many shards in one
// pipeline. What is appended while a round is under way goes with the next, so
// an idle shard's event leaves at once and a busy shard's batches are large.
//
// The script (append.lua) takes a batch only when the stream ends with the very
// entry the batch continues, and takes all of it or none. Three things follow.
// No gap can be written. No entry can be written twice, whoever tries: an owner
// that was deposed without noticing writes what the new owner writes or nothing
// at all. And a batch whose outcome is unknown, after a timeout say, can be sent
// again as often as needed: if it arrived the first time, the stream already
// ends with its last entry. So whatever may pass with time is retried for as
// long as Run lives. If a failover lost what Redis had confirmed, it is appended
// again from what the Writer keeps. Only a stream that is another's, or has lost
// more than that, ends a Log (RefusedError).
//
// Events that are not to be in the stream are passed over with Log.Skip. How far
// a session has come is then ahead of the stream's end, and saved beside it.
//
// Where Discord cannot replay what was missed, the new session's first entry is
// a gap marker, "<epoch>-0" of type GapType (NewGap). Append insists on it.
//
// # Reading
//
// A Reader merges the streams of all shards into one, in order within a shard.
// The hash ClusterKey tells it, and consumers in other languages, how many
// shards there are, and it follows when that changes.
//
// With a Group it is a member of a consumer group: entries are acknowledged when
// the handler has taken them, and any number of processes share the shards. A
// lease in Redis says which member reads a shard (tenure), so that each shard's
// order holds across processes, and every script by which a member acts on the
// group compares it. Each entry is handed over at least once: again if the
// handler fails, if its member dies, or if the acknowledgement is lost; (Shard,
// ID) tells which were handled. A member that is paused past its lease may be
// inside one handler while the next one begins; the handler's context ends then.
// What keeps failing moves to a stream of dead letters, DeadKey. Exactly what
// holds when is in docs/consuming.md.
//
// Entries that were trimmed before they were read are reported, never passed
// over in silence (Loss), and ReadLag says how close a group is to that.
//
// # Commands
//
// The other way round, each shard has a stream of commands for Discord,
// CommandsKey. Commands is for those who produce them. A CommandReader brings
// them to the shards' owners, who remove each when it was sent: what is in the
// stream is what is still to be sent, whoever owns the shard. What can never be
// sent goes to DeadCommandsKey with the reason.
package stream
