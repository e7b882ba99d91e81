package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// scene is a snapshot being made: ranges of one shard unless resized, workers that joined long ago.
type scene struct{ snapshot }

func newScene(ranges int) *scene {
	return &scene{snapshot{
		now:     epoch,
		plans:   []lease.Plan{{Generation: 1, Shards: ranges, RangeSize: 1}},
		workers: map[string]lease.Worker{}, ranges: map[lease.RangeID]lease.Range{},
		sightings: sightings{joined: map[lease.Ref]time.Time{}, intended: map[int64]time.Time{}},
		deeds:     deeds{started: map[lease.Ref]burst{}, balanced: map[lease.RangeID]time.Time{}},
	}}
}

// ref makes refs readable: "b" is an incarnation of worker b, "b2" is its next one, and "" is nobody.
func ref(name string) lease.Ref {
	if name == "" {
		return lease.Ref{}
	}
	return lease.Ref{Worker: name[:1], Incarnation: int64(len(name))*100 + int64(name[0]-'a'+1)}
}

// worker adds one that joined so long ago.
func (s *scene) worker(name string, ago time.Duration, opts ...func(*lease.Worker)) *scene {
	w := lease.Worker{ID: ref(name).Worker, Incarnation: ref(name).Incarnation, Capacity: 1}
	for _, opt := range opts {
		opt(&w)
	}
	s.workers[w.ID] = w
	s.joined[w.Ref()] = s.now.Add(-ago)
	return s
}

func draining(w *lease.Worker) { w.Draining = true }

// toDrainByOrder says that workers are to drain, by order.
func toDrainByOrder(names ...string) func(*snapshot) {
	return func(s *snapshot) {
		s.draining = map[lease.Ref]bool{}
		for _, name := range names {
			s.draining[ref(name)] = true
		}
	}
}

func capacity(n int) func(*lease.Worker) { return func(w *lease.Worker) { w.Capacity = n } }

// owned says who has the ranges from first on.
func (s *scene) owned(first int, owners ...string) *scene {
	for i, owner := range owners {
		id := lease.RangeID{Generation: 1, Index: first + i}
		s.ranges[id] = lease.Range{ID: id, Owner: ref(owner), Fence: int64(1000 + id.Index)}
	}
	return s
}

// moving gives a range a move that was intended so long ago.
func (s *scene) moving(index int, to string, ago time.Duration) *scene {
	id := lease.RangeID{Generation: 1, Index: index}
	r := s.ranges[id]
	r.ID, r.Move = id, &lease.Move{To: ref(to), Revision: int64(2000 + index)}
	s.ranges[id] = r
	s.intended[r.Move.Revision] = s.now.Add(-ago)
	return s
}

// spell writes a decision as a person would: "assign 0 b", in order of range.
func spell(d decision) string {
	actions := slices.Clone(d.actions)
	slices.SortFunc(actions, func(a, b lease.Action) int { return a.Range.ID.Compare(b.Range.ID) })
	var words []string
	for _, a := range actions {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%v %d %s", a.Kind, a.Range.ID.Index, a.To.Worker)))
	}
	return strings.Join(words, ", ")
}

const long = time.Hour

func TestPlan(t *testing.T) {
	for _, test := range []struct {
		name       string
		scene      *scene
		want       string
		again      time.Duration // from now; 0: not asked for
		unassigned int
	}{
		{name: "nothing to do", scene: newScene(2).worker("a", long).worker("b", long).owned(0, "a", "b")},
		{name: "no workers", scene: newScene(3), unassigned: 3},
		{
			name:  "cold start waits for joins to settle",
			scene: newScene(2).worker("a", 900*time.Millisecond).worker("b", 300*time.Millisecond),
			again: 700 * time.Millisecond, unassigned: 2,
		},
		{
			name:  "cold start goes on when they have",
			scene: newScene(4).worker("a", 3*time.Second).worker("b", joinSettle),
			want:  "assign 0 a, assign 1 b, assign 2 a, assign 3 b",
		},
		{
			name:  "cold start does not wait for a stream of joins to end",
			scene: newScene(2).worker("a", joinPatience).worker("b", 0),
			want:  "assign 0 a, assign 1 b",
		},
		{
			name:  "the end of patience is asked for",
			scene: newScene(1).worker("a", joinPatience-time.Millisecond).worker("b", 0),
			again: time.Millisecond, unassigned: 1,
		},
		{
			name:  "ranges of a fleet that died wait for joins too",
			scene: newScene(2).worker("c", 0).owned(0, "a", "b"),
			again: joinSettle, unassigned: 2,
		},
		{
			name:  "a takeover does not wait for a worker that joins",
			scene: newScene(2).worker("b", long).worker("c", 0).owned(0, "a", "b"),
			want:  "assign 0 c",
		},
		{
			name:  "a draining worker that joins now is not waited for",
			scene: newScene(1).worker("a", joinSettle).worker("b", 0, draining),
			want:  "assign 0 a",
		},
		{
			name:  "a released range is an orphan",
			scene: newScene(2).worker("a", long).worker("b", long).owned(0, "", "b"),
			want:  "assign 0 a",
		},
		{
			name:  "an orphan goes to the target of its move, though another has less to do",
			scene: newScene(4).worker("b", long).worker("c", long).owned(0, "a", "b", "b", "c").moving(0, "b", 0),
			want:  "assign 0 b",
		},
		{
			name:  "an orphan whose move's target is dead goes to the least loaded",
			scene: newScene(3).worker("b", long).worker("c", long).owned(0, "a", "b", "b").moving(0, "d", 0),
			want:  "assign 0 c",
		},
		{
			name:  "an orphan whose move's target drains goes to another",
			scene: newScene(1).worker("b", long, draining).worker("c", long).owned(0, "a").moving(0, "b", 0),
			want:  "assign 0 c",
		},
		{
			name:  "an orphan whose move named nobody goes to somebody",
			scene: newScene(1).worker("b", long).owned(0, "a").moving(0, "", 0),
			want:  "assign 0 b",
		},
		{
			name:  "a move without an owner is no obstacle",
			scene: newScene(1).worker("b", long).moving(0, "b", 0),
			want:  "assign 0 b",
		},
		{
			name:  "an orphan goes back to the same worker, at once, rather than to one with as little",
			scene: newScene(3).worker("a", long).worker("b2", 0).owned(0, "b", "b", "a"),
			want:  "assign 0 b, assign 1 b",
		},
		{
			name:  "but not if that overloads it",
			scene: newScene(7).worker("a", long).worker("b2", long).owned(0, "b2", "b2", "b2", "b2", "b", "b", "b"),
			want:  "assign 4 a, assign 5 a, assign 6 a",
		},
		{
			name:  "and not if it drains",
			scene: newScene(1).worker("a", long).worker("b2", long, draining).owned(0, "b"),
			want:  "assign 0 a",
		},
		{
			name:  "nobody but draining workers: unassigned",
			scene: newScene(2).worker("a", long, draining).owned(0, "b", "b"), unassigned: 2,
		},
		{
			name:  "nobody but workers that are to drain by order: they live on, and the least utilised gets what nobody runs",
			scene: newScene(3).worker("a", long).worker("c", long).owned(0, "a", "b", "b").with(toDrainByOrder("a", "c")),
			want:  "assign 1 c, assign 2 a",
		},
		{
			name:  "but not one that wants to leave too",
			scene: newScene(2).worker("a", long, draining).worker("c", long).owned(0, "b", "b").with(toDrainByOrder("a", "c")),
			want:  "assign 0 c, assign 1 c",
		},
		{
			name:  "nor one that is cut off from redis",
			scene: newScene(1).worker("a", long).owned(0, "b").with(toDrainByOrder("a")).with(func(s *snapshot) { s.cut = map[string]bool{"a": true} }), unassigned: 1,
		},
		{
			name:  "nor if there is anybody else",
			scene: newScene(1).worker("a", long).worker("c", long).owned(0, "b").with(toDrainByOrder("a")),
			want:  "assign 0 c",
		},
		{
			name:  "nor if that has no room, which is another alarm",
			scene: newScene(2).worker("a", long).worker("c", long, atMost(1)).owned(0, "b", "c").with(toDrainByOrder("a")), unassigned: 1,
		},
		{
			name:  "nor one without room",
			scene: newScene(2).worker("a", long, atMost(1)).owned(0, "b", "b").with(toDrainByOrder("a")),
			want:  "assign 0 a", unassigned: 1,
		},
		{
			name:  "where it stays until there is somebody else",
			scene: newScene(1).worker("a", long).owned(0, "a").with(toDrainByOrder("a")),
		},
		{
			name:  "capacity counts",
			scene: newScene(6).worker("a", long).worker("b", long, capacity(2)),
			want:  "assign 0 b, assign 1 a, assign 2 b, assign 3 b, assign 4 a, assign 5 b",
		},
		{
			name:  "of two that would be equally busy it is the smaller, since the larger misses it less",
			scene: newScene(4).worker("a", long, capacity(4)).worker("b", long),
			want:  "assign 0 a, assign 1 a, assign 2 a, assign 3 b",
		},
		{
			name:  "the heaviest is given first, and the lighter ones even out what it left",
			scene: newScene(3).worker("a", long).worker("b", long).loaded(0, 0, 20),
			want:  "assign 0 b, assign 1 b, assign 2 a",
		},
		{
			name:  "a tenfold worker is not given less for being busy, so that balance would have to correct it",
			scene: newScene(3).worker("a", long).worker("b", long, capacity(10)),
			want:  "assign 0 b, assign 1 b, assign 2 b",
		},
		{
			name:  "a capacity that makes no sense counts as one",
			scene: newScene(2).worker("a", long, capacity(0)).worker("b", long, capacity(-7)),
			want:  "assign 0 a, assign 1 b",
		},
		{
			name:  "load is counted in shards, and the last range can have fewer",
			scene: newScene(3).sized(9, 4).worker("a", long).worker("b", long).owned(0, "a", "", "b"),
			want:  "assign 1 b",
		},
		{
			name:  "drain",
			scene: newScene(4).worker("a", long, draining).worker("b", long).worker("c", long).owned(0, "a", "a", "a", "c"),
			want:  "intend 0 b, intend 1 b, intend 2 c",
		},
		{
			name:  "drain with nobody to take over: release",
			scene: newScene(2).worker("a", long, draining).worker("b", long, draining).owned(0, "a", "b"),
			want:  "intend 0, intend 1",
		},
		{
			name:  "a handover under way is left alone",
			scene: newScene(1).worker("a", long, draining).worker("b", long).owned(0, "a").moving(0, "b", forceAfter-time.Second),
			again: time.Second,
		},
		{
			name:  "a hung handover is forced",
			scene: newScene(1).worker("a", long, draining).worker("b", long).owned(0, "a").moving(0, "b", forceAfter),
			want:  "force 0 b",
		},
		{
			name:  "a hung release is cancelled, to be decided on anew",
			scene: newScene(1).worker("a", long, draining).owned(0, "a").moving(0, "", forceAfter),
			want:  "cancel 0",
		},
		{
			name:  "a release under way is left alone",
			scene: newScene(1).worker("a", long, draining).owned(0, "a").moving(0, "", time.Second),
			again: 9 * time.Second,
		},
		{
			name:  "a move to a dead worker is cancelled at once",
			scene: newScene(1).worker("a", long).worker("c", long).owned(0, "a").moving(0, "b", 0),
			want:  "cancel 0",
		},
		{
			name:  "a move to an earlier incarnation too",
			scene: newScene(1).worker("a", long).worker("b2", long).owned(0, "a").moving(0, "b", 0),
			want:  "cancel 0",
		},
		{
			name:  "a move to a worker that drains now too, and never forced",
			scene: newScene(1).worker("a", long).worker("b", long, draining).owned(0, "a").moving(0, "b", forceAfter),
			want:  "cancel 0",
		},
		{
			name:  "balance waits for joins to settle",
			scene: newScene(4).worker("a", long).worker("b", time.Second).owned(0, "a", "a", "a", "a"),
			again: 2 * time.Second,
		},
		{
			name:  "balance",
			scene: newScene(4).worker("a", long).worker("b", balanceSettle).owned(0, "a", "a", "a", "a"),
			want:  "intend 0 b, intend 1 b",
		},
		{
			name:  "balance moves two of a hundred at a time",
			scene: newScene(100).worker("a", long).worker("b", long).owned(0, slices.Repeat([]string{"a"}, 100)...),
			want:  "intend 0 b, intend 1 b",
		},
		{
			name:  "an unevenness of one is even",
			scene: newScene(3).worker("a", long).worker("b", long).owned(0, "a", "a", "b"),
		},
		{
			name:  "balance waits for repair",
			scene: newScene(4).worker("a", long).worker("b", long).owned(0, "a", "a", "a", "c"),
			want:  "assign 3 b",
		},
		{
			name:  "balance goes on beside moves under way, two from one worker and two to one",
			scene: newScene(9).worker("a", long).worker("b", long).worker("c", long).owned(0, slices.Repeat([]string{"a"}, 9)...).moving(4, "b", 0),
			want:  "intend 0 c", again: forceAfter,
		},
		{
			name:  "a worker that no one knows, with no incarnation, is not alive",
			scene: newScene(1).worker("a", long).withOwner(lease.Ref{Worker: "x"}),
			want:  "assign 0 a",
		},
		{
			name:  "ranges beyond the plan or of another generation are nobody's business",
			scene: newScene(1).worker("a", long).worker("b", long).owned(0, "a").beyond(),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := plan(test.scene.snapshot)
			if spell(got) != test.want {
				t.Errorf("decided\n%s\nwant\n%s", spell(got), test.want)
			}
			var again time.Duration
			if !got.again.IsZero() {
				again = got.again.Sub(epoch)
			}
			if again != test.again || got.unassigned != test.unassigned {
				t.Errorf("again in %v with %d unassigned, want %v with %d", again, got.unassigned, test.again, test.unassigned)
			}
		})
	}
}

func (s *scene) sized(shards, size int) *scene {
	s.plans[0].Shards, s.plans[0].RangeSize = shards, size
	return s
}

func (s *scene) withOwner(owner lease.Ref) *scene {
	id := lease.RangeID{Generation: 1}
	s.ranges[id] = lease.Range{ID: id, Owner: owner, Fence: 5}
	return s
}

// beyond adds ranges that the plan does not have, each with a move.
func (s *scene) beyond() *scene {
	for _, id := range []lease.RangeID{{Generation: 1, Index: 5}, {Generation: 2, Index: 0}} {
		s.ranges[id] = lease.Range{ID: id, Owner: ref("a"), Fence: 7, Move: &lease.Move{To: ref("b"), Revision: 9}}
	}
	return s
}

func TestPlanBoundsMoves(t *testing.T) {
	everything := slices.Repeat([]string{"a"}, 10_000)
	drain := newScene(10_000).worker("a", long, draining).worker("b", long).owned(0, everything...)
	if got := len(plan(drain.snapshot).actions); got != maxMoves {
		t.Errorf("drain: %d moves at once, want %d", got, maxMoves)
	}
	underWay := newScene(3).worker("a", long, draining).worker("b", long).owned(0, "a", "a", "a").moving(0, "b", time.Second)
	if got := spell(plan(underWay.snapshot)); got != "intend 1 b, intend 2 b" {
		t.Errorf("beside a move under way: %s", got)
	}
}

func TestRangeSize(t *testing.T) {
	for _, test := range []struct{ shards, want int }{
		{1, 1}, {511, 1}, {512, 2}, {1000, 2}, {1024, 4}, {2048, 8}, {4096, 16}, {100_000, 16},
	} {
		if got := rangeSize(test.shards); got != test.want {
			t.Errorf("%d shards: ranges of %d, want %d", test.shards, got, test.want)
		}
	}
}

// finishing has the former generation of so many ranges brought to its end.
func (s *scene) finishing(ranges int, owners ...string) *scene {
	s.former = lease.Plan{Shards: ranges, RangeSize: 1}
	s.plans[0].Generation, s.former.Generation = 2, 1
	old := s.ranges
	s.ranges = map[lease.RangeID]lease.Range{}
	for id, r := range old { // what was owned is of the generation in force
		id.Generation = 2
		r.ID = id
		s.ranges[id] = r
	}
	for i, owner := range owners {
		if owner == "-" {
			continue // at its end
		}
		id := lease.RangeID{Generation: 1, Index: i}
		s.ranges[id] = lease.Range{ID: id, Owner: ref(owner), Fence: int64(3000 + i)}
	}
	return s
}

// What is left of a former generation is brought to its end wherever somebody lives to do it; what is at its end is not begun again.
func TestPlanOfAFormerGeneration(t *testing.T) {
	for name, test := range map[string]struct {
		scene *scene
		want  string
	}{
		"goes on where it is":           {newScene(2).worker("a", long).worker("b", long).owned(0, "a", "b").finishing(4, "a", "a", "a", "a"), ""},
		"is not begun again":            {newScene(2).worker("a", long).worker("b", long).owned(0, "a", "b").finishing(2, "-", "-"), ""},
		"goes on elsewhere after death": {newScene(1).worker("a", long).owned(0, "a").finishing(3, "a", "-", "dead"), "assign 2 a"},
		"is drained":                    {newScene(1).worker("a", long).worker("b", long, draining).owned(0, "a").finishing(2, "b", "a"), "intend 0 a"},
	} {
		if got := spell(plan(test.scene.snapshot)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
