package shard_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/shard"
)

const (
	idleShards = 200
	idlePeer   = "SHARD_TEST_IDLE_PEER" // set in the process that is the peer
)

// BenchmarkIdleShard measures what a connected shard holds when it has had its guilds and nothing happens any more: heap and
// stacks after a collection. The peer is another process, so that only our side counts. One round is as good as many.
func BenchmarkIdleShard(b *testing.B) {
	for _, c := range []shard.Compression{shard.CompressionNone, shard.CompressionZlib, shard.CompressionZstd} {
		b.Run(string(c), func(b *testing.B) {
			api := startIdlePeer(b)
			for b.Loop() {
				measureIdle(b, api, c)
			}
		})
	}
}

func measureIdle(b *testing.B, api string, c shard.Compression) {
	var live, guilds atomic.Int64
	settled := make(chan struct{})
	cluster, err := shard.NewCluster(shard.ClusterConfig{
		Shard:  shard.Config{Token: discordsim.DefaultToken, Intents: shard.IntentGuilds, Compression: c},
		APIURL: api,
		Total:  idleShards,
		Deliver: func(_ context.Context, _ shard.ID, e shard.Event) error {
			if e.Type == "GUILD_CREATE" && guilds.Add(1) == 2*idleShards {
				close(settled)
			}
			return nil
		},
		Observe: func(_ shard.ID, status shard.Status) {
			if status.State == shard.StateLive {
				live.Add(1)
			}
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	before, goroutines := held(), runtime.NumGoroutine()
	if err := cluster.Up(b.Context()); err != nil {
		b.Fatal(err)
	}
	<-settled
	per := func(n int) float64 { return float64(n) / idleShards }
	b.ReportMetric(per(held()-before)/1024, "KB/shard")
	b.ReportMetric(per(runtime.NumGoroutine()-goroutines), "goroutines/shard")
	b.ReportMetric(0, "ns/op")
	if live.Load() != idleShards {
		b.Errorf("%d of %d shards are live", live.Load(), idleShards)
	}
	if err := cluster.End(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// held is the memory in use, after a collection that empties the pools too.
func held() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// startIdlePeer runs a simulated Discord in another process, which is this test binary again, and returns its API's address.
func startIdlePeer(b *testing.B) (api string) {
	peer := exec.Command(os.Args[0], "-test.run=^TestIdlePeer$")
	peer.Env = append(os.Environ(), idlePeer+"=1")
	peer.Stderr = os.Stderr
	stdin, err := peer.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := peer.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := peer.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		if err := peer.Wait(); err != nil {
			b.Errorf("peer: %v", err)
		}
	})
	if _, err := fmt.Fscanln(bufio.NewReader(stdout), &api); err != nil {
		b.Fatalf("the peer did not say where it listens: %v", err)
	}
	return api
}

// TestIdlePeer is no test but the peer of BenchmarkIdleShard, until its standard input ends.
func TestIdlePeer(t *testing.T) {
	if os.Getenv(idlePeer) == "" {
		t.Skip("for BenchmarkIdleShard")
	}
	sim, err := discordsim.New(discordsim.Options{
		Shards: idleShards, MaxConcurrency: idleShards, Guilds: 2 * idleShards,
		SessionLimit: discordsim.SessionLimit{Total: 1 << 30}, IdentifyWindow: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- sim.Serve(ctx, listener) }()
	fmt.Printf("http://%s/api/v10\n", listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
