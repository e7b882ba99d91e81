package redistest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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
		bus, err := freeAddr() // by default the port plus 10000, which may not exist
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

func must(ctx context.Context, tb testing.TB, client *redis.Client, args ...any) string {
	tb.Helper()
	reply, err := client.Do(ctx, args...).Text()
	if err != nil {
		tb.Fatalf("%v: %v", args, err)
	}
	return reply
}
