package coordinator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// patient is how long a test waits for what must come. It is no tolerance: nothing is measured by it.
const patient = time.Minute

var clusters atomic.Int64

// newStore is a cluster of its own on the shared server.
func newStore(t *testing.T) *lease.Store {
	t.Helper()
	return storeAt(t, server.Endpoints(), fmt.Sprintf("c%d", clusters.Add(1)))
}

func storeAt(t *testing.T, endpoints []string, cluster string) *lease.Store {
	t.Helper()
	s, err := lease.Open(lease.Config{Endpoints: endpoints, Cluster: cluster})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// register makes a worker that outlives its test.
func register(t *testing.T, s *lease.Store, id string) *lease.Registration {
	t.Helper()
	r, err := s.Register(context.Background(), lease.Worker{ID: id, UUID: id, Capacity: 1}, 5*time.Minute)
	must(t, err)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// watcher follows a cluster, as a coordinator does.
type watcher struct {
	t       *testing.T
	mu      sync.Mutex
	state   lease.Cluster
	changed chan struct{} // closed, and replaced, when state changes
}

func watch(t *testing.T, s *lease.Store) *watcher {
	w := &watcher{t: t, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() {
		_ = s.FollowCluster(ctx, func(u lease.Update) error { // it ends with ctx, without an error
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, err := range w.state.Apply(u) {
				t.Error(err)
			}
			close(w.changed)
			w.changed = make(chan struct{})
			return nil
		})
	})
	t.Cleanup(func() { cancel(); following.Wait() })
	return w
}

// until waits for the cluster to be as wanted, and returns a copy of it then.
func (w *watcher) until(what string, ok func(*lease.Cluster) bool) *lease.Cluster {
	w.t.Helper()
	deadline := time.After(patient)
	for {
		w.mu.Lock()
		state, changed := w.state.Clone(), w.changed
		w.mu.Unlock()
		if ok(state) {
			return state
		}
		select {
		case <-changed:
		case <-deadline:
			w.t.Fatalf("never: %s; the cluster is %+v", what, state)
		}
	}
}

// owners counts the ranges of each living worker.
func owners(c *lease.Cluster) map[string]int {
	n := map[string]int{}
	for _, r := range c.Ranges {
		if w, ok := c.Workers[r.Owner.Worker]; ok && w.Ref() == r.Owner {
			n[w.ID]++
		}
	}
	return n
}

// order is the assignment that tells the owner of a moving range to hand it over.
func order(r lease.Range) lease.Assignment {
	a := lease.Assignment{Range: r.ID, Fence: r.Fence}
	if r.Move != nil {
		a.HandOver, a.To, a.Move = true, r.Move.To, r.Move.Revision
	}
	return a
}

// office is a leader that acts when a test says so, at times the test chooses, on a real etcd; and worker a, which owns every range.
type office struct {
	t     *testing.T
	store *lease.Store
	lead  *leader
	watch *watcher
	now   time.Time
	a     *lease.Registration
	marks uint64

	status lease.Status // what a reports
}

// newOffice makes a plan of so many shards, a range each, all given to a.
func newOffice(t *testing.T, shards, concurrency, remaining int) *office {
	t.Helper()
	return newOfficeAt(t, newStore(t), shards, concurrency, remaining)
}

func newOfficeAt(t *testing.T, store *lease.Store, shards, concurrency, remaining int) *office {
	t.Helper()
	o := &office{t: t, store: store, watch: watch(t, store), now: epoch, a: register(t, store, "a")}
	o.elect(Config{ID: "leader", Shards: shards, Store: store, Logger: quiet})
	o.told(concurrency, remaining)
	o.act()
	o.pass(joinSettle)
	o.act()
	if got := owners(o.fresh())["a"]; got != shards {
		t.Fatalf("a owns %d ranges, want %d", got, shards)
	}
	return o
}

// elect puts a new leader, which remembers nothing, in office.
func (o *office) elect(cfg Config) {
	o.t.Helper()
	term, err := o.store.Campaign(o.t.Context(), cfg.ID)
	must(o.t, err)
	o.t.Cleanup(term.Resign)
	o.lead = newLeader(New(cfg), term, o.now)
}

// told has Discord answer the leader now.
func (o *office) told(concurrency, remaining int) {
	bot := gatewayBot{asked: o.now, URL: "wss://gateway.test", Shards: 1}
	bot.SessionStartLimit.Total, bot.SessionStartLimit.Remaining = 100, remaining
	bot.SessionStartLimit.MaxConcurrency, bot.SessionStartLimit.ResetAfter = concurrency, 3_600_000
	o.lead.answer = &bot
}

func (o *office) pass(d time.Duration) { o.now = o.now.Add(d) }

// fresh is the cluster as it is in etcd now: with everything written before the call.
func (o *office) fresh() *lease.Cluster {
	o.t.Helper()
	o.marks++
	o.status.Events = o.marks
	must(o.t, o.a.Report(o.t.Context(), o.status))
	return o.watch.until("our mark", func(c *lease.Cluster) bool { return c.Status["a"].Events == o.marks })
}

// act has the leader act on the cluster as it is, and returns when it wants to again, from now; 0 for not at all.
func (o *office) act() time.Duration {
	o.t.Helper()
	again, err := o.lead.act(o.t.Context(), o.fresh(), o.now)
	must(o.t, err)
	if again.IsZero() {
		return 0
	}
	return again.Sub(o.now)
}

// own is a's right to the range of a shard.
func (o *office) own(shard int) lease.Ownership {
	c := o.fresh()
	return o.a.Own(order(c.Ranges[c.Plan.RangeOf(shard)]))
}

func (o *office) request(shard int, repair bool) {
	o.t.Helper()
	_, err := o.own(shard).RequestIdentify(o.t.Context(), shard, repair)
	must(o.t, err)
}

// claim uses the slot that a shard was granted.
func (o *office) claim(shard int) lease.Claim {
	o.t.Helper()
	own := o.own(shard)
	session, err := own.LoadSession(o.t.Context(), shard)
	must(o.t, err)
	granted := o.fresh().Requests[o.id(shard)]
	claim, err := own.ClaimSlot(o.t.Context(), granted, session, 0, 100)
	must(o.t, err)
	return claim
}

func (o *office) id(shard int) lease.RequestID {
	return lease.RequestID{Worker: "a", Shard: lease.ShardID{Generation: 1, Shard: shard}}
}

// expectSlot checks the state of a bucket's slot and whose it is.
func (o *office) expectSlot(bucket int, state lease.SlotState, shard int) {
	o.t.Helper()
	if got := o.fresh().Slots[bucket]; got.State != state || got.Shard.Shard != shard {
		o.t.Fatalf("slot of bucket %d is %q, for shard %d; want %q, for %d", bucket, got.State, got.Shard.Shard, state, shard)
	}
}

func (o *office) expectRemaining(want int) {
	o.t.Helper()
	if got := o.fresh().Budget.Remaining; got != want {
		o.t.Fatalf("%d identifies remain, want %d", got, want)
	}
}
