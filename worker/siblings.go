package worker

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/hostlock"
	"github.com/muster-gateway/muster/pkg/lease"
)

// siblingsEvery is how often a worker looks whether others on its host have died. A look costs a few system calls for each of them.
const siblingsEvery = 500 * time.Millisecond

// lockDir is where the workers of this cluster on this host have their locks; empty if they have none.
func (w *Worker) lockDir() string {
	if w.cfg.StateDir == "" {
		return ""
	}
	return filepath.Join(w.cfg.StateDir, w.cfg.Cluster)
}

// takeLock takes the lock that says that this process lives, if it does not have it yet. Without one it works as well, but when it dies
// that is noticed only when its registration expires.
func (w *Worker) takeLock() {
	if w.lock != nil || w.lockDir() == "" {
		return
	}
	lock, err := hostlock.Take(w.lockDir(), w.cfg.Worker.ID)
	if err == nil {
		w.lock = lock
		return
	}
	level := hclog.Info
	if errors.Is(err, hostlock.ErrHeld) {
		level = hclog.Warn
	}
	if trouble := err.Error(); trouble != w.lockTrouble {
		w.lockTrouble = trouble
		w.log.Log(level, "no lock that tells others on this host that this process lives: should it die they will know only after the TTL",
			"directory", w.lockDir(), "error", err)
	}
}

// buryPredecessor ends the registration that has our id, if it is that of a process which held the lock that we hold, and so is dead.
func (w *Worker) buryPredecessor(ctx context.Context) (buried bool) {
	if w.lock == nil {
		return false
	}
	buried, err := w.cfg.Store.Bury(ctx, w.cfg.Worker.ID, func(other lease.Worker) bool { return other.Lock == string(w.lock.ID()) })
	if err != nil {
		w.log.Debug("former registration not ended; it is left to expire", "error", err)
	}
	if buried {
		w.log.Info("the process that had this worker id is dead; its registration was ended")
	}
	return buried
}

// watchSiblings ends the registrations of workers on this host whose processes have died, while life lasts, so that their ranges are
// taken over at once.
func (w *Worker) watchSiblings(life context.Context) error {
	if w.lock == nil {
		return nil // without a lock of our own that directory, or its file system, is not for locks
	}
	settled := map[string]hostlock.State{} // those that were found free, and to be nobody's any more
	for {
		wait(life, siblingsEvery)
		if life.Err() != nil {
			return nil
		}
		names, err := hostlock.Names(w.lockDir())
		if err != nil {
			w.log.Debug("others on this host cannot be looked at", "error", err)
		}
		for _, name := range names {
			state, err := hostlock.Look(w.lockDir(), name)
			if err != nil || state.Held || settled[name] == state {
				continue // it lives, or left in order, or was seen to
			}
			if w.burySibling(life, name) {
				settled[name] = state
			}
		}
	}
}

// burySibling ends the registration of a worker whose lock was seen to be free, if it is that of a process which held that lock. It
// reports whether that is settled. The lock is looked at once more, after the record was read: one that was free before may since have been
// taken by the process that the record speaks of.
func (w *Worker) burySibling(life context.Context, name string) (settled bool) {
	buried, err := w.cfg.Store.Bury(life, name, func(other lease.Worker) bool {
		state, err := hostlock.Look(w.lockDir(), name)
		return err == nil && !state.Held && other.Lock == string(state.ID)
	})
	if buried {
		w.log.Info("a worker on this host is dead; its registration was ended", "dead", name)
	}
	if err != nil {
		w.log.Debug("registration of a dead worker not ended; it is left to expire", "dead", name, "error", err)
	}
	return err == nil
}
