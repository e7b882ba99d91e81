//go:build unix

package main

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// What a worker does at these paces, worker/status.go and its configuration say.
const (
	leaseTTL       = 10 * time.Second
	reportEvery    = 500 * time.Millisecond
	reportPerShard = 50 * time.Microsecond
	reportChange   = 0.1
	reportAnyway   = 10 * time.Second
	// eventsPerShard is what a shard has in a second, give or take what a mean over some seconds gives or takes.
	eventsPerShard = 10
	eventsNoise    = 0.03
	// goodbye is what it takes to close the sockets of a range and write its last entries.
	goodbye = 20 * time.Millisecond
)

// worker is a simulated worker, in one incarnation. Its loop owns all that is not about one shard.
type worker struct {
	fleet  *fleet
	reg    *lease.Registration
	orders *lease.Orders
	ranges map[lease.RangeID]*heldRange
	wait   map[lease.ShardID]asked // shards that wait for a slot

	updates chan lease.Update
	ended   chan lease.RangeID
	asked   chan asked
	tasks   sync.WaitGroup

	mu     sync.Mutex
	states map[int]lease.ShardStatus
}

// heldRange is a range whose shards run.
type heldRange struct {
	own     lease.Ownership
	leaving bool
}

// asked is a shard that waits for an identify slot.
type asked struct {
	shard    lease.ShardID
	own      lease.Ownership
	session  lease.Session
	revision int64 // of its request
}

// runWorker works until ctx ends, and then dies, as a killed process does: it leaves its registration to expire. If that expires before,
// it begins again, as a worker does.
func runWorker(ctx context.Context, f *fleet, id string) error {
	store, err := lease.Open(lease.Config{Endpoints: []string{f.etcd}, Cluster: cluster})
	if err != nil {
		return err
	}
	defer store.Close()
	for ctx.Err() == nil {
		reg, err := store.Register(ctx, lease.Worker{ID: id, UUID: id, Host: "scale", Capacity: 1, Started: time.Now()}, leaseTTL)
		if err == nil {
			w := &worker{
				fleet: f, reg: reg, orders: reg.NewOrders(), ranges: map[lease.RangeID]*heldRange{}, wait: map[lease.ShardID]asked{},
				updates: make(chan lease.Update), ended: make(chan lease.RangeID), asked: make(chan asked), states: map[int]lease.ShardStatus{},
			}
			err = w.run(ctx)
		}
		if err != nil && ctx.Err() == nil {
			f.failed(err)
			pause(ctx, time.Second)
		}
	}
	return nil
}

// run works until ctx ends or the registration is lost.
func (w *worker) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.tasks.Go(func() {
		if err := w.reg.Keep(ctx); err != nil {
			cancel(err)
		}
	})
	w.tasks.Go(func() {
		_ = w.reg.Follow(ctx, func(u lease.Update) error { // it ends with ctx, without an error
			select {
			case w.updates <- u:
			case <-ctx.Done():
			}
			return nil
		})
	})
	w.tasks.Go(func() { w.report(ctx) })
	w.loop(ctx)
	w.tasks.Wait()
	return context.Cause(ctx)
}

func (w *worker) loop(ctx context.Context) {
	for {
		select {
		case u := <-w.updates:
			if errs := w.orders.Apply(u); errs != nil {
				w.fleet.failed(errors.Join(errs...))
			}
		case id := <-w.ended:
			delete(w.ranges, id)
		case a := <-w.asked:
			w.wait[a.shard] = a
		case <-ctx.Done():
			return
		}
		w.act(ctx)
	}
}

// act does what worker.reconcile says, as far as it happens here.
func (w *worker) act(ctx context.Context) {
	for id, r := range w.ranges {
		a, ordered := w.orders.Assignments[id]
		switch {
		case r.leaving:
		case !ordered, a.Fence != r.own.Fence:
			w.leave(ctx, id, nil)
		case a.HandOver && a.To.Worker == "":
			w.leave(ctx, id, r.own.Release)
		case a.HandOver:
			w.leave(ctx, id, func(ctx context.Context) error { return r.own.HandOver(ctx, a) })
		}
	}
	for id, a := range w.orders.Assignments {
		if w.ranges[id] == nil && !a.HandOver {
			w.start(ctx, id, a)
		}
	}
	for id, request := range w.orders.Requests {
		if a, ok := w.wait[id.Shard]; ok && request.Granted && request.Revision > a.revision {
			delete(w.wait, id.Shard)
			w.tasks.Go(func() { w.identify(ctx, a, request) })
		}
	}
}

// start runs the range's shards.
func (w *worker) start(ctx context.Context, id lease.RangeID, a lease.Assignment) {
	r := &heldRange{own: w.reg.Own(a)}
	w.ranges[id] = r
	for _, shard := range w.orders.Plan.ShardsOf(id) {
		w.setState(shard, lease.ShardStatus{Generation: id.Generation, State: "connecting"})
		w.tasks.Go(func() { w.startShard(ctx, r.own, shard) })
	}
}

// startShard resumes the shard's session, or asks for leave to begin one.
func (w *worker) startShard(ctx context.Context, own lease.Ownership, shard int) {
	for ctx.Err() == nil {
		session, err := own.LoadSession(ctx, shard)
		if err == nil && session.ID != "" {
			w.live(own.Range.Generation, shard, session.Epoch)
			return
		}
		var revision int64
		if err == nil {
			revision, err = own.RequestIdentify(ctx, shard, session.Epoch > 0)
		}
		if err == nil {
			w.setState(shard, lease.ShardStatus{Generation: own.Range.Generation, State: "asking"})
			select {
			case w.asked <- asked{lease.ShardID{Generation: own.Range.Generation, Shard: shard}, own, session, revision}:
			case <-ctx.Done():
			}
			return
		}
		if errors.Is(err, lease.ErrFenced) || ctx.Err() != nil {
			return
		}
		w.fleet.failed(err)
		pause(ctx, time.Second)
	}
}

// identify uses the granted slot. Discord is taken to answer at once.
func (w *worker) identify(ctx context.Context, a asked, grant lease.IdentifyRequest) {
	claim, err := a.own.ClaimSlot(ctx, grant, a.session, 0, w.fleet.shards)
	if err == nil {
		w.fleet.identified.Add(1)
		err = errors.Join(claim.Sent(ctx, time.Now()), claim.SaveSession(ctx, sessionID, resumeURL))
	}
	if err != nil {
		if ctx.Err() == nil {
			w.fleet.failed(err)
			pause(ctx, time.Second)
			w.startShard(ctx, a.own, a.shard.Shard)
		}
		return
	}
	w.live(a.shard.Generation, a.shard.Shard, claim.Epoch)
}

// leave ends the range's shards and passes the range on, if there is a way.
func (w *worker) leave(ctx context.Context, id lease.RangeID, pass func(context.Context) error) {
	w.ranges[id].leaving = true
	shards := w.orders.Plan.ShardsOf(id)
	w.tasks.Go(func() {
		if pass != nil {
			pause(ctx, goodbye)
			if err := pass(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, lease.ErrFenced) {
				w.fleet.failed(err)
			}
		}
		w.forget(shards)
		select {
		case w.ended <- id:
		case <-ctx.Done():
		}
	})
}

func (w *worker) live(generation, shard int, epoch uint64) {
	w.setState(shard, lease.ShardStatus{Generation: generation, State: "live", Epoch: epoch, LatencyMS: 41.234})
}

func (w *worker) setState(shard int, s lease.ShardStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states[shard] = s
}

func (w *worker) forget(shards []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, shard := range shards {
		delete(w.states, shard)
	}
}

// report publishes the status when it is news.
func (w *worker) report(ctx context.Context) {
	pause(ctx, rand.N(reportEvery)) // as of workers that did not start together
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	var last lease.Status
	var sent time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			w.mu.Lock()
			status := lease.Status{Shards: maps.Clone(w.states)}
			w.mu.Unlock()
			status.EventsPerSecond = eventsPerShard * float64(len(status.Shards)) * (1 + eventsNoise*rand.NormFloat64())
			status.BytesPerSecond = 700 * status.EventsPerSecond
			status.Events = last.Events + uint64(status.EventsPerSecond)
			if since := now.Sub(sent); since < time.Duration(w.fleet.shards)*reportPerShard || !news(last, status) && since < reportAnyway {
				continue
			}
			if err := w.reg.Report(ctx, status); err != nil {
				if ctx.Err() == nil {
					w.fleet.failed(err)
				}
				continue
			}
			last, sent = status, now
		}
	}
}

func news(a, b lease.Status) bool {
	return !maps.Equal(a.Shards, b.Shards) || math.Abs(b.EventsPerSecond-a.EventsPerSecond) > reportChange*math.Max(a.EventsPerSecond, 1)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
