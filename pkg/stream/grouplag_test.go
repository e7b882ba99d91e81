package stream

import (
	"maps"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
)

func TestGroupLag(t *testing.T) {
	tail := ID{3, 100}
	for name, tt := range map[string]struct {
		group redis.XInfoGroup
		want  int64
	}{
		"has read all":                   {redis.XInfoGroup{LastDeliveredID: "3-100", Lag: 0}, 0},
		"has read all, redis says more":  {redis.XInfoGroup{LastDeliveredID: "3-100", Lag: 5}, 0},
		"is ahead of what we know":       {redis.XInfoGroup{LastDeliveredID: "3-120", Lag: 0}, 0},
		"redis counts":                   {redis.XInfoGroup{LastDeliveredID: "3-90", Lag: 4}, 4},
		"redis cannot tell":              {redis.XInfoGroup{LastDeliveredID: "3-90", Lag: -1}, 10},
		"redis does not count":           {redis.XInfoGroup{LastDeliveredID: "3-90"}, 10},
		"another epoch":                  {redis.XInfoGroup{LastDeliveredID: "2-900", Lag: -1}, 70},
		"nothing read":                   {redis.XInfoGroup{LastDeliveredID: "0-0", Lag: -1}, 70},
		"an id that is none of ours":     {redis.XInfoGroup{LastDeliveredID: "3-18446744073709551615", Lag: -1}, 70},
		"an id that is none, but counts": {redis.XInfoGroup{LastDeliveredID: "", Lag: 8}, 8},
	} {
		if got := groupLag(tt.group, tail, 70); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestGroupLags(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	w := NewWriter(client, Options{Cluster: "test"})
	start(t, w)
	lags := func(want map[string]int64) {
		t.Helper()
		if got, err := w.GroupLags(t.Context()); err != nil || !maps.Equal(got, want) {
			t.Errorf("lags are %v, error %v, want %v", got, err, want)
		}
	}
	lags(map[string]int64{})
	const shards = 2*lagShards + 1
	group := func(shard int, name, from string) {
		if err := client.XGroupCreateMkStream(t.Context(), EventsKey("test", shard), name, from).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for shard := range shards {
		l := mustOpen(t, w, shard)
		if shard == shards/2 {
			continue // a stream that was never written
		}
		group(shard, "slow", "0")
		appendN(t, l, 10+shard)
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		group(shard, "new", "$")
		group(shard, "middle", "1-4")
	}
	lags(map[string]int64{"slow": 10 + shards - 1, "new": 0, "middle": 10 + shards - 1 - 4})
	err := client.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: "slow", Consumer: "c", Streams: []string{EventsKey("test", shards-1), ">"}, Count: 5,
	}).Err()
	if err != nil {
		t.Fatal(err)
	}
	lags(map[string]int64{"slow": 10 + shards - 2, "new": 0, "middle": 10 + shards - 1 - 4})

	if err := client.Set(t.Context(), EventsKey("test", 0), "not a stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.GroupLags(t.Context()); err == nil {
		t.Error("an error is not returned")
	}
}
