//go:build unix

package bench

import (
	"fmt"
	"time"

	"github.com/muster-gateway/muster/pkg/stream"
)

const (
	// cluster is the name that all keys begin with, whoever writes them.
	cluster = "bench"
	// maxLen is about how many entries a stream keeps.
	maxLen = 10_000
)

func key(shard int) string { return stream.EventsKey(cluster, shard) }

// spec says what one run is.
type spec struct {
	Run       int // its number, by which the gateway tells one from another
	Client    string
	Shards    int
	Transport string
	Events    int // of each shard
	Rate      int // events a second of each shard; 0: as fast as the client takes them
	Gateway   string
	Redis     string // host:port
	Profile   string // file for a CPU profile; "": none
}

func (s spec) String() string {
	return fmt.Sprintf("%s, %s, %s", s.Client, count(s.Shards, "shard"), s.Transport)
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// entries is how many there are in Redis in the end: the events and READY, of each shard.
func (s spec) entries() int { return s.Shards * (s.Events + 1) }

// url is where a client connects for this run.
func (s spec) url() string {
	return fmt.Sprintf("ws://%s/%d/%d/%d/%d", s.Gateway, s.Run, s.Shards, s.Events, s.Rate)
}

// result is what a run took, from the first event after all the READYs until the last entry was in Redis.
type result struct {
	Elapsed  time.Duration
	CPU      time.Duration // of the client, user and system
	RedisCPU time.Duration
	Mallocs  uint64 // of the client
	Events   int
}

func (r result) rate() float64     { return float64(r.Events) / r.Elapsed.Seconds() }
func (r result) cpu() float64      { return micros(r.CPU) / float64(r.Events) }
func (r result) redisCPU() float64 { return micros(r.RedisCPU) / float64(r.Events) }
func (r result) mallocs() float64  { return float64(r.Mallocs) / float64(r.Events) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
