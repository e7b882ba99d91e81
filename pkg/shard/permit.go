package shard

import (
	"context"
	"time"
)

// Identifier gives leave to IDENTIFY. Discord allows one in 5 s for each bucket, [ID.Bucket], and a number of them a day
// for all shards of the bot together, so every session of a bot has to ask the same one, in whatever process it is.
// [NewIdentifyQueue] makes one for the sessions of a single process.
type Identifier interface {
	// Permit returns leave for the shard to IDENTIFY once, when it is its turn. It is called after HELLO, while heartbeats
	// go on, and ctx ends if the connection does; a permit that is returned nevertheless goes unused. It may be called by
	// many goroutines at once, one for each shard. An error ends [Session.Run].
	Permit(ctx context.Context, id ID) (Permit, error)
}

// Permit is leave to IDENTIFY once.
type Permit struct {
	// Deadline is when the permit runs out. IDENTIFY is written before it or not at all; then another permit is asked
	// for. The zero Time means it does not run out.
	Deadline time.Time
	// Sent, if set, is called right after IDENTIFY was written. It is not called when the permit ran out, nor when the
	// write failed: whether Discord saw the IDENTIFY is then unknown, and the giver has to count the permit as used.
	Sent func()
}
