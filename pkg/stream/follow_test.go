package stream

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
)

// addRun appends 1-first to 1-last to a shard's stream.
func addRun(t *testing.T, client redis.UniversalClient, shard int, first, last int64) {
	t.Helper()
	for seq := first; seq <= last; seq++ {
		args := &redis.XAddArgs{Stream: EventsKey("test", shard), ID: ID{1, seq}.String(), Values: []any{"t", "TEST", "d", "{}"}}
		if err := client.XAdd(t.Context(), args).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func publishShards(t *testing.T, client redis.UniversalClient, c Cluster) {
	t.Helper()
	if err := PublishCluster(t.Context(), client, "test", c); err != nil {
		t.Fatal(err)
	}
}

// readRun reads 1-first to 1-last of one shard, and nothing else.
func readRun(t *testing.T, r *Reader, shard int, first, last int64) {
	t.Helper()
	want := first
	for m := range r.Messages(t.Context()) {
		if m.Shard != shard || m.ID != (ID{1, want}) {
			t.Fatalf("read %v of shard %d, want 1-%d of shard %d", m.ID, m.Shard, want, shard)
		}
		if want++; want > last {
			return
		}
	}
}

func testReader(t *testing.T, client redis.UniversalClient, opts ReaderOptions) *Reader {
	t.Helper()
	opts.Cluster = "test"
	r, err := NewReader(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReaderBeginsNow(t *testing.T) {
	client := openTest(t, redistest.Start(t).URL())
	addRun(t, client, 0, 1, 10)
	r := testReader(t, client, ReaderOptions{Shards: []int{0}})
	if err := r.follow(t.Context()); err != nil { // what Run does first
		t.Fatal(err)
	}
	addRun(t, client, 0, 11, 20)
	readRun(t, r, 0, 11, 20)
}

// A reader that begins before the cluster does, and stays while it grows and
// shrinks, misses nothing and reads nothing twice.
func TestReaderFollowsTheNumberOfShards(t *testing.T) {
	client := openTest(t, redistest.Start(t).URL())
	r := testReader(t, client, ReaderOptions{From: "$"})
	if err := r.follow(t.Context()); err != nil || len(r.shards) != 0 {
		t.Fatalf("before the cluster is published: shards %v, error %v", r.shards, err)
	}

	publishShards(t, client, Cluster{Shards: 1, Generation: 1})
	addRun(t, client, 0, 1, 5)
	readRun(t, r, 0, 1, 5)

	publishShards(t, client, Cluster{Shards: 3, Generation: 2})
	addRun(t, client, 2, 1, 5)
	readRun(t, r, 2, 1, 5)

	publishShards(t, client, Cluster{Shards: 1, Generation: 3})
	addRun(t, client, 0, 6, 10)
	readRun(t, r, 0, 6, 10)

	r.checked = time.Time{} // or the next look would be a second away
	if err := r.follow(t.Context()); err != nil || len(r.shards) != 3 {
		t.Fatalf("shards %v, error %v", r.shards, err)
	}
	addRun(t, client, 1, 1, 5) // the owner of a shard that there is no more brings it to its end
	readRun(t, r, 1, 1, 5)
	publishShards(t, client, Cluster{Shards: 3, Generation: 4})
	addRun(t, client, 2, 6, 10)
	readRun(t, r, 2, 6, 10)
}

// A malformed entry is passed like any other, or it would be read, and warned
// of, for ever.
func TestReaderPassesMalformedEntries(t *testing.T) {
	client := openTest(t, redistest.Start(t).URL())
	args := &redis.XAddArgs{Stream: EventsKey("test", 0), ID: "1-7", Values: []any{"odd", "entry"}}
	if err := client.XAdd(t.Context(), args).Err(); err != nil {
		t.Fatal(err)
	}
	r := testReader(t, client, ReaderOptions{Shards: []int{0}, From: "0"})
	streams, err := r.next(t.Context())
	if err != nil || len(streams) != 1 {
		t.Fatalf("read %v, error %v", streams, err)
	}
	if err := r.hand(t.Context(), streams, func(_ context.Context, m Message) error { t.Errorf("handed %v", m); return nil }); err != nil {
		t.Fatal(err)
	}
	if r.cursors[0] != "1-7" {
		t.Errorf("the reader stands at %s", r.cursors[0])
	}
}
