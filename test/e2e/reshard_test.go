package e2e

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/lease"
)

// The number of shards changes without downtime while workers and the coordinator are killed: while the new sessions begin, when they are
// ready, and just after the flip.
func TestReshardSurvivesKills(t *testing.T) {
	t.Parallel()
	const before, after = 8, 12
	c := launch(t, func(o *devstack.Options) {
		o.Shards, o.Workers, o.LogLevel = before, 4, "debug"
		o.Sim.Shards, o.Sim.Rate = before, 200
	})
	c.await("every shard to be live", func(v *api.Cluster) bool { return live(v) == before })
	store := c.reshard(after)
	c.awaitState(store, "new sessions", func(s *lease.Cluster) bool {
		return betweenSessions(s) && inNext(s, "live")+inNext(s, lease.StateMuted) >= 2
	})
	c.kill(c.Workers()["worker-1"])
	c.kill(c.Coordinator())
	c.restartCoordinator()
	c.awaitState(store, "muted shards", func(s *lease.Cluster) bool { return betweenSessions(s) && inNext(s, lease.StateMuted) >= 4 })
	c.kill(c.Workers()["worker-2"])
	c.awaitState(store, "the flip", func(s *lease.Cluster) bool { return s.Plan.Generation == 2 })
	c.kill(c.Workers()["worker-3"])
	c.kill(c.Coordinator())
	c.restartCoordinator()
	c.await("every shard to be live on the last worker", func(v *api.Cluster) bool {
		return v.Generation == 2 && live(v) == after && owned(v, "worker-4") == after
	})
	c.awaitEvents(200)
	c.mustBeReshardedCleanly(before, after)
}

// A worker is dead, and nobody knows yet, when the number of shards changes. Its former shards are brought to their ends by others once
// it is missed, which is longer after its death than the new sessions go back: nothing is lost all the same.
func TestReshardWhileAWorkerIsDead(t *testing.T) {
	t.Parallel()
	const before, after = 5, 4 // so that each new shard has guilds of each former one
	c := launch(t, hour, func(o *devstack.Options) {
		o.Shards, o.Workers, o.LogLevel = before, 0, "debug"
		o.Sim.Shards, o.Sim.Rate = before, 200
	})
	for range 2 { // as if on hosts of their own: on one, the other would see at once that it died
		if _, err := c.StartWorker("MUSTER_STATE_DIR=" + t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	c.await("every shard to be live", func(v *api.Cluster) bool { return live(v) == before })
	store := c.reshard(after)
	c.awaitState(store, "a muted shard", func(s *lease.Cluster) bool { return inNext(s, lease.StateMuted)+inNext(s, "live") >= after })
	c.kill(c.Coordinator())
	c.awaitState(store, "muted shards", func(s *lease.Cluster) bool { return inNext(s, lease.StateMuted) == after })
	c.kill(c.Workers()["worker-1"])
	c.awaitEvents(6000) // both sets of sessions are sent 200 a second
	c.restartCoordinator()
	c.awaitState(store, "the flip", func(s *lease.Cluster) bool {
		_, known := s.Workers["worker-1"]
		if s.Plan.Generation == 2 && !known {
			t.Error("the worker's death was known before the flip")
		}
		return s.Plan.Generation == 2
	})
	if missed, err := store.Bury(c.ctx, "worker-1", func(lease.Worker) bool { return true }); err != nil || !missed {
		t.Fatalf("the worker is missed: %v, %v", missed, err)
	}
	c.await("every shard to be live on the other worker", func(v *api.Cluster) bool {
		return v.Generation == 2 && live(v) == after && owned(v, "worker-2") == after
	})
	c.awaitEvents(200)
	c.mustBeReshardedCleanly(before, after)
}

// reshard orders so many shards, and returns the store to watch it by.
func (c *cluster) reshard(shards int) *lease.Store {
	c.t.Helper()
	store, err := lease.Open(lease.Config{Endpoints: []string{c.EtcdURL}, Cluster: c.Cluster})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = store.Close() })
	if err := store.Direct(c.ctx, lease.Reshard{Shards: shards, At: time.Now()}); err != nil {
		c.t.Fatal(err)
	}
	return store
}

func (c *cluster) kill(p *devstack.Process) {
	c.t.Helper()
	c.signal(p, syscall.SIGKILL)
	c.awaitExit(p)
}

func (c *cluster) restartCoordinator() {
	c.t.Helper()
	if err := c.RestartCoordinator(); err != nil {
		c.t.Fatal(err)
	}
}

// betweenSessions reports that no session of the generation that is being prepared is about to begin: it would be lost with the worker that is
// killed then, and identify once more. The next begins when Discord's five seconds are over.
func betweenSessions(s *lease.Cluster) bool {
	begun := map[int]bool{}
	for _, status := range s.Status {
		for n, shard := range status.Next {
			begun[n] = shard.State == "live" || shard.State == lease.StateMuted
			if shard.Epoch > 0 && !begun[n] {
				return false
			}
		}
	}
	for _, slot := range s.Slots {
		granted := slot.State == lease.SlotOpen || slot.State == lease.SlotClaimed
		if granted && slot.Shard.Generation == s.Plan.Next.Generation && !begun[slot.Shard.Shard] {
			return false
		}
	}
	return true
}

// inNext counts the shards of the generation that is being prepared that are in a state.
func inNext(s *lease.Cluster, state string) (n int) {
	for _, status := range s.Status {
		for _, shard := range status.Next {
			if shard.State == state {
				n++
			}
		}
	}
	return n
}

// mustBeReshardedCleanly settles and audits: nothing is missing or marked as missing, and each shard identified once.
func (c *cluster) mustBeReshardedCleanly(before, after int) {
	c.t.Helper()
	if err := c.Settle(c.ctx); err != nil {
		c.t.Error(err)
	}
	account, err := c.AuditReshard(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("the account is %+v", account)
	if !account.Clean() || account.Gaps != 0 || account.Excused != 0 || account.Reshards != after || account.Identifies != before+after {
		c.t.Errorf("the account is %+v\nviolations: %+v", account, c.Sim.Violations())
	}
}

var errReached = errors.New("reached")

// awaitState waits until etcd has what is wanted.
func (c *cluster) awaitState(store *lease.Store, what string, wanted func(*lease.Cluster) bool) {
	c.t.Helper()
	var state lease.Cluster
	err := store.FollowCluster(c.ctx, func(u lease.Update) error {
		if errs := state.Apply(u); len(errs) > 0 {
			return errors.Join(errs...)
		}
		if wanted(&state) {
			return errReached
		}
		return nil
	})
	if !errors.Is(err, errReached) {
		c.t.Fatalf("waiting for %s: %v", what, errors.Join(err, context.Cause(c.ctx)))
	}
}
