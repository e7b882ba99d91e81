package worker

import (
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// posture is what the worker as a whole is about.
type posture int

const (
	serving posture = iota // run what is assigned
	halted                 // run nothing, but keep what is owned
	ending                 // the same, and end the sessions
	leaving                // there is no time to hand over: release everything
)

// posture is what the worker is about, if it is not leaving.
func (in *incarnation) posture() posture {
	switch down := in.orders.Down; {
	case down != nil && down.EndSessions:
		return ending
	case down != nil, in.halted.Load():
		return halted
	default:
		return serving
	}
}

// rest are the shards that are held and do not run, as reports have them.
func (in *incarnation) rest(p posture) map[int]lease.ShardStatus {
	if p != halted && p != ending {
		return nil
	}
	state := lease.StateHalted
	if in.orders.Down != nil {
		state = lease.StateDown
	}
	shards := map[int]lease.ShardStatus{}
	for id, a := range in.current() {
		var stage stage
		if r := in.ranges[id]; r != nil {
			stage = r.stage
		}
		if rests := p == halted && !stage.active() || p == ending && stage == ended; !rests || a.HandOver {
			continue
		}
		for _, shard := range in.orders.Plan.ShardsOf(id) {
			shards[shard] = lease.ShardStatus{Generation: id.Generation, State: state}
		}
	}
	return shards
}

const (
	// wakesPerSecond is how many shards of the whole cluster connect in a second when all of them may again.
	wakesPerSecond = 2000
	// maxWakeSpread is how long none waits more for its turn: Discord keeps a session without a socket for minutes only.
	maxWakeSpread = time.Minute
)

// wakeSpread is the time over which the shards of a cluster connect when all of them may again. Each picks its moment by chance, so no
// worker has to know of the others.
func wakeSpread(shards int) time.Duration {
	return min(time.Duration(shards)*time.Second/wakesPerSecond, maxWakeSpread)
}
