package stream

import (
	"sync/atomic"
	"time"
)

// Stats counts what a Writer has done since it was made.
type Stats struct {
	Entries   uint64        // entries appended
	Bytes     uint64        // their size, ids and types included
	Batches   uint64        // script calls that appended them
	Refused   uint64        // batches that failed their Log
	Rewinds   uint64        // times Redis had lost entries of a stream, and they were appended again
	Retries   uint64        // batches whose outcome was not known, so that they were sent again
	Rounds    uint64        // pipelines sent
	RoundTime time.Duration // their time from sending to the last reply, together
	Buffered  int64         // bytes held now, as Options.MaxBytes counts them

	// FailingSince is when Redis stopped taking entries, zero while it takes
	// them, and Failing the error it began with.
	FailingSince time.Time
	Failing      error
}

// Stats returns the counts of now. They are read one after another, so they may
// be a moment apart.
func (w *Writer) Stats() Stats {
	c := &w.stats
	s := Stats{
		Entries:   c.entries.Load(),
		Bytes:     c.bytes.Load(),
		Batches:   c.batches.Load(),
		Refused:   c.refused.Load(),
		Rewinds:   c.rewinds.Load(),
		Retries:   c.retries.Load(),
		Rounds:    c.rounds.Load(),
		RoundTime: time.Duration(c.roundTime.Load()),
		Buffered:  c.buffered.Load(),
	}
	if t := c.failing.Load(); t != nil {
		s.FailingSince, s.Failing = t.since, t.err
	}
	return s
}

type counters struct {
	entries, bytes, batches, refused, rewinds, retries, rounds atomic.Uint64
	roundTime, buffered                                        atomic.Int64
	failing                                                    atomic.Pointer[trouble]
}

type trouble struct {
	since time.Time
	err   error
}

func (c *counters) appended(b *batch) {
	c.entries.Add(uint64(b.entries()))
	c.bytes.Add(uint64(len(b.buf)))
	c.batches.Add(1)
}

func (c *counters) round(d time.Duration) {
	c.rounds.Add(1)
	c.roundTime.Add(int64(d))
}

// failingFor is how long Redis has not taken entries, 0 while it does.
func (c *counters) failingFor() time.Duration {
	if t := c.failing.Load(); t != nil {
		return time.Since(t.since)
	}
	return 0
}
