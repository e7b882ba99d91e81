package stream_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// The benchmarks write the same entries: 600 bytes, spread evenly over the
// shards. An operation is one entry; redis-ns/op is the server's CPU time for
// it. Compare within one run only.
//
//	go test -run - -bench Append -benchmem ./pkg/stream

const benchBytes = 600

func BenchmarkAppend(b *testing.B) {
	for _, shards := range []int{1, 16, 64} {
		b.Run("writer/"+strconv.Itoa(shards), func(b *testing.B) { benchWriter(b, shards) })
		b.Run("xadd/"+strconv.Itoa(shards), func(b *testing.B) { benchXAdd(b, shards, 256) })
	}
}

// BenchmarkIdle waits for each entry before the next: what an event costs on a
// quiet shard, and how long it takes.
func BenchmarkIdle(b *testing.B) {
	b.Run("writer", func(b *testing.B) {
		client := open(b, redistest.StartReal(b).URL())
		l := openLog(b, run(b, client, stream.Options{}), 0)
		ctx, data := context.Background(), bytes.Repeat([]byte("x"), benchBytes)
		defer measure(b, client)()
		for i := range b.N {
			if err := l.Append(ctx, stream.Entry{ID: id(1, int64(i)+1), Type: "MESSAGE_CREATE", Data: data}); err != nil {
				b.Fatal(err)
			}
			if err := l.Flush(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("xadd", func(b *testing.B) { benchXAdd(b, 1, 1) })
}

// measure starts a measurement and returns what ends it.
func measure(b *testing.B, client redis.UniversalClient) func() {
	before := redisCPU(b, client)
	b.ReportAllocs()
	b.ResetTimer()
	return func() {
		b.StopTimer()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		b.ReportMetric((redisCPU(b, client)-before)*1e9/float64(b.N), "redis-ns/op")
	}
}

// redisCPU returns the CPU seconds the server's main thread has used.
func redisCPU(b *testing.B, client redis.UniversalClient) float64 {
	info, err := client.InfoMap(context.Background(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	user, errUser := strconv.ParseFloat(info["CPU"]["used_cpu_user"], 64)
	sys, errSys := strconv.ParseFloat(info["CPU"]["used_cpu_sys"], 64)
	if err := errors.Join(errUser, errSys); err != nil {
		b.Fatal(err)
	}
	return user + sys
}

func benchWriter(b *testing.B, shards int) {
	client := open(b, redistest.StartReal(b).URL())
	w := run(b, client, stream.Options{MaxLen: 10_000})
	logs := make([]*stream.Log, shards)
	for shard := range logs {
		logs[shard] = openLog(b, w, shard)
	}
	data := bytes.Repeat([]byte("x"), benchBytes)
	ctx := context.Background()
	defer measure(b, client)()
	for i := range b.N {
		e := stream.Entry{ID: id(1, int64(i/shards)+1), Type: "MESSAGE_CREATE", Data: data}
		if err := logs[i%shards].Append(ctx, e); err != nil {
			b.Fatal(err)
		}
	}
	for _, l := range logs {
		flush(b, l)
	}
}

// benchXAdd is the plain way, which checks nothing: XADD of each entry, so
// many of them in a pipeline.
func benchXAdd(b *testing.B, shards, pipelined int) {
	client := open(b, redistest.StartReal(b).URL())
	keys := make([]string, shards)
	for shard := range keys {
		keys[shard] = stream.EventsKey(cluster, shard)
	}
	data := bytes.Repeat([]byte("x"), benchBytes)
	ctx := context.Background()
	defer measure(b, client)()
	pipe := client.Pipeline()
	for i := range b.N {
		pipe.XAdd(ctx, &redis.XAddArgs{
			Stream: keys[i%shards], MaxLen: 10_000, Approx: true,
			ID:     id(1, int64(i/shards)+1).String(),
			Values: []any{"t", "MESSAGE_CREATE", "d", data},
		})
		if pipe.Len() == pipelined || i == b.N-1 {
			if _, err := pipe.Exec(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
}
