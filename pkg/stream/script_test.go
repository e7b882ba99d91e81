package stream

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
)

const scriptKey = "test:{0}:events"

// TestAppendScript holds the rule that everything rests on: a batch is appended
// where it continues the stream, all of it, and nowhere else at all.
func TestAppendScript(t *testing.T) {
	tests := []struct {
		name   string
		stream string   // ids in the stream, "-<id>" for one that was deleted again
		prev   string   // the batch's declared predecessor
		batch  string   // the batch's ids
		reply  string   // the id the stream must end with afterwards
		want   string   // ids in the stream afterwards
		notOn  []string // servers that cannot know
	}{
		{name: "first of all", stream: "", prev: "0-0", batch: "1-1 1-2", reply: "1-2", want: "1-1 1-2"},
		{name: "continues", stream: "1-1 1-2", prev: "1-2", batch: "1-3 1-4", reply: "1-4", want: "1-1 1-2 1-3 1-4"},
		{name: "continues with a new epoch", stream: "1-1", prev: "1-1", batch: "3-0 3-1", reply: "3-1", want: "1-1 3-0 3-1"},
		{name: "an epoch ends within", stream: "1-1", prev: "1-1", batch: "1-2 2-0 2-1", reply: "2-1", want: "1-1 1-2 2-0 2-1"},
		{name: "sequence ends in 0", stream: "1-9", prev: "1-9", batch: "1-10", reply: "1-10", want: "1-9 1-10"},
		{name: "is there already", stream: "1-1 1-2 1-3", prev: "1-1", batch: "1-2 1-3", reply: "1-3", want: "1-1 1-2 1-3"},
		{name: "is there in part", stream: "1-1 1-2", prev: "1-1", batch: "1-2 1-3", reply: "1-2", want: "1-1 1-2"},
		{name: "another is ahead", stream: "1-1 1-2 1-3", prev: "1-1", batch: "1-2", reply: "1-3", want: "1-1 1-2 1-3"},
		{name: "another epoch", stream: "1-1 2-0 2-1", prev: "1-1", batch: "1-2", reply: "2-1", want: "1-1 2-0 2-1"},
		{name: "redis is behind", stream: "1-1", prev: "1-2", batch: "1-3", reply: "1-1", want: "1-1"},
		{name: "redis is behind an epoch", stream: "1-1", prev: "2-0", batch: "2-1", reply: "1-1", want: "1-1"},
		{name: "redis lost the stream", stream: "", prev: "1-2", batch: "1-3", reply: "0-0", want: ""},
		{name: "opens an epoch, the former has gone on", stream: "1-1 1-2 1-3", prev: "1-1", batch: "2-0 2-1", reply: "2-1", want: "1-1 1-2 1-3 2-0 2-1"},
		{name: "opens an epoch, several have gone on", stream: "1-1 2-0 2-10", prev: "1-1", batch: "3-0", reply: "3-0", want: "1-1 2-0 2-10 3-0"},
		{name: "opens an epoch, is there already", stream: "1-1 1-2 2-0 2-1", prev: "1-1", batch: "2-0 2-1", reply: "2-1", want: "1-1 1-2 2-0 2-1"},
		{name: "opens an epoch that has gone on", stream: "1-1 2-0 2-1", prev: "1-1", batch: "2-0", reply: "2-1", want: "1-1 2-0 2-1"},
		{name: "opens an epoch, a later one is open", stream: "1-1 3-0", prev: "1-1", batch: "2-0 2-1", reply: "3-0", want: "1-1 3-0"},
		{name: "opens an epoch, redis is behind", stream: "1-1", prev: "1-2", batch: "2-0", reply: "1-1", want: "1-1"},
		{name: "opens an epoch, redis is behind an epoch", stream: "1-9", prev: "2-1", batch: "3-0", reply: "1-9", want: "1-9"},
		{name: "goes on in an epoch, the former has gone on", stream: "1-1 1-2", prev: "1-1", batch: "2-1", reply: "1-2", want: "1-1 1-2"},
		{name: "first of all, too late", stream: "1-1", prev: "0-0", batch: "1-1 1-2", reply: "1-1", want: "1-1"},
		{name: "only looks", stream: "1-1 1-2", prev: "0-0", batch: "", reply: "1-2", want: "1-1 1-2"},
		{name: "only looks, empty", stream: "", prev: "0-0", batch: "", reply: "0-0", want: ""},

		// An id that was used and deleted is used. Miniredis forgets it.
		{name: "deleted end, continues it", stream: "1-1 1-2 -1-2", prev: "1-2", batch: "1-3", reply: "1-3", want: "1-1 1-3", notOn: []string{"miniredis"}},
		{name: "deleted end, repeats it", stream: "1-1 1-2 -1-2", prev: "1-1", batch: "1-2 1-3", reply: "1-2", want: "1-1", notOn: []string{"miniredis"}},
		{name: "deleted end, new epoch", stream: "1-1 1-2 -1-2", prev: "1-1", batch: "2-0 2-1", reply: "2-1", want: "1-1 2-0 2-1", notOn: []string{"miniredis"}},
		{name: "all deleted, begins again", stream: "1-1 -1-1", prev: "0-0", batch: "1-1 1-2", reply: "1-1", want: "", notOn: []string{"miniredis"}},
		{name: "all deleted, new epoch", stream: "1-1 -1-1", prev: "0-0", batch: "2-0", reply: "2-0", want: "2-0", notOn: []string{"miniredis"}},
		{name: "all deleted, continues", stream: "1-1 -1-1", prev: "1-1", batch: "1-2", reply: "1-2", want: "1-2", notOn: []string{"miniredis"}},
		{name: "only looks, deleted end", stream: "1-1 1-2 -1-2", prev: "0-0", batch: "", reply: "1-2", want: "1-1", notOn: []string{"miniredis"}},
	}
	servers := map[string]func(testing.TB) *redistest.Server{
		"redis":     func(tb testing.TB) *redistest.Server { return redistest.StartReal(tb) },
		"miniredis": redistest.StartMini,
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			client := openTest(t, start(t).URL())
			for _, tt := range tests {
				if slices.Contains(tt.notOn, name) {
					continue
				}
				t.Run(tt.name, func(t *testing.T) {
					fill(t, client, strings.Fields(tt.stream))
					args := []any{tt.prev, 1000}
					for id := range strings.FieldsSeq(tt.batch) {
						args = append(args, id, "TYPE", "data of "+id)
					}
					reply, err := appendScript.Run(t.Context(), client, []string{scriptKey}, args...).Text()
					if err != nil {
						t.Fatal(err)
					}
					if reply != tt.reply {
						t.Errorf("the reply is %s, want %s", reply, tt.reply)
					}
					if got := strings.Join(idsIn(t, client), " "); got != tt.want {
						t.Errorf("the stream holds %q, want %q", got, tt.want)
					}
				})
			}
		})
	}
}

// A marker that is appended after a later entry than its writer knew names that one.
func TestAppendScriptMendsMarkers(t *testing.T) {
	client := openTest(t, redistest.Start(t).URL())
	for _, marker := range []Entry{
		NewGap(2, Gap{Shard: 0, After: ID{1, 1}, Reason: `not "after":"1-1"`}), NewReshard(2, Reshard{After: ID{1, 1}, Generation: 2}),
	} {
		fill(t, client, []string{"1-1", "1-2"})
		if _, err := appendScript.Run(t.Context(), client, []string{scriptKey}, "1-1", 1000, "2-0", marker.Type, marker.Data).Text(); err != nil {
			t.Fatal(err)
		}
		stored := client.XRange(t.Context(), scriptKey, "2-0", "2-0").Val()[0].Values["d"].(string)
		if want := strings.Replace(string(marker.Data), `"after":"1-1"`, `"after":"1-2"`, 1); stored != want {
			t.Errorf("the marker is %s, want %s", stored, want)
		}
	}
}

func TestAppendScriptWrongType(t *testing.T) {
	client := openTest(t, redistest.Start(t).URL())
	if err := client.Set(t.Context(), scriptKey, "not a stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	err := appendScript.Run(t.Context(), client, []string{scriptKey}, "0-0", 1000, "1-1", "TYPE", "{}").Err()
	if !redis.HasErrorPrefix(err, "WRONGTYPE") {
		t.Errorf("error is %v", err)
	}
}

func TestAppendScriptTrims(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	const maxLen, entries = 200, 1000
	prev := ID{}
	for seq := int64(1); seq <= entries; seq++ {
		id := ID{1, seq}
		if err := appendScript.Run(t.Context(), client, []string{scriptKey}, prev.String(), maxLen, id.String(), "TYPE", "{}").Err(); err != nil {
			t.Fatal(err)
		}
		prev = id
	}
	ids := idsIn(t, client)
	if n := len(ids); n < maxLen || n > maxLen+100 { // whole blocks of 100 are trimmed
		t.Errorf("%d entries are kept, want about %d", n, maxLen)
	}
	if last := ids[len(ids)-1]; last != prev.String() {
		t.Errorf("the last entry is %s, want %v", last, prev)
	}
}

func openTest(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	client, err := Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// fill makes the stream hold what ids say.
func fill(t *testing.T, client redis.UniversalClient, ids []string) {
	t.Helper()
	ctx := context.Background()
	if err := client.Del(ctx, scriptKey).Err(); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		var err error
		if deleted, ok := strings.CutPrefix(id, "-"); ok {
			err = client.XDel(ctx, scriptKey, deleted).Err()
		} else {
			err = client.XAdd(ctx, &redis.XAddArgs{Stream: scriptKey, ID: id, Values: []any{"t", "TYPE", "d", "data of " + id}}).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// idsIn returns the stream's ids after a look at what belongs to each.
func idsIn(t *testing.T, client redis.UniversalClient) []string {
	t.Helper()
	entries, err := client.XRange(context.Background(), scriptKey, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range entries {
		if e.Values["t"] != "TYPE" || e.Values["d"] != "data of "+e.ID && e.Values["d"] != "{}" {
			t.Errorf("entry %s is %v", e.ID, e.Values)
		}
		ids = append(ids, e.ID)
	}
	return ids
}
