package stream

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/internal/redistest"
)

func membersOf(ids []string) []member {
	members := make([]member, len(ids))
	for i, id := range ids {
		members[i] = member{id: id}
	}
	return members
}

func upTo(n int) []int {
	shards := make([]int, n)
	for i := range shards {
		shards[i] = i
	}
	return shards
}

var drawIDs = rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}-[0-9A-Z]{4}`), 1, 12, rapid.ID)

// Each shard is one member's, whoever asks and in whatever order he knows the
// members; nobody has more than a fair share, rounded up.
func TestAssignIsFairAndTheSameForAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := drawIDs.Draw(t, "ids")
		shards := upTo(rapid.IntRange(0, 200).Draw(t, "shards"))
		owners := assign(shards, membersOf(ids))
		load := map[string]int{}
		for _, shard := range shards {
			if !slices.Contains(ids, owners[shard]) {
				t.Fatalf("shard %d is %q's", shard, owners[shard])
			}
			load[owners[shard]]++
		}
		for id, n := range load {
			if share := (len(shards) + len(ids) - 1) / len(ids); n > share {
				t.Errorf("%s has %d shards of %d, with %d members", id, n, len(shards), len(ids))
			}
		}
		other := rapid.Permutation(ids).Draw(t, "other order")
		if again := assign(rapid.Permutation(shards).Draw(t, "other shards"), membersOf(other)); !maps.Equal(owners, again) {
			t.Errorf("in another order: %v, not %v", again, owners)
		}
	})
}

// When a member comes, most shards stay where they are.
func TestAssignMovesLittle(t *testing.T) {
	for members := 1; members < 8; members++ {
		const shards = 240
		var ids []string
		for i := range members + 1 {
			ids = append(ids, fmt.Sprintf("host-%d", i))
		}
		before, after := assign(upTo(shards), membersOf(ids[:members])), assign(upTo(shards), membersOf(ids))
		moved := 0
		for shard, owner := range before {
			if after[shard] != owner {
				moved++
			}
		}
		if due := shards / (members + 1); moved > 2*due {
			t.Errorf("of %d shards %d move when %d members get one more; %d would do", shards, moved, members, due)
		}
	}
}

func TestAssignGivesAShardToWhoReadsIt(t *testing.T) {
	members := []member{{id: "a", shards: []int{0, 1, 2}}, {id: "b", shards: []int{2, 3}}, {id: "c", shards: []int{9}}}
	owners := assign(upTo(6), members)
	for shard, readers := range map[int][]string{0: {"a"}, 1: {"a"}, 2: {"a", "b"}, 3: {"b"}, 4: {""}, 5: {""}} {
		if !slices.Contains(readers, owners[shard]) {
			t.Errorf("shard %d is %q's, want one of %v", shard, owners[shard], readers)
		}
	}
}

// After an exchange with nobody in the way a member has what it should have, and
// what it gives up it did have.
func TestExchange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owners := rapid.MapOf(rapid.IntRange(0, 30), rapid.SampledFrom([]string{"me", "you"})).Draw(t, "owners")
		holds := rapid.MapOf(rapid.IntRange(0, 30), rapid.Just(true)).Draw(t, "holds")
		give, take := exchange("me", owners, holds)
		has := maps.Clone(holds)
		for _, shard := range give {
			if !has[shard] {
				t.Errorf("gives up %d, which it does not have", shard)
			}
			delete(has, shard)
		}
		for _, shard := range take {
			if has[shard] {
				t.Errorf("takes %d, which it has", shard)
			}
			has[shard] = true
		}
		for shard := range 31 {
			if should := owners[shard] == "me"; has[shard] != should {
				t.Errorf("has shard %d: %v, should: %v", shard, has[shard], should)
			}
		}
	})
}

func TestMayHaveSkipped(t *testing.T) {
	gap := func(epoch uint64, after ID) Message {
		e := NewGap(epoch, Gap{After: after})
		return Message{ID: e.ID, Type: e.Type, Data: e.Data}
	}
	event := func(id ID) Message { return Message{ID: id, Type: "TEST"} }
	for _, tt := range []struct {
		name  string
		after ID
		next  Message
		want  bool
	}{
		{"the next", ID{1, 5}, event(ID{1, 6}), false},
		{"one is missing", ID{1, 5}, event(ID{1, 7}), true},
		{"the first of all", ID{}, event(ID{1, 1}), false},
		{"the first of all is missing", ID{}, event(ID{1, 2}), true},
		{"a marker is the first of all", ID{}, gap(3, ID{}), false},
		{"a marker", ID{1, 5}, gap(2, ID{1, 5}), false},
		{"a marker after more", ID{1, 5}, gap(2, ID{1, 9}), true},
		{"an epoch without its marker", ID{1, 5}, event(ID{2, 1}), true},
		{"a marker that cannot be read", ID{1, 5}, Message{ID: ID{2, 0}, Type: GapType, Data: []byte("?")}, true},
		{"again", ID{1, 5}, event(ID{1, 3}), false},
	} {
		if got := mayHaveSkipped(tt.after, tt.next); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// What a member that lost its lease asks for is refused, and leaves no trace.
func TestScriptsNeedTheLease(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	ctx := t.Context()
	g := newGroup(testReader(t, client, ReaderOptions{Group: "g", Shards: []int{0}}), nil)
	keys := g.keys(0)
	addRun(t, client, 0, 1, 10)
	for _, script := range []*redis.Script{enterScript, readScript, takeScript, countScript, giveUpScript, releaseScript} {
		if err := client.Set(ctx, keys[1], "other/1", 0).Err(); err != nil {
			t.Fatal(err)
		}
		err := script.Run(ctx, client, keys, "me/1", "g", "me", "-", "10", "reason", "1", "t", "x").Err()
		if err != redis.Nil {
			t.Errorf("error %v, want redis: nil", err)
		}
	}
	if n := client.Exists(ctx, keys[2]).Val(); n != 0 {
		t.Error("there is a dead letter")
	}
	if groups, err := client.XInfoGroups(ctx, keys[0]).Result(); err != nil || len(groups) > 0 {
		t.Errorf("groups %v, error %v", groups, err)
	}
	if v := client.Get(ctx, keys[1]).Val(); v != "other/1" {
		t.Errorf("the lease is %s", v)
	}
	held, _, err := parseHold(holdScript.Run(ctx, client, keys, "me/1", 1000).Slice())
	if held != "other/1" || err != nil {
		t.Errorf("the lease is %s, error %v", held, err)
	}
}

// Entries whose outcome is not known are moved to the dead letters once.
func TestBuryTwice(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	ctx := t.Context()
	g := newGroup(testReader(t, client, ReaderOptions{Group: "g", Shards: []int{0}}), nil)
	keys := g.keys(0)
	addRun(t, client, 0, 1, 1)
	client.Set(ctx, keys[1], "me/1", 0)
	client.XGroupCreate(ctx, keys[0], "g", "0")
	if _, err := readScript.Run(ctx, client, keys, "me/1", "g", "me", 10).Result(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := giveUpScript.Run(ctx, client, keys, "me/1", "g", "1-1", 10, "reason", 1, "t", "x", "d", "y").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n := client.XLen(ctx, keys[2]).Val(); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

// An entry whose dead letter cannot be written is not acknowledged either.
func TestBuryWhereItCannotBeWritten(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	ctx := t.Context()
	g := newGroup(testReader(t, client, ReaderOptions{Group: "g", Shards: []int{0}}), nil)
	keys := g.keys(0)
	addRun(t, client, 0, 1, 1)
	client.Set(ctx, keys[1], "me/1", 0)
	client.XGroupCreate(ctx, keys[0], "g", "0")
	if _, err := readScript.Run(ctx, client, keys, "me/1", "g", "me", 10).Result(); err != nil {
		t.Fatal(err)
	}
	client.Set(ctx, keys[2], "of another type", 0)
	if err := giveUpScript.Run(ctx, client, keys, "me/1", "g", "1-1", 10, "reason", 1, "t", "x", "d", "y").Err(); err == nil {
		t.Error("no error")
	}
	if pending := client.XPending(ctx, keys[0], "g").Val(); pending == nil || pending.Count != 1 {
		t.Errorf("pending: %+v", pending)
	}
}

func FuzzParseMember(f *testing.F) {
	f.Add("host-ABC")
	f.Add("host-ABC 1,2,3")
	f.Add(" 1")
	f.Add("a ,")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMember(s)
		if err != nil {
			return
		}
		again, err := parseMember(m.String())
		if err != nil || again.id != m.id || !slices.Equal(again.shards, m.shards) {
			t.Errorf("%q is %+v, and then %+v, error %v", s, m, again, err)
		}
	})
}

// fuzzReply makes a reply of Redis of any shape out of bytes.
func fuzzReply(data []byte, depth int) (reply any, rest []byte) {
	if len(data) == 0 || depth > 4 {
		return nil, nil
	}
	kind, n, data := data[0]%4, int(data[0]/4), data[1:]
	switch kind {
	case 0:
		return nil, data
	case 1:
		return int64(n), data
	case 2:
		n = min(n, len(data))
		return string(data[:n]), data[n:]
	}
	list := make([]any, 0, n)
	for range n {
		var item any
		item, data = fuzzReply(data, depth+1)
		list = append(list, item)
	}
	return list, data
}

func FuzzParseReplies(f *testing.F) {
	f.Add([]byte("\x07\x0b\x0e1-1\x13\x06t\x06A\x06d\x0a{}"))
	f.Add([]byte("\x07\x0f\x0e1-1\x05\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		reply, _ := fuzzReply(data, 0)
		read, err := parseRead(reply)
		if list, isList := reply.([]any); err == nil && (!isList || len(list) != len(read)) {
			t.Errorf("%v is read as %v", reply, read)
		}
		pending, _ := parsePending(reply)
		for _, d := range append(read, pending...) {
			if m, err := d.message(5); err == nil && (m.Type == "" || m.ID.String() != d.id || m.Shard != 5) {
				t.Errorf("%+v is read as %+v", d, m)
			}
		}
		list, _ := reply.([]any)
		if held, depth, err := parseHold(list, nil); err == nil && (list[0] != held || list[1] != depth) {
			t.Errorf("%v is read as a lease of %s", list, held)
		}
	})
}

func FuzzParseKnown(f *testing.F) {
	f.Add("16", "32")
	f.Add("-1", "99999999999999999999")
	f.Fuzz(func(t *testing.T, first, most string) {
		a, b, err := parseKnown([]string{first, most})
		if err == nil && (a < 0 || b < 0) {
			t.Errorf("%q, %q is read as %d, %d", first, most, a, b)
		}
	})
}
