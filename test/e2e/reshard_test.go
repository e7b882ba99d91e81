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
	store, err := lease.Open(lease.Config{Endpoints: []string{c.EtcdURL}, Cluster: c.Cluster})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := store.Direct(c.ctx, lease.Reshard{Shards: after, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	kill := func(p *devstack.Process) {
		t.Helper()
		c.signal(p, syscall.SIGKILL)
		c.awaitExit(p)
	}
	restart := func() {
		t.Helper()
		kill(c.Coordinator())
		if err := c.RestartCoordinator(); err != nil {
			t.Fatal(err)
		}
	}
	beside := func(s *lease.Cluster, state string) (n int) {
		for _, status := range s.Status {
			for _, shard := range status.Next {
				if shard.State == state {
					n++
				}
			}
		}
		return n
	}

	c.awaitState(store, "new sessions", func(s *lease.Cluster) bool { return beside(s, "live") >= 2 })
	kill(c.Workers()["worker-1"])
	restart()
	c.awaitState(store, "muted shards", func(s *lease.Cluster) bool { return beside(s, lease.StateMuted) >= 4 })
	kill(c.Workers()["worker-2"])
	c.awaitState(store, "the flip", func(s *lease.Cluster) bool { return s.Plan.Generation == 2 })
	kill(c.Workers()["worker-3"])
	restart()
	c.await("every shard to be live on the last worker", func(v *api.Cluster) bool {
		return v.Generation == 2 && live(v) == after && owned(v, "worker-4") == after
	})
	c.awaitEvents(200)
	if err := c.Settle(c.ctx); err != nil {
		t.Error(err)
	}
	account, err := c.AuditReshard(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the account is %+v", account)
	if !account.Clean() || account.Gaps != 0 || account.Excused != 0 || account.Reshards != after || account.Identifies != before+after {
		t.Errorf("the account is %+v\nviolations: %+v", account, c.Sim.Violations())
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
