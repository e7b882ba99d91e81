package coordinator

import (
	"slices"
	"sync"
	"time"

	"github.com/muster-gateway/muster/internal/api"
)

// What a replica remembers for people who look later: ten minutes of samples, a second apart, and the last incidents. It is gone with the process.
const (
	maxSamples   = 600
	sampleEvery  = time.Second
	maxIncidents = 100
)

// sample is how the cluster was at a moment, in a few numbers.
type sample struct {
	At     int64   `json:"at"` // Unix milliseconds
	Events float64 `json:"events_per_second"`
	P50    float64 `json:"latency_p50_ms"` // of the live shards' heartbeats
	Max    float64 `json:"latency_max_ms"`
	Live   int     `json:"live"`
	Shards int     `json:"shards"`
}

// incident is something that happened, in words.
type incident struct {
	At   int64  `json:"at"` // Unix milliseconds
	Text string `json:"text"`
}

// chronicle is what has been. It is safe for concurrent use.
type chronicle struct {
	mu        sync.Mutex
	told      *api.Cluster // the view that all is told up to
	latest    *api.Cluster
	samples   []sample
	incidents []incident
}

// note takes the next view in.
func (c *chronicle) note(view *api.Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest = view
	c.tell(view.At)
}

// tell tells of what was noted, once in sampleEvery: what belongs together is then one incident instead of one for each transaction. Callers
// hold c.mu.
func (c *chronicle) tell(now time.Time) {
	if c.latest == c.told || c.told != nil && now.Sub(c.told.At) < sampleEvery {
		return
	}
	at := now.UnixMilli()
	if c.told != nil {
		for _, text := range incidents(c.told, c.latest) {
			c.incidents = append(c.incidents, incident{at, text})
		}
	}
	c.incidents = tail(c.incidents, maxIncidents)
	c.samples = tail(append(c.samples, sampleOf(c.latest, at)), maxSamples)
	c.told = c.latest
}

// tail is the last n of all, in memory that does not grow for ever.
func tail[T any](all []T, n int) []T {
	if len(all) < 2*n {
		return all
	}
	return slices.Clone(all[len(all)-n:])
}

// read is what happened until now and after the given moments, in Unix milliseconds.
func (c *chronicle) read(now time.Time, samplesAfter, incidentsAfter int64) ([]sample, []incident) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(now)
	s, _ := slices.BinarySearchFunc(c.samples, samplesAfter+1, func(s sample, at int64) int { return int(s.At - at) })
	i, _ := slices.BinarySearchFunc(c.incidents, incidentsAfter+1, func(i incident, at int64) int { return int(i.At - at) })
	return slices.Clone(c.samples[max(s, len(c.samples)-maxSamples):]), slices.Clone(c.incidents[max(i, len(c.incidents)-maxIncidents):])
}

func sampleOf(view *api.Cluster, at int64) sample {
	s := sample{At: at, Shards: view.Shards}
	for _, w := range view.Workers {
		s.Events += w.EventsPerSecond
	}
	latencies := make([]float64, 0, len(view.ShardStates))
	for _, shard := range view.ShardStates {
		if shard.State == api.StateLive {
			s.Live++
			latencies = append(latencies, shard.LatencyMS)
		}
	}
	if len(latencies) > 0 {
		slices.Sort(latencies)
		s.P50, s.Max = latencies[len(latencies)/2], latencies[len(latencies)-1]
	}
	return s
}
