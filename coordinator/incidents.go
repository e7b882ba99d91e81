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

// maxSaid is how many things of one kind are told one by one; more are one sentence.
const maxSaid = 5

// group is what happened of one kind, to several.
type group struct {
	said   []string // a sentence for each
	shards int      // of all of them
}

func (g *group) add(shards int, sentence string) {
	g.said, g.shards = append(g.said, sentence), g.shards+shards
}

// tell is the sentences, or many for all of them, a format of how many there are and of how many shards.
func (g *group) tell(many string) []string {
	if len(g.said) <= maxSaid {
		return g.said
	}
	return []string{fmt.Sprintf(many, len(g.said), shards(g.shards))}
}

// comings are those of workers, and their goings.
func comings(before, after *api.Cluster) []string {
	var joined, anew, draining, gone, left group
	was, is := byID(before.Workers), byID(after.Workers)
	for _, id := range slices.Sorted(maps.Keys(is)) {
		old, known := was[id]
		switch n := is[id].Shards; {
		case !known:
			joined.add(n, id+" joined")
		case old.Incarnation != is[id].Incarnation:
			anew.add(n, id+" started anew")
		case is[id].Draining && !old.Draining:
			draining.add(n, fmt.Sprintf("%s drains %s", id, shards(n)))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(was)) {
		if _, lives := is[id]; lives {
			continue
		}
		if n := was[id].Shards; n > 0 {
			gone.add(n, fmt.Sprintf("%s is gone, with %s", id, shards(n)))
		} else {
			left.add(0, id+" left")
		}
	}
	return slices.Concat(joined.tell("%[1]d workers joined"), anew.tell("%[1]d workers started anew"), draining.tell("%d workers drain %s"),
		gone.tell("%d workers are gone, with %s"), left.tell("%[1]d workers left"))
}

func byID(workers []api.Worker) map[string]api.Worker {
	by := make(map[string]api.Worker, len(workers))
	for _, w := range workers {
		by[w.ID] = w
	}
	return by
}

// passages are changes of owner.
func passages(before, after *api.Cluster) []string {
	type passage struct{ from, to string }
	moved := map[passage]int{}
	for i, r := range after.Ranges {
		if i < len(before.Ranges) && before.Ranges[i].Owner != r.Owner {
			moved[passage{before.Ranges[i].Owner, r.Owner}] += r.Last - r.First + 1
		}
	}
	var taken, orphaned, passed group
	for _, p := range slices.SortedFunc(maps.Keys(moved), func(a, b passage) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	}) {
		switch n := moved[p]; {
		case p.from == "":
			taken.add(n, fmt.Sprintf("%s took %s that nobody had", p.to, shards(n)))
		case p.to == "":
			orphaned.add(n, fmt.Sprintf("nobody has %s of %s", shards(n), p.from))
		default:
			passed.add(n, fmt.Sprintf("%s went from %s to %s", shards(n), p.from, p.to))
		}
	}
	return slices.Concat(taken.tell("%d workers took %s that nobody had"), orphaned.tell("nobody has %[2]s of %[1]d workers"),
		passed.tell("%[2]s went from one worker to another"))
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
