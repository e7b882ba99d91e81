package redistest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/freeport"
)

const slots = 16384 // of a Redis Cluster

// StartCluster starts a Redis Cluster of n masters without replicas and returns
// its nodes once all of them serve. Without redis-server the test is skipped.
func StartCluster(tb testing.TB, n int) []*Server {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()

	nodes := make([]*Server, n)
	clients := make([]*redis.Client, n)
	for i := range nodes {
		bus, err := freeport.Addr() // by default the port plus 10000, which may not exist
		if err != nil {
			tb.Fatal(err)
		}
		_, busPort, _ := net.SplitHostPort(bus)
		nodes[i] = StartReal(tb, "--cluster-enabled", "yes", "--cluster-port", busPort)
		clients[i] = redis.NewClient(&redis.Options{Addr: nodes[i].Addr})
		defer func() { _ = clients[i].Close() }()

		host, port, _ := net.SplitHostPort(nodes[i].Addr)
		must(ctx, tb, clients[i], "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		must(ctx, tb, clients[i], "CLUSTER", "ADDSLOTSRANGE", slots*i/n, slots*(i+1)/n-1)
		if i > 0 {
			must(ctx, tb, clients[0], "CLUSTER", "MEET", host, port, busPort)
		}
	}
	known := fmt.Sprintf("cluster_known_nodes:%d", n)
	for _, client := range clients {
		for info := ""; !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, known); {
			info = must(ctx, tb, client, "CLUSTER", "INFO")
			time.Sleep(20 * time.Millisecond) // nodes gossip, and nothing announces the end of it
		}
	}
	return nodes
}

// MoveSlot moves the slot of a key, and whatever keys it has, from the node that
// has it to another one, as redis-cli's reshard does. It calls during after each
// stage: when the slot is being moved but its keys are still there, when they are
// at the new node (clients are told ASK), and when the slot is (MOVED).
func MoveSlot(tb testing.TB, nodes []*Server, key string, during func()) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	clients := make([]*redis.Client, len(nodes))
	ids := make([]string, len(nodes))
	for i, node := range nodes {
		clients[i] = redis.NewClient(&redis.Options{Addr: node.Addr})
		defer func() { _ = clients[i].Close() }()
		ids[i] = must(ctx, tb, clients[i], "CLUSTER", "MYID")
	}
	slot, err := clients[0].ClusterKeySlot(ctx, key).Result()
	if err != nil {
		tb.Fatal(err)
	}
	from := 0 // as StartCluster gave them out
	for slot >= int64(slots*(from+1)/len(nodes)) {
		from++
	}
	to := (from + 1) % len(nodes)

	must(ctx, tb, clients[to], "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[from])
	must(ctx, tb, clients[from], "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
	during()
	keys, err := clients[from].ClusterGetKeysInSlot(ctx, int(slot), 100).Result()
	if err != nil {
		tb.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(nodes[to].Addr)
	for _, key := range keys {
		must(ctx, tb, clients[from], "MIGRATE", host, port, key, 0, startTimeout.Milliseconds())
	}
	during()
	for _, i := range []int{to, from} {
		must(ctx, tb, clients[i], "CLUSTER", "SETSLOT", slot, "NODE", ids[to])
	}
	during()
}

func must(ctx context.Context, tb testing.TB, client *redis.Client, args ...any) string {
	tb.Helper()
	reply, err := client.Do(ctx, args...).Text()
	if err != nil {
		tb.Fatalf("%v: %v", args, err)
	}
	return reply
}
