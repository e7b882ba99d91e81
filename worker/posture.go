package worker

import (
	"context"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
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
	case down != nil, in.halted.Load(), in.doubted:
		return halted
	default:
		return serving
	}
}

// watchTrust tells the loop when the registration stops being trusted, and when it is again, while life lasts.
func (in *incarnation) watchTrust(life context.Context) error {
	tell := func(doubted bool) {
		select {
		case in.doubts <- doubted:
		case <-life.Done():
		}
	}
	for {
		if in.reg.AwaitDistrust(life) != nil {
			return nil // only life ends the wait
		}
		in.log.Warn("registration is not trusted any more: all sockets are closed until it is again")
		tell(true)
		if in.reg.AwaitTrust(life) != nil {
			return nil
		}
		in.log.Warn("registration is trusted again")
		tell(false)
	}
}

// rest are the shards that are held and do not run, as reports have them.
func (in *incarnation) rest(p posture) map[int]lease.ShardStatus {
	if p != halted && p != ending {
		return nil
	}
	state := string(shard.StateWaiting)
	switch {
	case in.orders.Down != nil:
		state = lease.StateDown
	case in.halted.Load():
		state = lease.StateHalted
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
		for _, index := range in.orders.Plan.ShardsOf(id) {
			shards[index] = lease.ShardStatus{Generation: id.Generation, State: state}
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
