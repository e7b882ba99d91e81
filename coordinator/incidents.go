package coordinator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/muster-gateway/muster/internal/api"
)

// incidents says in words what happened between two views of the cluster, for people who were not looking. It is a pure function. What is many
// things of one kind is one sentence, so that a lost machine is not a thousand lines.
func incidents(before, after *api.Cluster) (said []string) {
	say := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	switch was, is := before.UnreadSince != nil, after.UnreadSince != nil; {
	case is && !was:
		say("etcd does not answer %s", after.AnsweredBy)
	case was && !is:
		say("etcd answers %s again", after.AnsweredBy)
	}
	if after.Term != before.Term {
		say("%s leads", cmp.Or(after.Leader, "nobody"))
	}
	if after.Generation != before.Generation {
		say("generation %d with %s is in force", after.Generation, shards(after.Shards))
	}
	said = append(said, comings(before, after)...)
	if after.Generation == before.Generation {
		said = append(said, passages(before, after)...)
	}
	said = append(said, health(before, after)...)
	for _, h := range after.Halted {
		if !slices.Contains(before.Halted, h) {
			say("%s halted the fleet: %s", h.Worker, h.Reason)
		}
	}
	if len(before.Halted) > 0 && len(after.Halted) == 0 {
		say("the halt is lifted")
	}
	if after.Alarm != before.Alarm {
		say("%s", cmp.Or(after.Alarm, "the alarm is over"))
	}
	return said
}

// comings are those of workers, and their goings.
func comings(before, after *api.Cluster) (said []string) {
	was, is := byID(before.Workers), byID(after.Workers)
	for _, id := range slices.Sorted(maps.Keys(is)) {
		old, known := was[id]
		switch {
		case !known:
			said = append(said, fmt.Sprintf("%s joined", id))
		case old.Incarnation != is[id].Incarnation:
			said = append(said, fmt.Sprintf("%s started anew", id))
		case is[id].Draining && !old.Draining:
			said = append(said, fmt.Sprintf("%s drains %s", id, shards(is[id].Shards)))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(was)) {
		if _, lives := is[id]; lives {
			continue
		}
		if n := was[id].Shards; n > 0 {
			said = append(said, fmt.Sprintf("%s is gone, with %s", id, shards(n)))
		} else {
			said = append(said, fmt.Sprintf("%s left", id))
		}
	}
	return said
}

func byID(workers []api.Worker) map[string]api.Worker {
	by := make(map[string]api.Worker, len(workers))
	for _, w := range workers {
		by[w.ID] = w
	}
	return by
}

// passages are changes of owner.
func passages(before, after *api.Cluster) (said []string) {
	type passage struct{ from, to string }
	moved := map[passage]int{}
	for i, r := range after.Ranges {
		if i < len(before.Ranges) && before.Ranges[i].Owner != r.Owner {
			moved[passage{before.Ranges[i].Owner, r.Owner}] += r.Last - r.First + 1
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(moved), func(a, b passage) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	}) {
		n := shards(moved[p])
		switch {
		case p.from == "":
			said = append(said, fmt.Sprintf("%s took %s that nobody had", p.to, n))
		case p.to == "":
			said = append(said, fmt.Sprintf("nobody has %s of %s", n, p.from))
		default:
			said = append(said, fmt.Sprintf("%s went from %s to %s", n, p.from, p.to))
		}
	}
	return said
}

// health is about sessions.
func health(before, after *api.Cluster) (said []string) {
	was, is := liveShards(before), liveShards(after)
	all := len(after.ShardStates)
	switch {
	case is == all && was != len(before.ShardStates) && all > 0:
		said = append(said, fmt.Sprintf("all %s are live", shards(all)))
	case is < all && was == len(before.ShardStates) && was > 0:
		said = append(said, fmt.Sprintf("%d of %s are not live", all-is, shards(all)))
	}
	if n := gaps(after, byID(before.Workers)); n > 0 {
		said = append(said, fmt.Sprintf("%d sessions were lost and began anew: gap markers tell consumers", n))
	}
	return said
}

func liveShards(c *api.Cluster) (n int) {
	for _, s := range c.ShardStates {
		if s.State == api.StateLive {
			n++
		}
	}
	return n
}

// gaps is how many more gap markers the workers count than before.
func gaps(after *api.Cluster, was map[string]api.Worker) (n uint64) {
	for _, w := range after.Workers {
		old, known := was[w.ID]
		if known && old.Incarnation == w.Incarnation && w.Gaps > old.Gaps {
			n += w.Gaps - old.Gaps
		}
	}
	return n
}

func shards(n int) string {
	if n == 1 {
		return "1 shard"
	}
	return fmt.Sprintf("%d shards", n)
}
