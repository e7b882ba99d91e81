package coordinator

import (
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

const (
	// redisCutAfter is how long a worker may fail to write to Redis, while others can, before its ranges go to them.
	redisCutAfter = 10 * time.Second
	// redisWellAfter is how long a worker that lost its ranges for that must have written without a failure before it is given any again. One
	// whose connection comes and goes would have them moved to and fro.
	redisWellAfter = time.Minute
)

// redisWay is what the leader has seen of a worker's way to Redis, by its own clock. Zero: nothing is wrong with it.
type redisWay struct {
	failing time.Time // since when it fails while another worker's does not; zero: it does not fail
	cut     bool      // it did for redisCutAfter, and has not been well for redisWellAfter since
	well    time.Time // if cut: since when it does not fail; zero: it fails
}

// seeRedisWays takes in what the workers report. It is a pure function of that, of what was seen before, and of the time. While nobody can
// write nobody is cut off: when Redis comes back, the first to notice does not make the others so. They are given their time from when we see
// that, which may be long after we looked last.
func seeRedisWays(before map[lease.Ref]redisWay, state *lease.Cluster, now time.Time) map[lease.Ref]redisWay {
	ways := map[lease.Ref]redisWay{}
	away := !someoneWrites(state, nil)
	for id, w := range state.Workers {
		way := before[w.Ref()].next(state.Status[id].RedisFailing, away, now)
		if way != (redisWay{}) {
			ways[w.Ref()] = way
		}
	}
	return ways
}

func (r redisWay) next(fails, away bool, now time.Time) redisWay {
	switch {
	case fails && away:
		return redisWay{cut: r.cut}
	case fails && r.failing.IsZero():
		return redisWay{failing: now, cut: r.cut}
	case fails:
		return redisWay{failing: r.failing, cut: r.cut || !now.Before(r.failing.Add(redisCutAfter))}
	case r.cut && r.well.IsZero():
		return redisWay{cut: true, well: now}
	case r.cut && now.Before(r.well.Add(redisWellAfter)):
		return r
	default:
		return redisWay{}
	}
}

// redisCut names the workers that are cut off from Redis while it is well, or were until lately: their ranges are moved away as if they
// drained. It is a pure function. If nobody who could take ranges can write, Redis itself is away: then nobody is cut off, and nothing
// moves. Who can write again is trusted at once if there is nobody else. again is when somebody will be cut off, or no more, if
// nothing changes before.
func redisCut(state *lease.Cluster, ways map[lease.Ref]redisWay) (cut map[string]bool, again time.Time) {
	if !someoneWrites(state, nil) {
		return nil, time.Time{}
	}
	cut = map[string]bool{}
	spare := someoneWrites(state, ways)
	for id, w := range state.Workers {
		way := ways[w.Ref()]
		switch {
		case !way.cut && !way.failing.IsZero():
			again = earliest(again, way.failing.Add(redisCutAfter))
		case way.cut && way.well.IsZero():
			cut[id] = true
		case way.cut && spare:
			cut[id] = true
			again = earliest(again, way.well.Add(redisWellAfter))
		}
	}
	return cut, again
}

// someoneWrites says whether a worker that could take ranges can write to Redis, and is none of those that were cut off. One of which nothing
// is known takes no part.
func someoneWrites(state *lease.Cluster, ways map[lease.Ref]redisWay) bool {
	for id, w := range state.Workers {
		status, known := state.Status[id]
		if known && !status.RedisFailing && !w.Draining && !toDrain(state, w) && !ways[w.Ref()].cut {
			return true
		}
	}
	return false
}
