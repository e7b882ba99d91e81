package stream

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// member is a process that reads with a group, as it is registered in
// readersKey: "<id>", or "<id> <shard>,<shard>…" if it reads only some.
type member struct {
	id     string
	shards []int // nil: all
}

func (m member) String() string {
	if m.shards == nil {
		return m.id
	}
	texts := make([]string, len(m.shards))
	for i, shard := range m.shards {
		texts[i] = strconv.Itoa(shard)
	}
	return m.id + " " + strings.Join(texts, ",")
}

func (m member) reads(shard int) bool { return m.shards == nil || slices.Contains(m.shards, shard) }

func parseMember(s string) (member, error) {
	id, list, some := strings.Cut(s, " ")
	m := member{id: id}
	if id == "" {
		return member{}, fmt.Errorf("member %q has no id", s)
	}
	if !some {
		return m, nil
	}
	for text := range strings.SplitSeq(list, ",") {
		shard, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return member{}, fmt.Errorf("member %q: shard %q", s, text)
		}
		m.shards = append(m.shards, int(shard))
	}
	return m, nil
}

// assign spreads shards over members: every member that knows the same comes to
// the same result, without a word to the others. A shard goes to the member with
// the highest score for it (rendezvous hashing), so that most stay where they are
// when members come and go; but nobody gets more than a fair share, rounded up,
// while others that read the shard have less. A shard that no member reads is
// nobody's.
func assign(shards []int, members []member) map[int]string {
	owners := make(map[int]string, len(shards))
	if len(members) == 0 {
		return owners
	}
	share := (len(shards) + len(members) - 1) / len(members)
	load := make(map[string]int, len(members))
	for _, shard := range slices.Sorted(slices.Values(shards)) {
		var best string
		var bestRank [2]uint64
		for _, m := range members {
			if !m.reads(shard) {
				continue
			}
			rank := [2]uint64{0, score(m.id, shard)}
			if load[m.id] < share {
				rank[0] = 1
			}
			order := cmp.Or(cmp.Compare(rank[0], bestRank[0]), cmp.Compare(rank[1], bestRank[1]), cmp.Compare(m.id, best))
			if best == "" || order > 0 {
				best, bestRank = m.id, rank
			}
		}
		if best != "" {
			owners[shard] = best
			load[best]++
		}
	}
	return owners
}

func score(id string, shard int) uint64 { return xxhash.Sum64String(id + " " + strconv.Itoa(shard)) }

// exchange says what a member does about the shards it holds, given whose each
// should be: those to give up, and those to take.
func exchange(self string, owners map[int]string, holds map[int]bool) (give, take []int) {
	for shard := range holds {
		if owners[shard] != self {
			give = append(give, shard)
		}
	}
	for shard, owner := range owners {
		if owner == self && !holds[shard] {
			take = append(take, shard)
		}
	}
	slices.Sort(give)
	slices.Sort(take)
	return give, take
}
