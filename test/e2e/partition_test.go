package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/internal/etcdtest"
)

// What a worker sends to one member of etcd gets lost: it uses the others. What all members send to it gets lost: others have its
// shards after the TTL, while its own sockets are still open, and it comes back as another incarnation.
func TestWorkerInABlackHole(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.StartCluster(t)
	links, endpoints := etcd.Links(t)
	c := launch(t, onEtcd(etcd.Endpoints()), overlapping, func(o *devstack.Options) { o.Workers = 2 })
	if _, err := c.StartWorker("ETCD_ENDPOINTS=" + strings.Join(endpoints, ",")); err != nil {
		t.Fatal(err)
	}
	before := c.await("every shard to be live", func(v *api.Cluster) bool { return sharedOut(v, 3, shards/3) })
	resumes := c.Sim.Stats().Resumes // of handovers to the third, if it was late

	links[0].HoldRequests()
	held := time.Now()
	c.awaitLater(held.Add(2*leaseTTL + time.Second))
	if now := c.view(); incarnation(now, "worker-3") != incarnation(before, "worker-3") || c.Sim.Stats().Resumes != resumes {
		t.Errorf("with two members left the worker is incarnation %d after %d, and %d sessions were resumed",
			incarnation(now, "worker-3"), incarnation(before, "worker-3"), c.Sim.Stats().Resumes-resumes)
	}

	links[0].Mend()
	for _, link := range links {
		link.HoldAnswers()
	}
	c.await("the others to have all shards", func(v *api.Cluster) bool {
		return live(v) == shards && owned(v, "worker-1")+owned(v, "worker-2") == shards
	})
	c.awaitEvents(200)
	for _, link := range links {
		link.Mend()
	}
	c.await("the worker to come back and be given shards", func(v *api.Cluster) bool {
		now := incarnation(v, "worker-3")
		return now != 0 && now != incarnation(before, "worker-3") && owned(v, "worker-3") > 0 && live(v) == shards
	})
	c.mustBeClean(shards)
}

// A leader that is paused is replaced, and what it had in mind is void when it goes on. A worker with an id that is in use ends.
func TestPausedLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	c := start(t, func(o *devstack.Options) { o.Sim.MaxConcurrency = shards })
	replica, page, err := c.StartReplica()
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.StartWorker("MUSTER_WORKER_ID=worker-2")
	if err != nil {
		t.Fatal(err)
	}
	first := c.Coordinator()
	c.poll("the replica to know the leader", func() bool {
		v, err := api.Get(c.ctx, page)
		return err == nil && v.Leader != "" && live(v) == shards
	})
	before := c.view()
	c.signal(first, syscall.SIGSTOP)
	victim := c.Workers()["worker-1"]
	c.signal(victim, syscall.SIGKILL)
	c.awaitExit(victim)
	var after *api.Cluster
	c.poll("the replica to lead, and to have the dead worker's shards taken over", func() bool {
		var err error
		after, err = api.Get(c.ctx, page)
		return err == nil && after.Term > before.Term && after.Leader == after.AnsweredBy && live(after) == shards &&
			owned(after, "worker-2")+owned(after, "worker-3") == shards
	})
	c.signal(first, syscall.SIGCONT)
	c.poll("the first leader to step down", func() bool { return strings.Contains(c.log.String(), "no longer leading") })
	if code := c.awaitExit(second); code == 0 {
		t.Error("the second worker of an id ends as if all were well")
	}
	if !strings.Contains(c.log.String(), "worker id is in use by a live worker") {
		t.Error("it does not say why")
	}
	c.awaitEvents(200)
	now, err := api.Get(c.ctx, page)
	if err != nil || now.Term != after.Term {
		t.Errorf("term %d followed %d: %v", now.Term, after.Term, err)
	}
	c.mustBeClean(shards)
	replica.Stop(10 * time.Second)
}
