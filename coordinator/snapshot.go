package coordinator

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// snapshot is what plan decides by: plain values, at one moment.
type snapshot struct {
	now      time.Time
	plans    []lease.Plan // the generation in force, and then the one that is being prepared beside it, if there is one
	former   lease.Plan   // the generation whose ranges are being brought to their ends; zero: none
	workers  map[string]lease.Worker
	ranges   map[lease.RangeID]lease.Range
	cut      map[string]bool    // workers that are cut off from Redis while others are not
	draining map[lease.Ref]bool // workers that an operator ordered to drain, beside those that say so themselves

	rebalance bool // an operator ordered the load to be evened out now

	sightings
	deeds
}

// sightings is what a replica has seen happen that etcd does not tell afterwards, by its own clock: no other machine's is compared with it.
// Those that do not lead see it as well, so that who leads next knows it: what ends a leader may be what ended a third of the workers. To one
// that just started, all workers have just joined.
type sightings struct {
	era string // what was seen in another says nothing: revisions began anew

	joined   map[lease.Ref]time.Time // when an incarnation was first seen
	intended map[int64]time.Time     // when the intent of a move was, by its revision

	incarnations map[string][]time.Time // when those of a worker id were first seen, ascending, not longer ago than flapWindow
	leaving      map[lease.Ref]bool     // workers that said they drain: their end is no loss
	lost         map[string]time.Time   // workers that ended otherwise, not longer ago than lossWindow, and are not back
	massLoss     time.Time              // when these were last too many

	rates   map[lease.RangeID]float64 // events a second, smoothed
	sampled time.Time
}

// deeds is what a leader did that etcd does not tell afterwards. It is for its term: what others did before is not known.
type deeds struct {
	started map[lease.Ref]burst // what workers were last told to start

	balanced     map[lease.RangeID]time.Time // when balance last moved a range, not longer ago than balanceCooldown
	balancing    bool                        // balance has begun and goes on until the load is even
	balanceEnded time.Time
}

// newDeeds is of a leader who just came to lead. Balance rests as if it had just ended: which ranges the former leader moved is not known.
func newDeeds(now time.Time) deeds {
	return deeds{started: map[lease.Ref]burst{}, balanced: map[lease.RangeID]time.Time{}, balanceEnded: now.Add(balanceSettle)}
}

// burst is how many sessions a worker was told to start within a second, and when the first.
type burst struct {
	at       time.Time
	sessions int
}

const (
	// rateSampled is how often the rates that workers report are taken in; rateMemory is the time constant they are smoothed with.
	rateSampled = 10 * time.Second
	rateMemory  = time.Minute
	// mostRate is the highest rate that is believed. Sums of such can be told in JSON, which knows no infinity.
	mostRate = 1e12
)

// believed is a rate that a worker reports, within reason.
func believed(rate float64) float64 { return min(max(rate, 0), mostRate) }

// snapshot is what the leader decides by now.
func (l *leader) snapshot(state *lease.Cluster, cut map[string]bool, now time.Time) snapshot {
	s := snapshot{
		now: now, plans: []lease.Plan{state.Plan}, workers: state.Workers, ranges: state.Ranges, cut: cut,
		draining: drained(state), rebalance: state.Directives.Rebalance != nil, sightings: *l.sightings, deeds: l.deeds,
	}
	if next, ok := state.Plan.Of(state.Plan.Next.Generation); ok {
		s.plans = append(s.plans, next)
	}
	s.former, _ = state.Plan.Of(state.Plan.Former.Generation)
	return s
}

// observe takes in what is new in the state.
func (s *sightings) observe(state *lease.Cluster, now time.Time) {
	if s.era != state.Era {
		*s = sightings{era: state.Era}
	}
	s.observeWorkers(state.Workers, now)
	intended := map[int64]time.Time{}
	for _, r := range state.Ranges {
		if r.Move != nil {
			intended[r.Move.Revision] = firstSeen(s.intended, r.Move.Revision, now)
		}
	}
	s.intended = intended
	if !now.Before(s.sampled.Add(rateSampled)) {
		s.sample(state, now)
	}
}

func (s *sightings) observeWorkers(workers map[string]lease.Worker, now time.Time) {
	if s.incarnations == nil {
		s.incarnations, s.lost = map[string][]time.Time{}, map[string]time.Time{}
	}
	joined, leaving := make(map[lease.Ref]time.Time, len(workers)), map[lease.Ref]bool{}
	for id, w := range workers {
		if _, known := s.joined[w.Ref()]; !known {
			s.incarnations[id] = append(s.incarnations[id], now)
		}
		joined[w.Ref()] = firstSeen(s.joined, w.Ref(), now)
		if w.Draining {
			leaving[w.Ref()] = true
		}
		delete(s.lost, id)
	}
	for w := range s.joined {
		if _, here := workers[w.Worker]; !here && !s.leaving[w] {
			s.lost[w.Worker] = now
		}
	}
	s.joined, s.leaving = joined, leaving
	forget(s.lost, func(at time.Time) bool { return now.Before(at.Add(lossWindow)) })
	if massLoss(len(s.lost), len(workers)) {
		s.massLoss = now
	}
	for id, seen := range s.incarnations {
		seen = slices.DeleteFunc(seen, func(at time.Time) bool { return !now.Before(at.Add(flapWindow)) })
		if s.incarnations[id] = seen; len(seen) == 0 {
			delete(s.incarnations, id)
		}
	}
}

// sample smooths the rates that the ranges' owners report. A range of which nothing is reported, because it is changing hands or not all of its
// shards are live, keeps the rate it had.
func (s *sightings) sample(state *lease.Cluster, now time.Time) {
	weight := 1 - math.Exp(-now.Sub(s.sampled).Seconds()/rateMemory.Seconds())
	rates := make(map[lease.RangeID]float64, len(state.Ranges))
	for id, r := range state.Ranges {
		before, known := s.rates[id]
		measured, reported := state.Status[r.Owner.Worker].Loads[id]
		measured = believed(measured)
		if w, alive := state.Workers[r.Owner.Worker]; !alive || w.Ref() != r.Owner {
			reported = false
		}
		switch {
		case reported && known:
			rates[id] = before + weight*(measured-before)
		case reported:
			rates[id] = measured
		case known:
			rates[id] = before
		}
	}
	s.rates, s.sampled = rates, now
}

// note remembers what was decided, and done, for the next decision.
func (s *deeds) note(d decision, now time.Time) {
	forget(s.started, func(b burst) bool { return now.Before(b.at.Add(time.Second)) })
	forget(s.balanced, func(at time.Time) bool { return now.Before(at.Add(balanceCooldown)) })
	for w, sessions := range d.starts {
		b, known := s.started[w]
		if !known {
			b = burst{at: now}
		}
		b.sessions += sessions
		s.started[w] = b
	}
	for _, id := range d.moved {
		s.balanced[id] = now
	}
	if (s.balancing || d.searched) && !d.balancing {
		s.balanceEnded = now
	}
	s.balancing = d.balancing
}

func forget[K comparable, V any](of map[K]V, keep func(V) bool) {
	maps.DeleteFunc(of, func(_ K, v V) bool { return !keep(v) })
}

func firstSeen[K comparable](before map[K]time.Time, key K, now time.Time) time.Time {
	if at, ok := before[key]; ok {
		return at
	}
	return now
}
