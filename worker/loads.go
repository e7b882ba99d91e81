package worker

import (
	"math"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

// loadWindow is how long events are counted to learn the rates of ranges.
const loadWindow = 10 * time.Second

// loads measures how many events a second each range has, for the planner. A range is left out while not all of its shards have been live for a
// whole window: what it has then says nothing of what it will have.
type loads struct {
	from      time.Time
	seen      map[*runner]tally // at from
	perSecond map[lease.RangeID]float64
}

// tally is what a shard was given so far.
type tally struct {
	events uint64
	live   bool
}

// at is what was measured last. It is measured anew when a window has passed.
func (l *loads) at(now time.Time, b *board) map[lease.RangeID]float64 {
	if now.Sub(l.from) >= loadWindow {
		l.measure(now, b.tallies())
	}
	return l.perSecond
}

// measure ends a window and begins the next.
func (l *loads) measure(now time.Time, tallies map[*runner]tally) {
	elapsed := now.Sub(l.from).Seconds()
	counted, partial := map[lease.RangeID]uint64{}, map[lease.RangeID]bool{}
	for r, is := range tallies {
		was, known := l.seen[r]
		if !known || !was.live || !is.live {
			partial[r.own.Range] = true
		}
		counted[r.own.Range] += is.events - was.events
	}
	perSecond := make(map[lease.RangeID]float64, len(counted))
	for id, events := range counted {
		if !partial[id] {
			perSecond[id] = twoDigits(float64(events) / elapsed)
		}
	}
	l.from, l.seen, l.perSecond = now, tallies, perSecond
}

func (b *board) tallies() map[*runner]tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[*runner]tally, len(b.runners))
	for r := range b.runners {
		all[r] = tally{events: r.board.events.Load(), live: r.sessionStatus().State == shard.StateLive}
	}
	return all
}

// twoDigits rounds to two significant digits, so that a report stays short.
func twoDigits(x float64) float64 {
	if x < 0.1 {
		return math.Round(10*x) / 10
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-1)
	if unit < 1 {
		return math.Round(x*math.Round(1/unit)) / math.Round(1/unit) // or it would be written with a dozen digits
	}
	return math.Round(x/unit) * unit
}
