package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// leader is the smallest leader that a cluster of workers can live with. It gives ranges without a living owner to the
// first worker that is not draining, moves those of a draining one there, cancels moves whose target is gone, and grants every identify request; what it is told
// to leave to the test it does not do.
type leader struct {
	t    testing.TB
	term *lease.Term

	mu     sync.Mutex
	state  *lease.Cluster
	news   chan struct{} // closed, and replaced, when state changed
	idle   bool
	stingy bool // grants no identify request
}

// lead campaigns, sets the plan, and leads until the test ends.
func (c *cluster) lead() {
	c.t.Helper()
	term, err := c.store.Campaign(c.t.Context(), "leader")
	must(c.t, err)
	_, err = term.SetPlan(c.t.Context(), lease.Plan{Generation: 1, Shards: c.shards, RangeSize: c.rangeSize, GatewayURL: c.gateway})
	must(c.t, err)
	_, err = term.SetBudget(c.t.Context(), lease.Budget{Total: 1000, Remaining: 1000, MaxConcurrency: c.shards})
	must(c.t, err)
	l := &leader{t: c.t, term: term, state: &lease.Cluster{}, news: make(chan struct{})}
	c.leader = l
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = c.store.FollowCluster(ctx, l.apply) })
	all.Go(func() { l.run(ctx) })
	c.t.Cleanup(func() {
		stop()
		all.Wait()
		term.Resign()
	})
}

func (l *leader) apply(u lease.Update) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.state.Apply(u) {
		l.t.Errorf("a record that cannot be read: %v", err)
	}
	l.changed()
	return nil
}

// changed wakes those who wait for news. Callers hold l.mu.
func (l *leader) changed() {
	close(l.news)
	l.news = make(chan struct{})
}

func (l *leader) look() (*lease.Cluster, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Clone(), l.news
}

// setIdle stops or starts the placing of ranges.
func (l *leader) setIdle(idle bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = idle
	l.changed()
}

// setStingy stops or starts granting identify requests.
func (l *leader) setStingy(stingy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stingy = stingy
	l.changed()
}

// await waits until the cluster is so.
func (l *leader) await(what string, so func(*lease.Cluster) bool) *lease.Cluster {
	l.t.Helper()
	late := time.After(patience)
	for {
		state, news := l.look()
		if so(state) {
			return state
		}
		select {
		case <-news:
		case <-late:
			l.t.Fatalf("never came about: %s", what)
		}
	}
}

// act takes one step by hand, and returns its revision.
func (l *leader) act(kind lease.ActionKind, r lease.Range, to lease.Ref) (revision int64) {
	l.t.Helper()
	taken, revision, err := l.term.Apply(context.Background(), []lease.Action{{Kind: kind, Range: r, To: to}})
	if err != nil || len(taken) == 0 {
		l.t.Fatalf("%v of %v: %d steps taken, %v", kind, r.ID, len(taken), err)
	}
	return revision
}

func (l *leader) run(ctx context.Context) {
	for ctx.Err() == nil {
		state, news := l.look()
		l.mu.Lock()
		idle, stingy := l.idle, l.stingy
		l.mu.Unlock()
		if !idle {
			l.place(ctx, state)
		}
		if !stingy && len(state.Halts) == 0 {
			l.grant(ctx, state)
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
}

// place acts on the state. What is refused was decided on an old one, and the news that say so are on their way.
func (l *leader) place(ctx context.Context, state *lease.Cluster) {
	if actions := decide(state); len(actions) > 0 {
		if _, _, err := l.term.Apply(ctx, actions); err != nil && ctx.Err() == nil && !errors.Is(err, lease.ErrFenced) {
			l.t.Errorf("leader: %v", err)
		}
	}
}

// grant opens a slot for every request.
func (l *leader) grant(ctx context.Context, state *lease.Cluster) {
	for _, request := range state.Requests {
		if request.Granted {
			continue
		}
		slot := state.Slots[request.Shard.Shard]
		slot.Bucket = request.Shard.Shard // max_concurrency is the number of shards
		revision, err := l.term.OpenSlots(ctx, state.Budget, lease.Grant{Request: request, Range: state.Plan.RangeOf(request.Shard.Shard), Slot: slot})
		if err == nil {
			state.Budget.Remaining--
			state.Budget.Revision = revision
		}
	}
}

func decide(state *lease.Cluster) (actions []lease.Action) {
	ids := make([]string, 0, len(state.Workers))
	for id, w := range state.Workers {
		if !w.Draining && id != auditor && id != "gone" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for index := range state.Plan.Ranges() {
		id := lease.RangeID{Generation: state.Plan.Generation, Index: index}
		r := state.Ranges[id]
		r.ID = id
		owner, alive := state.Workers[r.Owner.Worker]
		alive = alive && owner.Incarnation == r.Owner.Incarnation
		lost := false
		if r.Move != nil && r.Move.To.Worker != "" {
			target, there := state.Workers[r.Move.To.Worker]
			lost = !there || target.Ref() != r.Move.To
		}
		switch {
		case len(ids) == 0:
		case !alive:
			actions = append(actions, lease.Action{Kind: lease.Assign, Range: r, To: state.Workers[ids[0]].Ref()})
		case lost:
			actions = append(actions, lease.Action{Kind: lease.Cancel, Range: r})
		case owner.Draining && r.Move == nil:
			actions = append(actions, lease.Action{Kind: lease.Intend, Range: r, To: state.Workers[ids[0]].Ref()})
		}
	}
	return actions
}
