package coordinator

import (
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// redisCutAfter is how long a worker may fail to write to Redis, while others can, before its ranges go to them.
//
// It is counted from when another can: see leader.sight.
const redisCutAfter = 10 * time.Second

// redisCut names the workers that are cut off from Redis while it is well: their ranges are moved away as if they drained. It is a
// pure function of what workers report and of when this leader first saw each one fail. A worker of which nothing is known takes no
// part. If nobody who could take ranges can write, Redis itself is away: then nobody is cut off, and nothing moves. again is when
// somebody will be if nothing changes before.
func redisCut(workers map[string]lease.Worker, statuses map[string]lease.Status, failing map[lease.Ref]time.Time, now time.Time) (cut map[string]bool, again time.Time) {
	if !someoneWrites(workers, statuses) {
		return nil, time.Time{}
	}
	cut = map[string]bool{}
	for id, w := range workers {
		status, known := statuses[id]
		switch {
		case !known, !status.RedisFailing:
		case now.Before(failing[w.Ref()].Add(redisCutAfter)):
			again = earliest(again, failing[w.Ref()].Add(redisCutAfter))
		default:
			cut[id] = true
		}
	}
	return cut, again
}

// someoneWrites says whether a worker that could take ranges can write to Redis.
func someoneWrites(workers map[string]lease.Worker, statuses map[string]lease.Status) bool {
	for id, w := range workers {
		if status, known := statuses[id]; known && !status.RedisFailing && !w.Draining {
			return true
		}
	}
	return false
}
