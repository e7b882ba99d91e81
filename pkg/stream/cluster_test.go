package stream

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
)

func TestPublishCluster(t *testing.T) {
	servers := map[string]*redistest.Server{"miniredis": redistest.StartMini(t), "redis": redistest.Start(t)}
	for name, server := range servers {
		t.Run(name, func(t *testing.T) {
			client := openTest(t, server.URL())
			if _, err := ReadCluster(t.Context(), client, "test"); !errors.Is(err, ErrNoCluster) {
				t.Errorf("before anything is published: %v", err)
			}
			publish := func(c Cluster) error { return PublishCluster(t.Context(), client, "test", c) }
			read := func(want Cluster) {
				t.Helper()
				if c, err := ReadCluster(t.Context(), client, "test"); err != nil || c != want {
					t.Errorf("published is %+v, error %v, want %+v", c, err, want)
				}
			}

			nine, ten := Cluster{Shards: 16, Generation: 9}, Cluster{Shards: 8, Generation: 10, Filter: "-TYPING_START"}
			for _, c := range []Cluster{nine, nine, ten} {
				if err := publish(c); err != nil {
					t.Fatal(err)
				}
				c.Streams = 16 // the most there were
				read(c)
			}
			ten.Streams = 16
			var older *OlderGenerationError
			if err := publish(nine); !errors.As(err, &older) || *older != (OlderGenerationError{Generation: 9, Published: 10}) {
				t.Errorf("an older generation: %v", err)
			}
			read(ten)
			if err := publish(Cluster{Generation: 11}); err == nil {
				t.Error("no shards are published")
			}

			// What a consumer in another language reads.
			want := map[string]string{
				"shards": "8", "generation": "10", "format": "1",
				"events": "test:{<shard>}:events", "commands": "test:{<shard>}:commands", "filter": "-TYPING_START",
				"streams": "16",
			}
			got, err := client.HGetAll(t.Context(), "test:cluster").Result()
			if err != nil || len(got) != len(want) {
				t.Errorf("the hash is %v, error %v", got, err)
			}
			for field, value := range want {
				if got[field] != value {
					t.Errorf("field %s is %q, want %q", field, got[field], value)
				}
			}

			// What was published by those who did not know of streams yet.
			client.HDel(t.Context(), "test:cluster", "streams")
			read(Cluster{Shards: 8, Generation: 10, Streams: 8, Filter: "-TYPING_START"})
			if err := publish(Cluster{Shards: 2, Generation: 11}); err != nil {
				t.Fatal(err)
			}
			read(Cluster{Shards: 2, Generation: 11, Streams: 8})
		})
	}
}

func TestReadClusterMalformed(t *testing.T) {
	client := openTest(t, redistest.StartMini(t).URL())
	for _, fields := range [][]any{
		{"shards", "many", "generation", "1"},
		{"shards", "0", "generation", "1"},
		{"shards", "-4", "generation", "1"},
		{"shards", "4", "generation", "first"},
	} {
		if err := client.HSet(t.Context(), ClusterKey("test"), fields...).Err(); err != nil {
			t.Fatal(err)
		}
		if c, err := ReadCluster(t.Context(), client, "test"); err == nil || errors.Is(err, ErrNoCluster) {
			t.Errorf("%v is read as %+v, error %v", fields, c, err)
		}
	}
}

func TestKeys(t *testing.T) {
	for got, want := range map[string]string{
		EventsKey("muster", 17):  "muster:{17}:events",
		CommandsKey("muster", 0): "muster:{0}:commands",
		ClusterKey("muster"):     "muster:cluster",
	} {
		if got != want {
			t.Errorf("key is %s, want %s", got, want)
		}
	}
}

func FuzzParseCluster(f *testing.F) {
	f.Add("16", "1")
	f.Add("", "-1")
	f.Add("99999999999", "0x1")
	f.Fuzz(func(t *testing.T, shards, generation string) {
		c, err := parseCluster([]any{shards, generation})
		if err == nil && c.Shards <= 0 {
			t.Errorf("%q, %q is read as %+v", shards, generation, c)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("1-1", "t", "READY", "d", "{}")
	f.Add("1-1", "t", "", "d", "{}")
	f.Add("x", "d", "", "d", "")
	f.Add("1-18446744073709551615", "t", "A", "d", "\xff")
	f.Fuzz(func(t *testing.T, id, f1, v1, f2, v2 string) {
		m, err := decode(5, redis.XMessage{ID: id, Values: map[string]any{f1: v1, f2: v2}})
		if err == nil && (m.ID.String() != id || m.Type == "" || m.Shard != 5) {
			t.Errorf("entry %q is read as %+v", id, m)
		}
	})
}
