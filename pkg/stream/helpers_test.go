package stream_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

const cluster = "test"

// open returns a client for server that is closed with the test.
func open(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	client, err := stream.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// deadline is a context that ends a test that hangs; no test depends on it.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run starts a writer that is stopped, and waited for, with the test.
func run(t testing.TB, client redis.UniversalClient, opts stream.Options) *stream.Writer {
	t.Helper()
	opts.Cluster = cluster
	w := stream.NewWriter(client, opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

func openLog(t testing.TB, w *stream.Writer, shard int) *stream.Log {
	t.Helper()
	l, err := w.Open(deadline(t), shard)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func id(epoch uint64, seq int64) stream.ID { return stream.ID{Epoch: epoch, Seq: seq} }

// event is the entry of an id, with data that can be told from any other's.
func event(id stream.ID) stream.Entry {
	if id.Seq == 0 {
		return stream.NewGap(id.Epoch, stream.Gap{Reason: "test"})
	}
	return stream.Entry{ID: id, Type: "TEST", Data: fmt.Appendf(nil, `{"is":"%v"}`, id)}
}

// appendRun appends the entries from first to last of one epoch.
func appendRun(t testing.TB, l *stream.Log, first, last stream.ID) {
	t.Helper()
	ctx := deadline(t)
	for at := first; at.Seq <= last.Seq; at.Seq++ {
		if err := l.Append(ctx, event(at)); err != nil {
			t.Fatalf("append %v: %v", at, err)
		}
	}
}

func flush(t testing.TB, l *stream.Log) {
	t.Helper()
	if err := l.Flush(deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// stored reads a whole stream as ids and fails the test if an entry is not the
// one event made.
func stored(t testing.TB, client redis.UniversalClient, shard int) []stream.ID {
	t.Helper()
	entries, err := client.XRange(deadline(t), stream.EventsKey(cluster, shard), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var ids []stream.ID
	for _, e := range entries {
		id, err := stream.ParseID(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := event(id)
		if e.Values["t"] != want.Type || e.Values["d"] != string(want.Data) {
			t.Errorf("entry %s is %v", e.ID, e.Values)
		}
		ids = append(ids, id)
	}
	return ids
}

// checkRun fails the test unless ids are exactly those from first to last of one
// epoch, in order.
func checkRun(t testing.TB, ids []stream.ID, first, last stream.ID) {
	t.Helper()
	if want := int(last.Seq-first.Seq) + 1; len(ids) != want {
		t.Errorf("%d entries, want %d", len(ids), want)
	}
	for i, id := range ids {
		want := stream.ID{Epoch: first.Epoch, Seq: first.Seq + int64(i)}
		if id != want {
			t.Fatalf("entry %d is %v, want %v", i, id, want)
		}
	}
}

// onBoth runs a test against redis-server and against miniredis.
func onBoth(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	t.Run("redis", func(t *testing.T) { test(t, open(t, redistest.StartReal(t).URL())) })
	t.Run("miniredis", func(t *testing.T) { test(t, open(t, redistest.StartMini(t).URL())) })
}

// minTTL makes leases change hands soon.
const minTTL = time.Second
