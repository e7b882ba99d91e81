package coordinator

import (
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

const (
	// A worker id of which flapLimit incarnations were seen within flapWindow is in quarantine: given nothing new for flapFirst from the last
	// one, twice as long with each more, up to flapMost.
	flapLimit  = 3
	flapWindow = 10 * time.Minute
	flapFirst  = 10 * time.Second
	flapMost   = 5 * time.Minute

	// If more than massLossShare of the workers, and at least massLossLeast, end within lossWindow without having drained, something larger is
	// wrong, and they may soon be back: what they ran is repaired, but nothing is moved to even out load for massLossFreeze. The window is the
	// default TTL of workers, since all that ends at one moment expires within one TTL.
	lossWindow     = 10 * time.Second
	massLossShare  = 0.30
	massLossLeast  = 3 // or the death of one of three would count
	massLossFreeze = 2 * time.Minute

	// maxStarts is how many sessions a worker may be told to start in a second, by taking over ranges that nobody runs.
	maxStarts = 64

	// While workers have more than loadedFrom events a second on average (for each unit of capacity), one that joins is filled little by
	// little: it counts as rampFrom of its capacity, growing to all of it in rampTime. Below that, a worker takes all of its share at once without
	// noticing, and a ramp would only keep it idle.
	loadedFrom = 1000
	rampFrom   = 0.25
	rampTime   = 2 * time.Minute
	rampStep   = 10 * time.Second
)

// quarantined is until when a worker is given nothing new, by when its incarnations were first seen; zero if it is trusted.
func quarantined(seen []time.Time, now time.Time) (until time.Time) {
	n := 0
	for _, at := range seen {
		if now.Before(at.Add(flapWindow)) {
			n++
		}
	}
	if n < flapLimit {
		return time.Time{}
	}
	length := flapFirst
	for range n - flapLimit {
		length = min(2*length, flapMost)
	}
	until = seen[len(seen)-1].Add(length)
	if !now.Before(until) {
		return time.Time{}
	}
	return until
}

// massLoss reports whether so many workers were lost that the others should keep still. No re-reading of etcd is needed to be sure: every
// assignment compares, in its transaction, that the former owner is really gone.
func massLoss(lost, alive int) bool {
	return lost >= massLossLeast && float64(lost) > massLossShare*float64(lost+alive)
}

// ramp is which part of its capacity a worker counts with that joined so long ago, in a loaded cluster.
func ramp(age time.Duration) float64 {
	return min(1, rampFrom+(1-rampFrom)*float64(age)/float64(rampTime))
}

// mayStart reports whether a worker may be told to start so many sessions more in this second, and if so counts them.
func (p *planner) mayStart(l *load, sessions int) bool {
	b, busy := p.started[l.worker.Ref()]
	if busy && !p.now.Before(b.at.Add(time.Second)) {
		b, busy = burst{}, false
	}
	told := b.sessions + p.starts[l.worker.Ref()]
	if told > 0 && told+sessions > maxStarts {
		if !busy {
			b.at = p.now
		}
		p.askAgain(b.at.Add(time.Second))
		return false
	}
	if p.starts == nil {
		p.starts = map[lease.Ref]int{}
	}
	p.starts[l.worker.Ref()] += sessions
	return true
}
