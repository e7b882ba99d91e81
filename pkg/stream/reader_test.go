package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
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
	for m := range r.Messages(deadline(t)) {
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

func publish(t testing.TB, client redis.UniversalClient, shards int, generation uint64) {
	t.Helper()
	err := stream.PublishCluster(deadline(t), client, cluster, stream.Cluster{Shards: shards, Generation: generation})
	if err != nil {
		t.Fatal(err)
	}
}

// add appends to a shard's stream as plainly as possible.
func add(t testing.TB, client redis.UniversalClient, shard int, id string, values ...any) {
	t.Helper()
	args := &redis.XAddArgs{Stream: stream.EventsKey(cluster, shard), ID: id, Values: values}
	if err := client.XAdd(deadline(t), args).Err(); err != nil {
		t.Fatal(err)
	}
}

func addEvent(t testing.TB, client redis.UniversalClient, shard int, id stream.ID) {
	t.Helper()
	e := event(id)
	add(t, client, shard, id.String(), "t", e.Type, "d", e.Data)
}

func addEvents(t testing.TB, client redis.UniversalClient, shard int, first, last stream.ID) {
	t.Helper()
	for at := first; at.Seq <= last.Seq; at.Seq++ {
		addEvent(t, client, shard, at)
	}
}

func TestReaderMergesShardsInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, client redis.UniversalClient) {
		const shards, entries = 4, 500
		publish(t, client, shards, 1)
		for shard := range shards {
			addEvents(t, client, shard, id(1, 1), id(1, entries))
		}
		got := collect(t, newReader(t, client, stream.ReaderOptions{From: "0"}), shards*entries)
		for shard := range shards {
			checkRun(t, got[shard], id(1, 1), id(1, entries))
		}
	})
}

func TestReaderBeginsWhereTold(t *testing.T) {
	onBoth(t, func(t *testing.T, client redis.UniversalClient) {
		addEvents(t, client, 3, id(1, 1), id(1, 10))
		for from, first := range map[string]int64{"0": 1, "1-4": 5, "1-0": 1} {
			r := newReader(t, client, stream.ReaderOptions{Shards: []int{3}, From: from})
			checkRun(t, collect(t, r, int(11-first))[3], id(1, first), id(1, 10))
		}
	})
}

func TestReaderSkipsMalformedEntries(t *testing.T) {
	onBoth(t, func(t *testing.T, client redis.UniversalClient) {
		var logged strings.Builder
		addEvent(t, client, 0, id(1, 1))
		add(t, client, 0, "1-2", "t", "NO_DATA")
		add(t, client, 0, "1-3", "d", "no type")
		add(t, client, 0, "1-4", "t", "", "d", "empty type")
		addEvent(t, client, 0, id(1, 5))
		add(t, client, 0, "1-18446744073709551614", "t", "ODD_ID", "d", "{}")
		addEvent(t, client, 0, id(2, 0))
		r := newReader(t, client, stream.ReaderOptions{
			Shards: []int{0}, From: "0", Logger: hclog.New(&hclog.LoggerOptions{Output: &logged}),
		})
		got := collect(t, r, 3)[0]
		if len(got) != 3 || got[0] != id(1, 1) || got[1] != id(1, 5) || got[2] != id(2, 0) {
			t.Errorf("read %v", got)
		}
		if n := strings.Count(logged.String(), "[WARN]"); n != 4 {
			t.Errorf("%d warnings, want 4:\n%s", n, &logged)
		}
	})
}

func TestReaderFiltersTypesButNotGaps(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	add(t, client, 0, "1-1", "t", "A", "d", "")
	add(t, client, 0, "1-2", "t", "B", "d", "")
	addEvent(t, client, 0, id(2, 0))
	add(t, client, 0, "2-1", "t", "A", "d", "")
	var got []string
	for m := range newReader(t, client, stream.ReaderOptions{Shards: []int{0}, From: "0", Types: []string{"A"}}).Messages(deadline(t)) {
		if got = append(got, m.ID.String()); len(got) == 3 {
			break
		}
	}
	if want := "1-1 2-0 2-1"; strings.Join(got, " ") != want {
		t.Errorf("read %v, want %s", got, want)
	}
}

// A message whose handler fails is not passed: Run returns, and begins with it
// when it is called again.
func TestReaderHandlerFails(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	addEvents(t, client, 0, id(1, 1), id(1, 5))
	r := newReader(t, client, stream.ReaderOptions{Shards: []int{0}, From: "0"})
	errFull := errors.New("full")
	var got []stream.ID
	for want := int64(1); want <= 5; want++ {
		handed := false
		err := r.Run(deadline(t), func(_ context.Context, m stream.Message) error {
			if handed {
				return errFull
			}
			handed = true
			got = append(got, m.ID)
			if m.ID == id(1, 5) {
				return errFull
			}
			return nil
		})
		if !errors.Is(err, errFull) {
			t.Fatalf("Run returns %v", err)
		}
	}
	checkRun(t, got, id(1, 1), id(1, 5))
}

func TestReaderThroughAnOutage(t *testing.T) {
	server := redistest.StartReal(t, "--appendonly", "yes", "--appendfsync", "always")
	client := open(t, server.URL())
	const entries = 100
	addEvents(t, client, 0, id(1, 1), id(1, entries/2))
	var got []stream.ID
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	err := newReader(t, client, stream.ReaderOptions{Shards: []int{0}, From: "0"}).Run(ctx, func(_ context.Context, m stream.Message) error {
		got = append(got, m.ID)
		switch len(got) {
		case entries / 2:
			server.Kill()
			server.Start()
			addEvents(t, client, 0, id(1, entries/2+1), id(1, entries))
		case entries:
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	checkRun(t, got, id(1, 1), id(1, entries))
}

func TestNewReaderRefuses(t *testing.T) {
	for name, opts := range map[string]stream.ReaderOptions{
		"no cluster":     {},
		"no shards":      {Cluster: cluster, Shards: []int{}},
		"negative shard": {Cluster: cluster, Shards: []int{-1}},
		"odd beginning":  {Cluster: cluster, From: "yesterday"},
	} {
		if _, err := stream.NewReader(nil, opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
