package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// register makes this process known. An id that is in use may be that of a predecessor that was killed, whose registration ends by itself
// if it cannot be ended at once; one that does not end when etcd says it will is renewed by somebody who lives. Without error and registration,
// ctx has ended.
func (w *Worker) register(ctx context.Context) (*lease.Registration, error) {
	retry := newRetry()
	var other tenant
	var told time.Time // when it was last said that registering fails
	for ctx.Err() == nil {
		w.takeLock() // before it registers: what the record says must be so as long as the process lives
		self := w.cfg.Worker
		self.Lock = string(w.lock.ID())
		reg, err := w.cfg.Store.Register(ctx, self, w.cfg.LeaseTTL)
		if err == nil {
			return reg, nil
		}
		if errors.Is(err, lease.ErrIDInUse) {
			if w.buryPredecessor(ctx) {
				continue
			}
			err = w.waitFor(ctx, &other)
		}
		switch {
		case errors.Is(err, lease.ErrIDInUse):
			return nil, fmt.Errorf("register worker %s: %w: give every worker an id of its own (MUSTER_WORKER_ID)", self.ID, err)
		case err != nil && ctx.Err() == nil:
			other.life = lease.Life{} // while etcd is away no registration ends
			if time.Since(told) > time.Minute {
				told = time.Now()
				w.log.Error("registering failed; trying again", "error", err)
			}
		}
		wait(ctx, retry.NextBackOff())
	}
	return nil, nil
}

// waitFor asks etcd for how long the registration with our id can last. It returns lease.ErrIDInUse if it lasts longer.
func (w *Worker) waitFor(ctx context.Context, other *tenant) error {
	life, err := w.cfg.Store.Life(ctx, w.cfg.Worker.ID)
	if err != nil {
		return err
	}
	if life.Incarnation != 0 && life.Incarnation != other.told {
		other.told = life.Incarnation
		w.log.Warn("a registration with this worker id exists; waiting for it to expire", "worker", w.cfg.Worker.ID, "expires-in", life.Left)
	}
	if other.overdue(life, w.timings.predecessor, time.Now()) {
		return lease.ErrIDInUse
	}
	return nil
}

// tenant is who has our id.
type tenant struct {
	life lease.Life // as it was when the wait for its end began; zero: it has not begun
	ends time.Time  // when the registration has ended, if nobody renews it
	told int64      // the incarnation that was last said to be waited for
}

// overdue takes in what etcd says, and reports whether the registration should have ended by now. With another incarnation, or
// when etcd has elected another leader, which gives every registration its whole TTL again, the wait begins anew.
func (t *tenant) overdue(life lease.Life, grace time.Duration, now time.Time) bool {
	if t.life.Incarnation == 0 || life.Incarnation != t.life.Incarnation || life.Term != t.life.Term {
		t.life, t.ends = life, now.Add(life.Left+grace)
	}
	return now.After(t.ends)
}
