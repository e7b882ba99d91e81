package coordinator

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
)

// cluster is a view of ranges of 4 shards, each owned as said ("": nobody) and live if so.
func clusterOf(owners ...string) *api.Cluster {
	v := &api.Cluster{Generation: 1, Shards: 4 * len(owners), Leader: "one", Term: 7, At: epoch}
	seen := map[string]bool{}
	for i, owner := range owners {
		v.Ranges = append(v.Ranges, api.Range{Range: i, First: 4 * i, Last: 4*i + 3, Owner: owner})
		state := api.StateLive
		if owner == "" {
			state = api.StateUnassigned
		}
		for shard := 4 * i; shard < 4*i+4; shard++ {
			v.ShardStates = append(v.ShardStates, api.Shard{Shard: shard, Worker: owner, State: state})
		}
		if owner != "" && !seen[owner] {
			v.Workers = append(v.Workers, api.Worker{ID: owner, Incarnation: 1})
		}
		seen[owner] = true
	}
	for i, w := range v.Workers {
		for _, owner := range owners {
			if owner == w.ID {
				v.Workers[i].Shards += 4
			}
		}
	}
	return v
}

func with(v *api.Cluster, change func(*api.Cluster)) *api.Cluster {
	change(v)
	return v
}

func TestIncidents(t *testing.T) {
	steady := clusterOf("a", "a", "b")
	for name, c := range map[string]struct {
		after *api.Cluster
		want  []string
	}{
		"nothing": {clusterOf("a", "a", "b"), nil},
		"etcd is away": {
			with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.AnsweredBy, v.UnreadSince = "two", new(epoch) }), []string{"etcd does not answer two"},
		},
		"a worker dies": {
			with(clusterOf("a", "a", ""), func(v *api.Cluster) {}),
			[]string{"b is gone, with 4 shards", "nobody has 4 shards of b", "4 of 12 shards are not live"},
		},
		"another takes over at once": {clusterOf("a", "a", "a"), []string{"b is gone, with 4 shards", "4 shards went from b to a"}},
		"many ranges are one sentence": {
			with(clusterOf("b", "b", "b"), func(v *api.Cluster) { v.Workers = append(v.Workers, api.Worker{ID: "a", Incarnation: 1}) }),
			[]string{"8 shards went from a to b"},
		},
		"a worker joins": {
			with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Workers = append(v.Workers, api.Worker{ID: "c"}) }), []string{"c joined"},
		},
		"a worker starts anew":  {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Workers[0].Incarnation = 2 }), []string{"a started anew"}},
		"a worker drains":       {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Workers[0].Draining = true }), []string{"a drains 8 shards"}},
		"another leads":         {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Leader, v.Term = "two", 8 }), []string{"two leads"}},
		"nobody leads":          {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Leader, v.Term = "", 8 }), []string{"nobody leads"}},
		"another generation":    {with(clusterOf("a"), func(v *api.Cluster) { v.Generation = 2; v.Workers = steady.Workers }), []string{"generation 2 with 4 shards is in force"}},
		"sessions are lost":     {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Workers[1].Gaps = 3 }), []string{"3 sessions were lost and began anew: gap markers tell consumers"}},
		"the counters are new":  {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Workers[1].Gaps, v.Workers[1].Incarnation = 3, 2 }), []string{"b started anew"}},
		"the fleet is halted":   {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Halted = []api.Halt{{Worker: "a", Reason: "4014"}} }), []string{"a halted the fleet: 4014"}},
		"an alarm":              {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.Alarm = "no" }), []string{"no"}},
		"one shard is not live": {with(clusterOf("a", "a", "b"), func(v *api.Cluster) { v.ShardStates[3].State = "resuming" }), []string{"1 of 12 shards are not live"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := incidents(steady, c.after); !slices.Equal(got, c.want) {
				t.Errorf("said is %q, want %q", got, c.want)
			}
		})
	}
	lost := with(clusterOf("a", "a", ""), func(v *api.Cluster) { v.Workers = steady.Workers })
	if got, want := incidents(lost, steady), []string{"b took 4 shards that nobody had", "all 12 shards are live"}; !slices.Equal(got, want) {
		t.Errorf("said is %q, want %q", got, want)
	}
}

// What happens to many at once is a sentence for each kind, so that it does not push out all that was before.
func TestIncidentsOfMany(t *testing.T) {
	six, none := clusterOf("a", "b", "c", "d", "e", "f"), clusterOf("", "", "", "", "", "")
	for name, c := range map[string]struct {
		before, after *api.Cluster
		want          []string
	}{
		"die":     {six, none, []string{"6 workers are gone, with 24 shards", "nobody has 24 shards of 6 workers", "24 of 24 shards are not live"}},
		"begin":   {none, six, []string{"6 workers joined", "6 workers took 24 shards that nobody had", "all 24 shards are live"}},
		"pass on": {six, clusterOf("b", "c", "d", "e", "f", "a"), []string{"24 shards went from one worker to another"}},
		"start anew, drain": {
			with(clusterOf("a", "b", "c", "d", "e", "f"), func(v *api.Cluster) { v.Workers[0].Incarnation = 0 }),
			with(clusterOf("a", "b", "c", "d", "e", "f"), func(v *api.Cluster) {
				for i := range v.Workers {
					v.Workers[i].Draining = true
				}
			}),
			[]string{"a started anew", "b drains 4 shards", "c drains 4 shards", "d drains 4 shards", "e drains 4 shards", "f drains 4 shards"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := incidents(c.before, c.after); !slices.Equal(got, c.want) {
				t.Errorf("said is %q, want %q", got, c.want)
			}
		})
	}
}

// What happens within a second is told at once, and the last of it even if nothing follows.
func TestChronicle(t *testing.T) {
	var c chronicle
	at := func(d time.Duration, v *api.Cluster) { v.At = epoch.Add(d); c.note(v) }
	at(0, clusterOf("a", "b"))
	at(200*time.Millisecond, with(clusterOf("a", ""), func(v *api.Cluster) { v.Workers = append(v.Workers, api.Worker{ID: "b", Incarnation: 1}) }))
	at(400*time.Millisecond, clusterOf("a", "a"))
	if _, told := c.read(epoch.Add(900*time.Millisecond), 0, 0); len(told) != 0 {
		t.Fatalf("told within the second: %v", told)
	}
	samples, told := c.read(epoch.Add(time.Second), 0, 0)
	var texts []string
	for _, i := range told {
		texts = append(texts, i.Text)
	}
	if want := []string{"b is gone, with 4 shards", "4 shards went from b to a"}; !slices.Equal(texts, want) || len(samples) != 2 {
		t.Fatalf("told is %q with %d samples, want %q", texts, len(samples), want)
	}
	if samples, told := c.read(epoch.Add(time.Second), samples[1].At, told[0].At); len(samples)+len(told) != 0 {
		t.Errorf("told again: %v, %v", samples, told)
	}
	for i := range 5 * maxSamples {
		at(time.Duration(2+i)*time.Second, with(clusterOf("a", "a"), func(v *api.Cluster) { v.Term = int64(i) }))
	}
	samples, told = c.read(epoch.Add(time.Hour), 0, 0)
	if len(samples) != maxSamples || len(told) != maxIncidents || len(c.samples) > 2*maxSamples || len(c.incidents) > 2*maxIncidents {
		t.Errorf("%d samples and %d incidents, of %d and %d kept", len(samples), len(told), len(c.samples), len(c.incidents))
	}
}
