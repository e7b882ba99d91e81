// Package worker runs the shards that are given to it. A worker makes itself known in etcd, follows there which ranges of shards it
// owns, runs a gateway session for each of their shards, and appends every event to the shard's Redis stream. When a
// range is to go elsewhere it closes the sockets so that the sessions live on, sees to it that all is in Redis, and hands the range over;
// the next owner resumes where the stream ends.
//
// One range, from plan to running session: the leader writes the assignment; lease.Registration.Follow brings it here (incarnation.go);
// reconcile decides to start it (reconcile.go); a rangeRun starts its shards (rangerun.go); a runner loads the session record, asks Redis
// where the stream ends, decides whether to RESUME or IDENTIFY, and runs the session (runner.go, attempt.go).
//
// One event, from socket to Redis: shard.Session reads and checks it; attempt.deliver gives it its id (attempt.go); stream.Log.Append
// takes it; stream.Writer sends it.
//
// Nothing here trusts what it once read. Every write to etcd is fenced by lease.Ownership, every entry by its id, and no session
// is begun, resumed or reconnected while the registration may have expired.
package worker
