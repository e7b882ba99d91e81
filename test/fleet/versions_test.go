package fleet

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/clustertest"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
)

// news is what a later version has in every record beside what this one knows.
const news = `"later":{"is":["known",1],"not":9007199254740993}`

// laterKV is etcd as a later version writes to it.
type laterKV struct{ clientv3.KV }

func (kv laterKV) Txn(ctx context.Context) clientv3.Txn { return laterTxn{kv.KV.Txn(ctx)} }

type laterTxn struct{ clientv3.Txn }

func (t laterTxn) If(cmps ...clientv3.Cmp) clientv3.Txn { return laterTxn{t.Txn.If(cmps...)} }
func (t laterTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	return laterTxn{t.Txn.Then(withNews(ops)...)}
}
func (t laterTxn) Else(ops ...clientv3.Op) clientv3.Txn {
	return laterTxn{t.Txn.Else(withNews(ops)...)}
}

func withNews(ops []clientv3.Op) (all []clientv3.Op) {
	for _, op := range ops {
		if op.IsTxn() {
			cmps, then, otherwise := op.Txn()
			op = clientv3.OpTxn(cmps, withNews(then), withNews(otherwise))
		}
		if record := string(op.ValueBytes()); op.IsPut() && strings.HasPrefix(record, "{") && !strings.Contains(record, news) {
			inside := strings.TrimSuffix(strings.TrimPrefix(record, "{"), "}")
			if inside != "" {
				inside += ","
			}
			op.WithValueBytes([]byte("{" + inside + news + "}"))
		}
		all = append(all, op)
	}
	return all
}

// versions is a cluster with members of this version and of a later one.
type versions struct {
	*clustertest.Cluster
	t      *testing.T
	client *clientv3.Client
}

// later is the way to etcd of a member of a later version.
func (v *versions) later() *lease.Store {
	v.t.Helper()
	client := v.connect()
	client.KV = laterKV{client.KV}
	began := time.Now()
	return lease.NewStore(client, clustertest.Name, func() time.Duration { return time.Since(began) }, nil)
}

func (v *versions) connect() *clientv3.Client {
	v.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: v.Etcd.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { client.Close() })
	return client
}

// record is what etcd has below a key of the cluster, and when it was last written.
func (v *versions) record(key string) (text string, revision int64) {
	v.t.Helper()
	resp, err := v.client.Get(v.t.Context(), "/muster/"+clustertest.Name+"/"+key)
	if err != nil {
		v.t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return "", 0
	}
	return string(resp.Kvs[0].Value), resp.Kvs[0].ModRevision
}

// In a cluster that is being upgraded, or back, this version leads, runs shards and changes their number beside a later one, which has more in every
// record, and keys that this one does not know. What this version writes back of the plan and the budget has it still, and no event is lost over it.
func TestTwoVersionsSideBySide(t *testing.T) {
	const shards, more = 8, 12
	v := &versions{t: t, Cluster: clustertest.Start(t, clustertest.Options{
		Sim: discordsim.Options{Shards: shards, MaxConcurrency: 4, Guilds: 48, Rate: 200}, Unreadable: true,
	})}
	defer v.Stop()
	v.client = v.connect()
	unknown := map[string]string{"schema": `{"version":0,` + news + `}`, "treaty/1": "{" + news + "}", "directive/dance": "{" + news + "}"}
	for key, value := range unknown {
		if _, err := v.client.Put(t.Context(), "/muster/"+clustertest.Name+"/"+key, value); err != nil {
			t.Fatal(err)
		}
	}
	resign := v.CoordinateOn("later", shards, v.later())
	v.WorkOn("later-worker", v.later())
	v.Work("worker")
	v.AwaitView("live shards", clustertest.Live(shards))

	// This version leads, and has a session identify.
	v.Coordinate("this", 0)
	written := map[string]int64{}
	for _, key := range []string{"plan", "budget"} {
		var text string
		if text, written[key] = v.record(key); !strings.Contains(text, news) {
			t.Fatalf("a later version wrote %s: %s", key, text)
		}
	}
	resign()
	v.AwaitView("this version to lead", func(c *api.Cluster) bool { return c.Leader == "this" })
	v.Sim.Invalidate(1, false)
	v.AwaitView("shard 1's next session", func(c *api.Cluster) bool { return clustertest.Live(shards)(c) && c.ShardStates[1].Epoch == 2 })
	if err := v.OpenStore().Direct(t.Context(), lease.Reshard{Shards: more}); err != nil {
		t.Fatal(err)
	}
	v.AwaitView("more shards", func(c *api.Cluster) bool { return clustertest.Live(more)(c) && len(c.Ranges) > 0 && c.Shards == more })
	for key, before := range written {
		if text, revision := v.record(key); revision == before || !strings.Contains(text, news) {
			t.Errorf("%s was written back at %d, before at %d: %s", key, revision, before, text)
		}
	}

	// Shards move to the later version, and back.
	v.Stop("worker")
	v.AwaitView("the later version to have all shards", liveOn("later-worker", more))
	v.Work("worker")
	v.Stop("later-worker")
	v.AwaitView("this version to have all shards", liveOn("worker", more))
	for key, want := range unknown {
		if text, _ := v.record(key); text != want {
			t.Errorf("%s became %q", key, text)
		}
	}
	if said := v.Log.String(); !strings.Contains(said, "this: record in etcd ignored") || !strings.Contains(said, "directive/dance") {
		t.Error("nobody says that there is a record that is not understood")
	}
	v.Settle() // whose account is of one set of sessions
	account, stats := devstack.AuditReshard(v.Sim.Sessions(), v.Read(v.Streams())), v.Sim.Stats()
	if !account.Clean() || account.Gaps != 1 || stats.Identifies != shards+1+more || stats.Violations > 0 {
		t.Errorf("the account is %+v with %d IDENTIFYs and %d violations, want %d and none", account, stats.Identifies, stats.Violations, shards+1+more)
	}
}

// liveOn says that so many shards are live, all of them on one worker.
func liveOn(worker string, shards int) func(*api.Cluster) bool {
	return func(c *api.Cluster) bool {
		for _, r := range c.Ranges {
			if r.Owner != worker {
				return false
			}
		}
		return clustertest.Live(shards)(c)
	}
}
