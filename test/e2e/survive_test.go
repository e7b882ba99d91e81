package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// A worker that is killed, and its host with it as far as others can tell, is missed after its TTL; its shards are resumed by others, and no
// IDENTIFY is spent.
func TestKilledWorkerLosesNothing(t *testing.T) {
	t.Parallel()
	c := start(t, func(o *devstack.Options) { o.Env = append(o.Env, "MUSTER_STATE_DIR=/dev/null") })
	c.awaitEvents(200)
	victim := c.Workers()["worker-1"]
	c.signal(victim, syscall.SIGKILL)
	c.awaitExit(victim)
	c.await("the others to have all shards", func(v *api.Cluster) bool {
		return live(v) == shards && owned(v, "worker-2")+owned(v, "worker-3") == shards
	})
	c.awaitEvents(200)
	c.mustBeClean(shards)
}

// hour is a TTL that no test outlives.
func hour(o *devstack.Options) { o.LeaseTTL = "1h" }

// A worker that is killed while others on its host live is missed at once, long before its TTL.
func TestKilledWorkerIsMissedOnItsHost(t *testing.T) {
	t.Parallel()
	c := start(t, hour)
	c.awaitEvents(200)
	victim := c.Workers()["worker-1"]
	c.signal(victim, syscall.SIGKILL)
	c.awaitExit(victim)
	killed := time.Now()
	c.await("the others to have all shards", func(v *api.Cluster) bool {
		return live(v) == shards && owned(v, "worker-2")+owned(v, "worker-3") == shards
	})
	t.Logf("all shards live again %v after the kill", time.Since(killed).Round(time.Millisecond))
	c.awaitEvents(200)
	c.mustBeClean(shards)
}

// A worker that is killed and started again goes on at once, also where there is no other that could miss it.
func TestKilledWorkerThatIsBackGoesOn(t *testing.T) {
	t.Parallel()
	c := start(t, hour, func(o *devstack.Options) { o.Workers = 1 })
	c.awaitEvents(200)
	victim := c.Workers()["worker-1"]
	c.signal(victim, syscall.SIGKILL)
	c.awaitExit(victim)
	killed := time.Now()
	view := c.await("a view", func(*api.Cluster) bool { return true })
	before := incarnation(view, "worker-1")
	if _, err := c.RestartWorker("worker-1"); err != nil {
		t.Fatal(err)
	}
	c.await("it to have all shards again", func(v *api.Cluster) bool {
		now := incarnation(v, "worker-1")
		return now != 0 && now != before && live(v) == shards && owned(v, "worker-1") == shards
	})
	t.Logf("all shards live again %v after the kill", time.Since(killed).Round(time.Millisecond))
	c.awaitEvents(200)
	c.mustBeClean(shards)
}

// A worker that is paused keeps its lock: no other on its host may take it for dead.
func TestPausedWorkerIsNotTakenForDead(t *testing.T) {
	t.Parallel()
	c := start(t, hour)
	view := c.await("a view", func(*api.Cluster) bool { return true })
	before := incarnation(view, "worker-1")
	paused := c.Workers()["worker-1"]
	c.signal(paused, syscall.SIGSTOP)
	dead := c.Workers()["worker-2"] // which is noticed by the same look at both
	c.signal(dead, syscall.SIGKILL)
	c.awaitExit(dead)
	v := c.await("the dead one to be missed", func(v *api.Cluster) bool { return incarnation(v, "worker-2") == 0 })
	if now := incarnation(v, "worker-1"); now != before {
		t.Errorf("the paused worker was incarnation %d, and now is %d", before, now)
	}
	c.signal(paused, syscall.SIGCONT)
	c.await("the others to have all shards", func(v *api.Cluster) bool {
		return live(v) == shards && owned(v, "worker-1")+owned(v, "worker-3") == shards
	})
	c.mustBeClean(shards)
}

// A worker that is told to stop hands its shards over and exits 0, long before its TTL.
func TestTerminatedWorkerHandsOver(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.awaitEvents(200)
	leaver := c.Workers()["worker-2"]
	c.signal(leaver, syscall.SIGTERM)
	if code := c.awaitExit(leaver); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	c.await("the others to have all shards", func(v *api.Cluster) bool {
		return live(v) == shards && owned(v, "worker-1")+owned(v, "worker-3") == shards
	})
	c.awaitEvents(200)
	c.mustBeClean(shards)
}

// A worker that is paused for longer than its TTL is replaced. When it goes on it must not disturb those who have its shards now,
// and comes back as a new incarnation.
func TestPausedWorkerIsReplacedAndComesBack(t *testing.T) {
	t.Parallel()
	c := start(t, func(o *devstack.Options) { // nobody can close a paused worker's sockets
		o.Sim.Allow = []discordsim.Rule{discordsim.RuleResumeLive}
	})
	c.awaitEvents(200)
	view := c.await("a view", func(*api.Cluster) bool { return true })
	before := incarnation(view, "worker-3")
	paused := c.Workers()["worker-3"]
	c.signal(paused, syscall.SIGSTOP)
	c.await("the others to have all shards", func(v *api.Cluster) bool {
		return live(v) == shards && owned(v, "worker-1")+owned(v, "worker-2") == shards
	})
	c.awaitEvents(200)
	c.signal(paused, syscall.SIGCONT)
	c.await("the paused worker to come back and be given shards", func(v *api.Cluster) bool {
		now := incarnation(v, "worker-3")
		return now != 0 && now != before && owned(v, "worker-3") > 0 && live(v) == shards
	})
	c.awaitEvents(200)
	c.mustBeClean(shards)
}

// Without a coordinator events go on, and one that comes back moves nothing.
func TestCoordinatorIsNotNeededForEvents(t *testing.T) {
	t.Parallel()
	c := start(t)
	view, resumes := c.await("a view", func(*api.Cluster) bool { return true }), c.Sim.Stats().Resumes
	c.signal(c.Coordinator(), syscall.SIGKILL)
	c.awaitExit(c.Coordinator())
	before := c.Appended(c.ctx)
	c.poll("events to go on without a coordinator", func() bool { return c.Appended(c.ctx) > before+400 })
	if err := c.RestartCoordinator(); err != nil {
		t.Fatal(err)
	}
	after := c.await("a new leader", func(v *api.Cluster) bool { return v.Term != view.Term && live(v) == shards })
	for i, r := range after.Ranges {
		if r.Owner != view.Ranges[i].Owner {
			t.Errorf("range %d moved from %s to %s for no reason", r.Range, view.Ranges[i].Owner, r.Owner)
		}
	}
	account := c.mustBeClean(shards)
	if account.Resumes != resumes {
		t.Errorf("%d RESUMEs, though nothing happened to any worker", account.Resumes-resumes)
	}
}

// A worker that joins is given its share, by handovers.
func TestJoiningWorkerIsGivenItsShare(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.awaitEvents(200)
	if _, err := c.StartWorker(); err != nil {
		t.Fatal(err)
	}
	c.await("four shards each", func(v *api.Cluster) bool {
		for _, w := range v.Workers {
			if w.Shards != shards/4 {
				return false
			}
		}
		return len(v.Workers) == 4 && live(v) == shards
	})
	c.mustBeClean(shards)
}
