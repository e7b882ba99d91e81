package clustertest

import (
	"errors"
	"strings"
	"sync"

	"github.com/muster-gateway/muster/pkg/lease"
)

// ledger counts how often ranges change hands.
type ledger struct {
	lenient bool // passes over what cannot be read

	mu     sync.Mutex
	state  lease.Cluster
	owners map[lease.RangeID]lease.Ref // the last that was somebody
	moves  int
}

func (l *ledger) apply(u lease.Update) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errs := l.state.Apply(u); errs != nil && !l.lenient {
		return errors.Join(errs...)
	}
	for _, put := range u.Puts {
		if !strings.HasPrefix(put.Key, "own/") {
			continue
		}
		for id, r := range l.state.Ranges {
			if r.Fence != put.Modified || r.Owner == (lease.Ref{}) {
				continue
			}
			if before, had := l.owners[id]; had && before != r.Owner {
				l.moves++
			}
			l.owners[id] = r.Owner
		}
	}
	return nil
}

// Moves is how many times a range got another owner after having had one, as far as the coordinator that was started last knows, or later.
func (c *Cluster) Moves() (n int) {
	c.tb.Helper()
	known := c.View().Revision // which the ledger may be about to hear of
	c.Await("the ledger to be up to date", func() bool {
		c.ledger.mu.Lock()
		defer c.ledger.mu.Unlock()
		n = c.ledger.moves
		return c.ledger.state.Revision >= known
	})
	return n
}
