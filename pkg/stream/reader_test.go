package stream_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/pkg/stream"
)

func newReader(t testing.TB, client redis.UniversalClient, opts stream.ReaderOptions) *stream.Reader {
	t.Helper()
	opts.Cluster = cluster
	r, err := stream.NewReader(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// collect reads n messages and returns their ids by shard.
func collect(t testing.TB, r *stream.Reader, n int) map[int][]stream.ID {
	t.Helper()
	got := make(map[int][]stream.ID)
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	for m := range r.Messages(ctx) {
		if want := event(m.ID); m.Type != want.Type || string(m.Data) != string(want.Data) {
			t.Errorf("shard %d: message %v is %s %s", m.Shard, m.ID, m.Type, m.Data)
		}
		got[m.Shard] = append(got[m.Shard], m.ID)
		if n--; n == 0 {
			return got
		}
	}
	t.Fatalf("%d messages short", n)
	return nil
}

func TestReaderMergesShardsInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, client redis.UniversalClient) {
		const shards, entries = 4, 500
		if err := stream.PublishCluster(deadline(t), client, cluster, stream.Cluster{Shards: shards, Generation: 1}); err != nil {
			t.Fatal(err)
		}
		w := run(t, client, stream.Options{})
		for shard := range shards {
			l := openLog(t, w, shard)
			appendRun(t, l, id(1, 1), id(1, entries))
			flush(t, l)
		}
		got := collect(t, newReader(t, client, stream.ReaderOptions{From: "0"}), shards*entries)
		for shard := range shards {
			checkRun(t, got[shard], id(1, 1), id(1, entries))
		}
	})
}
