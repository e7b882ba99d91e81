package stream

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
)

// A note of a muted session counts for that session only.
func TestMuted(t *testing.T) {
	client := openTest(t, redistest.Start(t).URL())
	all := []Muted{{Shard: 0, Generation: 2, ID: ID{3, 17}}, {Shard: 1, Generation: 2, ID: ID{1, 1}}}
	if err := SaveMuted(t.Context(), client, "test", all); err != nil {
		t.Fatal(err)
	}
	if err := SaveMuted(t.Context(), client, "test", nil); err != nil {
		t.Errorf("nothing to note: %v", err)
	}
	client.Set(t.Context(), MutedKey("test", 2), "garbage", 0)
	client.Set(t.Context(), MutedKey("test", 3), "2 garbage", 0)
	client.XAdd(t.Context(), &redis.XAddArgs{Stream: MutedKey("test", 4), ID: "1-1", Values: []any{"t", "x"}})
	for _, test := range []struct {
		shard, generation int
		epoch             uint64
		want              int64
	}{{0, 2, 3, 17}, {1, 2, 1, 1}, {0, 3, 3, 0}, {0, 2, 4, 0}, {2, 2, 3, 0}, {3, 2, 3, 0}, {4, 2, 3, 0}, {5, 2, 3, 0}} {
		got, err := ReadMuted(t.Context(), client, "test", test.shard, test.generation, test.epoch)
		if got != test.want || err != nil {
			t.Errorf("shard %d, generation %d, epoch %d: %d, %v; want %d", test.shard, test.generation, test.epoch, got, err, test.want)
		}
	}
	if ttl := client.TTL(t.Context(), MutedKey("test", 0)).Val(); ttl <= 0 || ttl > mutedExpiry {
		t.Errorf("a note lives for %v", ttl)
	}
}
