package stream_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Servers here are real, and more than one.

// replicated is a master with a replica, and a proxy to whichever is in charge.
type replicated struct {
	master, replica *redistest.Server
	proxy           *redistest.Proxy
	toReplica       redis.UniversalClient
}

func startReplicated(t *testing.T) *replicated {
	r := &replicated{master: redistest.StartReal(t, "--repl-diskless-sync-delay", "0"), replica: redistest.StartReal(t)}
	r.toReplica = open(t, r.replica.URL())
	host, port, _ := net.SplitHostPort(r.master.Addr)
	do(t, r.toReplica, "REPLICAOF", host, port)
	for info := ""; !strings.Contains(info, "master_link_status:up"); {
		info = r.toReplica.Info(deadline(t), "replication").Val()
	}
	r.proxy = redistest.NewProxy(t, r.master)
	return r
}

// awaitReplica waits until the replica has a shard's stream up to an entry.
func (r *replicated) awaitReplica(t *testing.T, shard int, id stream.ID) {
	t.Helper()
	for ctx := deadline(t); ; {
		last, err := r.toReplica.XRevRangeN(ctx, stream.EventsKey(cluster, shard), "+", "-", 1).Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(last) > 0 && last[0].ID == id.String() {
			return
		}
	}
}

// promote makes the replica a master, which goes its own way from there on. The
// old one confirms writes until the proxy is turned.
func (r *replicated) promote(t *testing.T) { do(t, r.toReplica, "REPLICAOF", "NO", "ONE") }

func do(t *testing.T, client redis.UniversalClient, args ...any) {
	t.Helper()
	if err := client.Do(deadline(t), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

// A replica is promoted that does not have what its master had confirmed, while
// entries are being appended. The writer appends again what is missing.
func TestReplicaPromotedWithTheTailLost(t *testing.T) {
	r := startReplicated(t)
	w := run(t, open(t, r.proxy.URL()), stream.Options{})
	const shards, entries = 4, 2000
	logs := make([]*stream.Log, shards)
	for shard := range logs {
		logs[shard] = openLog(t, w, shard)
	}
	var appending sync.WaitGroup
	grow := func(first, last int64) {
		for _, l := range logs {
			appending.Go(func() { appendRun(t, l, id(1, first), id(1, last)) })
		}
	}
	grow(1, 500)
	appending.Wait()
	for shard, l := range logs {
		flush(t, l)
		r.awaitReplica(t, shard, id(1, 500))
	}
	r.promote(t)
	grow(501, 1000) // confirmed, and lost
	appending.Wait()
	for _, l := range logs {
		flush(t, l)
	}
	grow(1001, entries)
	r.proxy.Turn(r.replica) // in the middle of it
	appending.Wait()
	for shard, l := range logs {
		flush(t, l)
		checkRun(t, stored(t, r.toReplica, shard), id(1, 1), id(1, entries))
	}
	if s := w.Stats(); s.Rewinds < shards || s.Refused > 0 {
		t.Errorf("stats are %+v", s)
	}
}

// The same, but the writer has kept too little. The log fails, and its owner goes
// on from the real end, as with a RESUME.
func TestReplicaPromotedWithMoreLostThanIsKept(t *testing.T) {
	r := startReplicated(t)
	w := run(t, open(t, r.proxy.URL()), stream.Options{ReplayBytes: 1000})
	l := openLog(t, w, 0)
	appendRun(t, l, id(1, 1), id(1, 100))
	flush(t, l)
	r.awaitReplica(t, 0, id(1, 100))
	r.promote(t)
	for seq := int64(101); seq <= 200; seq++ {
		appendRun(t, l, id(1, seq), id(1, seq))
		flush(t, l)
	}
	r.proxy.Turn(r.replica)
	appendRun(t, l, id(1, 201), id(1, 201))
	var refused *stream.RefusedError
	if err := l.Flush(deadline(t)); !errors.As(err, &refused) || !refused.Behind() || refused.Tail != id(1, 100) {
		t.Fatalf("error is %v", err)
	}
	l = openLog(t, w, 0)
	appendRun(t, l, id(1, l.Tail().Seq+1), id(1, 300))
	flush(t, l)
	checkRun(t, stored(t, r.toReplica, 0), id(1, 1), id(1, 300))
}

// The old master comes back to the clients that never heard of the failover, with
// a tail that the new one does not have. Whoever of two owners meets which server,
// each server's stream stays whole.
func TestOldMasterStillAnswers(t *testing.T) {
	r := startReplicated(t)
	toMaster := open(t, r.master.URL())
	w := run(t, open(t, r.proxy.URL()), stream.Options{})
	l := openLog(t, w, 0)
	appendRun(t, l, id(1, 1), id(1, 50))
	flush(t, l)
	r.awaitReplica(t, 0, id(1, 50))
	r.promote(t)
	at := int64(50)
	for range 5 {
		for _, s := range []*redistest.Server{r.master, r.replica} {
			r.proxy.Turn(s)
			appendRun(t, l, id(1, at+1), id(1, at+20))
			at += 20
			for err := l.Flush(deadline(t)); err != nil; err = l.Flush(deadline(t)) {
				var refused *stream.RefusedError
				if !errors.As(err, &refused) {
					t.Fatal(err)
				}
				l = openLog(t, w, 0)
				if end := l.Tail().Seq; end < at {
					appendRun(t, l, id(1, end+1), id(1, at))
				} else {
					at = end
				}
			}
		}
	}
	for _, client := range []redis.UniversalClient{toMaster, r.toReplica} {
		ids := stored(t, client, 0)
		checkRun(t, ids, id(1, 1), ids[len(ids)-1])
	}
	if ids := stored(t, r.toReplica, 0); len(ids) != int(at) {
		t.Errorf("the server in charge has %d entries, want %d", len(ids), at)
	}
}

// Killed with SIGKILL and without its data, in the middle of it all: while all
// that it had is still kept, nothing is missing afterwards.
func TestRedisKilledWithoutItsData(t *testing.T) {
	server := redistest.StartReal(t)
	client := open(t, server.URL())
	w := run(t, client, stream.Options{})
	l := openLog(t, w, 0)
	for seq := int64(1); seq <= 2000; seq++ {
		appendRun(t, l, id(1, seq), id(1, seq))
		if seq%500 == 0 {
			server.Kill()
			server.Start()
		}
	}
	flush(t, l)
	checkRun(t, stored(t, client, 0), id(1, 1), id(1, 2000))
	if s := w.Stats(); s.Refused > 0 {
		t.Errorf("stats are %+v", s)
	}
}

func TestRedisCluster(t *testing.T) {
	nodes := redistest.StartCluster(t, 3)
	client := open(t, nodes[0].URL()+"?cluster=true")
	const shards, entries = 12, 200
	if err := stream.PublishCluster(deadline(t), client, cluster, stream.Cluster{Shards: shards, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	w := run(t, client, stream.Options{})
	logs := make([]*stream.Log, shards)
	for shard := range logs {
		logs[shard] = openLog(t, w, shard)
		appendRun(t, logs[shard], id(1, 1), id(1, entries))
	}
	for shard, l := range logs {
		flush(t, l)
		checkRun(t, stored(t, client, shard), id(1, 1), id(1, entries))
	}
	got := collect(t, newReader(t, client, stream.ReaderOptions{From: "0"}), shards*entries)
	for shard := range shards {
		checkRun(t, got[shard], id(1, 1), id(1, entries))
	}
}

// A shard's slot moves between the masters of a cluster while its stream grows.
func TestClusterMovesASlot(t *testing.T) {
	nodes := redistest.StartCluster(t, 3)
	client := open(t, nodes[0].URL()+"?cluster=true")
	w := run(t, client, stream.Options{MaxLen: 10_000_000})
	const shards = 3
	logs := make([]*stream.Log, shards)
	for shard := range logs {
		logs[shard] = openLog(t, w, shard)
	}
	ctx, stop := context.WithCancel(deadline(t))
	var appending sync.WaitGroup
	last := make([]int64, shards)
	for shard, l := range logs {
		appending.Go(func() { // so that batches are on their way at every moment
			for ctx.Err() == nil {
				last[shard]++
				if err := l.Append(deadline(t), event(id(1, last[shard]))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for shard := range shards {
		redistest.MoveSlot(t, nodes, stream.EventsKey(cluster, shard), func() {
			tail := logs[shard].Tail()
			for ctx := deadline(t); logs[shard].Tail().Seq < tail.Seq+200; { // entries arrive in this stage
				if err := errors.Join(logs[shard].Err(), ctx.Err()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	stop()
	appending.Wait()
	for shard, l := range logs {
		flush(t, l)
		checkRun(t, stored(t, client, shard), id(1, 1), id(1, last[shard]))
	}
}
