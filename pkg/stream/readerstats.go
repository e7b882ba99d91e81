package stream

import "sync/atomic"

// ReaderStats counts what a Reader has done since it was made.
type ReaderStats struct {
	Entries   uint64 // messages that a handler took
	Malformed uint64 // entries that were skipped because they could not be read
	Losses    uint64 // how often entries were trimmed before they were read, see Loss

	// With a group:

	Failures  uint64 // errors of handlers
	Taken     uint64 // entries that were delivered before, to this member or another, and not acknowledged
	Dead      uint64 // entries moved to the dead letters
	Shards    int    // shards this member reads now
	DeadDepth int64  // dead letters there are now of these shards; a moment old
}

// Stats returns the counts of now.
func (r *Reader) Stats() ReaderStats {
	c := &r.counts
	s := ReaderStats{
		Entries:   c.entries.Load(),
		Malformed: c.malformed.Load(),
		Losses:    c.lost.Load(),
		Failures:  c.failures.Load(),
		Taken:     c.taken.Load(),
		Dead:      c.dead.Load(),
	}
	if g := c.group.Load(); g != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		s.Shards = len(g.tenures)
		for _, t := range g.tenures {
			s.DeadDepth += t.depth
		}
	}
	return s
}

type readerCounts struct {
	entries, malformed, lost, failures, taken, dead atomic.Uint64
	group                                           atomic.Pointer[group] // the one that runs, or ran last
}
