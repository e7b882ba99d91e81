package shard

import (
	"sync"
	"time"
)

// State is what a session is doing.
type State string

// The states of a session.
const (
	StateStopped     State = "stopped"     // Run is not running
	StateWaiting     State = "waiting"     // for the gate, or backing off
	StateConnecting  State = "connecting"  // dialling, and waiting for HELLO
	StateAsking      State = "asking"      // connected, waiting for leave to speak: the gate, or an identify permit
	StateIdentifying State = "identifying" // IDENTIFY sent
	StateResuming    State = "resuming"    // RESUME sent, missed events coming in
	StateLive        State = "live"        // events come as they happen
	StateFailed      State = "failed"      // Run has returned an error
)

// States are all of them.
var States = []State{StateStopped, StateWaiting, StateConnecting, StateAsking, StateIdentifying, StateResuming, StateLive, StateFailed}

// Status is a session as seen from outside, at one moment. Counts are since New.
type Status struct {
	State State
	Since time.Time // of the state
	Seq   int64     // of the last event delivered in the session; 0 without one

	Latency        time.Duration // the last heartbeat's way to Discord and back, with our own delay in reading
	LatencyAverage time.Duration // the same, smoothed over about the last eight
	LastAck        time.Time     // when a heartbeat was last answered

	Commands int // commands sent
	Queued   int // commands that wait now

	Connects   int // sockets opened
	Identifies int // IDENTIFYs sent
	Resumes    int // RESUMED seen
	Lost       int // sessions lost, so that only an IDENTIFY could follow

	LastClose     int    // the code Discord last closed with, 0 without one
	LastCloseText string // its meaning
	LastEnd       string // why the last connection ended, in a few words
}

// board is the status as it is kept: written by Run's goroutine, read by any.
type board struct {
	mu     sync.Mutex
	status Status
}

func (b *board) update(change func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.status)
}

func (b *board) get() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// latencyWeight is how much of the average a new measurement makes up: one part in so many.
const latencyWeight = 8

func (s *Status) acked(took time.Duration, now time.Time) {
	s.Latency = took
	s.LastAck = now
	if s.LatencyAverage == 0 {
		s.LatencyAverage = took
	}
	s.LatencyAverage += (took - s.LatencyAverage) / latencyWeight
}
