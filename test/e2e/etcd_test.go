package e2e

import (
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// onEtcd is for a cluster with an etcd of the test's, whose shards all may identify at once.
func onEtcd(endpoints []string) func(*devstack.Options) {
	return func(o *devstack.Options) {
		o.EtcdURL = strings.Join(endpoints, ",")
		o.Sim.MaxConcurrency = shards
	}
}

// overlapping allows what happens where nobody can close a socket whose session moves.
func overlapping(o *devstack.Options) { o.Sim.Allow = []discordsim.Rule{discordsim.RuleResumeLive} }

// view is the cluster as a coordinator sees it now.
func (c *cluster) view() *api.Cluster {
	c.t.Helper()
	return c.await("a view", func(*api.Cluster) bool { return true })
}

func owners(v *api.Cluster) map[int]string {
	owners := map[int]string{}
	for _, r := range v.Ranges {
		owners[r.Range] = r.Owner
	}
	return owners
}

func incarnations(v *api.Cluster) map[string]int64 {
	all := map[string]int64{}
	for _, w := range v.Workers {
		all[w.ID] = w.Incarnation
	}
	return all
}

// attached reports whether a shard's newest session has a socket.
func (c *cluster) attached(shard int) (attached bool) {
	for _, s := range c.Sim.Sessions() {
		if s.Shard == shard {
			attached = s.Attached
		}
	}
	return attached
}

// awaitLater waits until a moment, in the midst of traffic: nothing but time has to pass.
func (c *cluster) awaitLater(moment time.Time) {
	c.t.Helper()
	c.poll("time to pass", func() bool { return time.Now().After(moment) })
	c.awaitEvents(200)
}

// Without a quorum sockets live on, and nothing is opened. When it returns nothing has moved. A slow etcd then serves as well.
func TestEtcdLosesItsQuorum(t *testing.T) {
	t.Parallel()
	const ttl = 10 * time.Second // a client may need some seconds to find an etcd that is back
	etcd := etcdtest.StartCluster(t)
	c := start(t, onEtcd(etcd.Endpoints()), func(o *devstack.Options) { o.LeaseTTL = ttl.String() })
	c.awaitEvents(200)
	before, resumes := c.view(), c.Sim.Stats().Resumes

	etcd.Stop(0, 1)
	lost := time.Now()
	c.awaitLater(lost.Add(ttl + 2*time.Second))
	c.Sim.Drop(3)
	dropped := time.Now()
	c.awaitLater(dropped.Add(5 * time.Second)) // longer than it backs off
	if stats := c.Sim.Stats(); stats.Resumes != resumes || c.attached(3) || stats.Sockets != shards-1 {
		t.Errorf("without etcd %d sessions were resumed, %d sockets are open, shard 3 has one: %v", stats.Resumes-resumes, stats.Sockets, c.attached(3))
	}
	if err := etcd.Restart(0, 1); err != nil {
		t.Fatal(err)
	}
	c.poll("shard 3 to have a socket again", func() bool { return c.attached(3) })
	after := c.await("every shard to be live", func(v *api.Cluster) bool { return live(v) == shards && v.Revision > before.Revision })
	if !maps.Equal(owners(before), owners(after)) || !maps.Equal(incarnations(before), incarnations(after)) {
		t.Errorf("owners %v became %v, incarnations %v became %v", owners(before), owners(after), incarnations(before), incarnations(after))
	}
	if n := c.Sim.Stats().Resumes - resumes; n != 1 {
		t.Errorf("%d sessions were resumed, want the one that was dropped", n)
	}

	etcd.Delay(100 * time.Millisecond)
	if _, err := c.StartWorker(); err != nil {
		t.Fatal(err)
	}
	c.await("the fourth to have a share", func(v *api.Cluster) bool { return sharedOut(v, 4, 1) })
	c.mustBeClean(shards)
}

// An etcd without space takes no writes, so nothing moves, but events go on. Once a person has made room, everything does.
func TestEtcdHasNoSpace(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, func(config *embed.Config) { config.QuotaBackendBytes = 16 << 20 })
	client, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	c := start(t, onEtcd(etcd.Endpoints()))
	for n := 0; err == nil; n++ {
		if n > 100 {
			t.Fatal("etcd takes any amount")
		}
		_, err = client.Put(c.ctx, "filler", strings.Repeat("x", 1<<20))
	}
	if !strings.Contains(err.Error(), "database space exceeded") {
		t.Fatal(err)
	}
	resumes := c.Sim.Stats().Resumes
	victim := c.Workers()["worker-1"]
	c.signal(victim, syscall.SIGKILL)
	c.awaitExit(victim)
	c.poll("the leader to say what is wrong", func() bool { return strings.Contains(c.log.String(), "database space exceeded") })
	before := c.Appended(c.ctx)
	c.poll("events to go on", func() bool { return c.Appended(c.ctx) > before+400 })
	if n := c.Sim.Stats().Resumes - resumes; n != 0 {
		t.Errorf("%d sessions were resumed", n)
	}

	head, err := client.Get(c.ctx, "filler", clientv3.WithCountOnly())
	if err == nil {
		_, err = client.Compact(c.ctx, head.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = client.Defragment(c.ctx, etcd.Endpoints()[0])
	}
	if err == nil {
		_, err = client.AlarmDisarm(c.ctx, &clientv3.AlarmMember{})
	}
	if err != nil {
		t.Fatal(err)
	}
	c.await("the others to have all shards", func(v *api.Cluster) bool {
		return live(v) == shards && owned(v, "worker-2")+owned(v, "worker-3") == shards
	})
	c.mustBeClean(shards)
}

// An etcd that is restored from a backup knows other owners, and a session that is no more. Everybody starts over, by RESUME where the
// record is of the session that the stream ends with. The other shard identifies, with an epoch that is above its stream's. Until all
// have noticed, owners of before and of now may both have a socket.
func TestEtcdIsRestored(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]etcdtest.RestoreOptions{"without a thought": {}, "as docs/operations.md says": runbook(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRestore(t, options)
		})
	}
}

// runbook is how docs/operations.md says that etcd is to be restored.
func runbook(t *testing.T) etcdtest.RestoreOptions {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`etcdutl snapshot restore \S+ --bump-revision (\d+) --mark-compacted \\\n +--initial-cluster-token (\S+) `).FindStringSubmatch(string(page))
	if found == nil {
		t.Fatal("docs/operations.md does not say how to restore etcd")
	}
	bump, err := strconv.ParseUint(found[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return etcdtest.RestoreOptions{Bump: bump, Token: found[2]}
}

func testRestore(t *testing.T, options etcdtest.RestoreOptions) {
	etcd := etcdtest.Start(t)
	c := start(t, onEtcd(etcd.Endpoints()), overlapping)
	backup := etcd.Backup(t)
	first := c.view()
	if _, err := c.StartWorker(); err != nil {
		t.Fatal(err)
	}
	c.await("the fourth to have a share", func(v *api.Cluster) bool { return sharedOut(v, 4, 1) })
	c.Sim.Invalidate(5, false)
	c.await("shard 5 to have a second session", func(v *api.Cluster) bool {
		return live(v) == shards && c.Sim.Stats().Identifies == shards+1 && v.ShardStates[5].Epoch == 2
	})
	etcd.Stop()
	lost := time.Now()
	c.awaitLater(lost.Add(10 * time.Second)) // as the page says
	etcd.Restore(t, backup, options)
	c.await("four new incarnations with all shards", func(v *api.Cluster) bool {
		renewed := 0
		for id, number := range incarnations(v) {
			if number != incarnations(first)[id] {
				renewed++
			}
		}
		return renewed == 4 && live(v) == shards && v.ShardStates[5].Epoch == 3
	})
	if !strings.Contains(c.log.String(), "etcd was restored from a backup") {
		t.Error("nobody says so")
	}
	if strings.Contains(c.log.String(), "waiting for it to expire") {
		t.Error("a worker has left its registration of before in its own way")
	}
	c.awaitEvents(200)
	if err := c.Settle(c.ctx); err != nil {
		t.Error(err)
	}
	account, err := c.Audit(c.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !account.Clean() || account.Identifies != shards+2 || account.Gaps != 2 {
		t.Errorf("account with %d IDENTIFYs and 2 gaps wanted: %+v\nviolations: %+v", shards+2, account, c.Sim.Violations())
	}
	t.Logf("%d events, %d RESUMEs", account.Sent, account.Resumes)
}
