package stream

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
)

func TestReadLag(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	ctx := t.Context()
	publishShards(t, client, Cluster{Shards: 4, Generation: 1})
	addRun(t, client, 0, 1, 100) // the group has begun in shards 0, 1 and 3
	addRun(t, client, 2, 1, 10)
	for _, shard := range []int{0, 1, 3} {
		if err := client.XGroupCreateMkStream(ctx, EventsKey("test", shard), "g", "0").Err(); err != nil {
			t.Fatal(err)
		}
	}
	addRun(t, client, 3, 1, 10)
	read := func(shard int, n int64) {
		args := &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{EventsKey("test", shard), ">"}, Count: n}
		if err := client.XReadGroup(ctx, args).Err(); err != nil {
			t.Fatal(err)
		}
	}
	read(0, 30)
	client.XAck(ctx, EventsKey("test", 0), "g", "1-1")
	client.XTrimMaxLen(ctx, EventsKey("test", 0), 80)
	read(3, 10)

	got, err := ReadLag(ctx, client, "test", "g")
	want := []Lag{
		{Shard: 0, Length: 80, Behind: 70, Pending: 29, Headroom: 10},
		{Shard: 1},
		{Shard: 3, Length: 10, Pending: 10, Headroom: 10},
	}
	if err != nil || len(got) != len(want) {
		t.Fatalf("lag %+v, error %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("lag %+v, want %+v", got[i], want[i])
		}
	}
}

func TestBehindByID(t *testing.T) {
	for _, tt := range []struct {
		delivered, last string
		length, want    int64
	}{
		{"0-0", "0-0", 0, 0},
		{"1-5", "1-5", 5, 0},
		{"1-5", "1-15", 100, 10},
		{"1-5", "1-500", 100, 100}, // trimmed
		{"1-5", "2-3", 100, 100},   // cannot be told
		{"1-18446744073709551615", "2-3", 100, 100},
		{"2-5", "1-5", 100, 0}, // redis lost its tail
	} {
		if got := behindByID(tt.delivered, tt.last, tt.length); got != tt.want {
			t.Errorf("after %s of a stream that ends with %s: %d, want %d", tt.delivered, tt.last, got, tt.want)
		}
	}
}
