package worker

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// incarnation is a worker from one registration to its end. Its loop owns all state; ranges run in goroutines of their own and
// report their end to it.
type incarnation struct {
	worker *Worker
	reg    *lease.Registration
	log    hclog.Logger
	grants *grants
	board  *board // what the shards say of themselves

	orders    *lease.Orders
	ranges    map[lease.RangeID]*heldRange
	standbys  map[lease.RangeID]*standby // for ranges that are to be handed over to us
	announced int                        // generation of the last plan that consumers were, or are being, told of
	plan      *planView
	halted    atomic.Bool
	turns     chan struct{} // holds a token for each shard that is between muted and live
	down      atomic.Bool
	doubted   bool // the registration is not trusted, and that matters
	resting   bool // nothing was to run when we last acted

	updates  chan lease.Update
	refusals chan lease.Refusal
	doubts   chan bool
	ended    chan rangeEnd
	waited   chan waitEnd
	tasks    errgroup.Group // beside the loop
}

type heldRange struct {
	held
	cancel context.CancelCauseFunc // ends the run; its cause is the farewell
	finish chan struct{}           // closed: the shards are to be finished
}

func newIncarnation(w *Worker, reg *lease.Registration) *incarnation {
	return &incarnation{
		worker: w, reg: reg, log: w.log.With("incarnation", reg.Ref().Incarnation),
		grants: newGrants(), board: newBoard(), plan: newPlanView(), turns: make(chan struct{}, maxTurns), orders: reg.NewOrders(),
		ranges: map[lease.RangeID]*heldRange{}, standbys: map[lease.RangeID]*standby{},
		updates: make(chan lease.Update), refusals: make(chan lease.Refusal), doubts: make(chan bool),
		ended: make(chan rangeEnd), waited: make(chan waitEnd),
	}
}

// run works until ctx ends and everything is handed over (nil), or until the registration is lost (lease.ErrLost) and all
// sockets are closed. When it returns nothing of this incarnation runs any more.
func (in *incarnation) run(ctx, life context.Context) error {
	life, end := context.WithCancelCause(life)
	defer end(nil)
	in.tasks.Go(func() error {
		if err := in.reg.Keep(life); err != nil {
			end(err)
		}
		return nil
	})
	in.tasks.Go(func() error { return in.reg.Follow(life, in.deliver(life)) })
	in.tasks.Go(func() error { return in.worker.probe(life) })
	in.tasks.Go(func() error { return in.worker.watchSiblings(life) })
	in.tasks.Go(func() error { return in.worker.metrics.lag.watch(life) })
	in.tasks.Go(func() error { return in.report(life) })
	in.tasks.Go(func() error { return in.tellRefusals(life) })
	in.tasks.Go(func() error { return in.noteMuted(life) })
	if in.worker.cfg.Strict {
		in.tasks.Go(func() error { return in.watchTrust(life) })
	}
	in.loop(ctx, life, end)
	cause := context.Cause(life)
	end(nil)
	err := in.tasks.Wait()
	in.leave(life) // also what was lost: an etcd that was restored from a backup may still have it
	if errors.Is(cause, lease.ErrLost) {
		return cause
	}
	return err
}

func (in *incarnation) deliver(life context.Context) func(lease.Update) error {
	return func(u lease.Update) error {
		select {
		case in.updates <- u:
		case <-life.Done():
		}
		return nil
	}
}

// errLate says that ranges could not be given up before the process had to end.
var errLate = errors.New("ranges not released in time")

// loop follows orders until ctx has ended and nothing is held, or until life ends. It ends life itself when draining takes
// longer than the process may.
func (in *incarnation) loop(ctx, life context.Context, end context.CancelCauseFunc) {
	stop, posture := ctx.Done(), serving
	late := time.NewTimer(0)
	late.Stop()
	defer late.Stop()
	for {
		select {
		case u := <-in.updates:
			in.apply(life, u)
		case e := <-in.ended:
			in.settle(e)
		case e := <-in.waited:
			in.giveUpOn(e)
		case in.doubted = <-in.doubts:
		case <-stop:
			stop = nil
			in.log.Info("draining", "ranges", len(in.ranges))
			in.drain(life)
			late.Reset(in.worker.timings.drain)
		case <-late.C:
			if posture == leaving {
				in.log.Warn("ranges could not be released in time; the leader will take them", "ranges", len(in.ranges))
				end(errLate)
				break
			}
			posture = leaving
			in.log.Warn("nobody took over in time; releasing what is left", "ranges", len(in.ranges))
			late.Reset(in.worker.timings.release)
		case <-life.Done():
			in.abandon()
			return
		}
		in.act(life, posture)
		if stop == nil && in.idle(posture) {
			in.log.Info("drained")
			return
		}
	}
}

func (in *incarnation) apply(life context.Context, u lease.Update) {
	for _, err := range in.orders.Apply(u) {
		in.log.Error("record in etcd ignored", "error", err)
	}
	in.plan.set(in.orders.Plan)
	in.announce(life, in.orders.Plan)
	in.grants.set(in.orders.Requests, u)
	if halted := len(in.orders.Halts) > 0; halted != in.halted.Swap(halted) {
		for _, halt := range in.orders.Halts {
			in.log.Error("fleet halted: all sockets are closed until the worker that raised it restarts", "raised-by", halt.Worker, "reason", halt.Reason)
		}
		if !halted {
			in.log.Warn("halt lifted")
		}
	}
	if down := in.orders.Down != nil; down != in.down.Swap(down) {
		if down {
			in.log.Warn("cluster is down by order: all sockets are closed until it is up again", "end-sessions", in.orders.Down.EndSessions)
		} else {
			in.log.Warn("cluster is up again")
		}
	}
}

// act does what reconcile says until it says nothing more.
func (in *incarnation) act(life context.Context, p posture) {
	if p == serving {
		p = in.posture()
	}
	rests := p == halted || p == ending
	var spread time.Duration
	if in.resting && !rests {
		spread = wakeSpread(in.orders.Plan.Shards)
	}
	in.resting = rests
	defer func() { in.board.rest(in.rest(p)) }()
	for {
		steps := reconcile(in.have(), in.current(), in.orders.Plan, p)
		if len(steps) == 0 {
			in.standBy(life, p)
			return
		}
		for _, s := range steps {
			in.log.Debug("range", "step", s.kind, "range", s.rng, "to", s.assignment.To.Worker)
			in.do(life, s, spread)
		}
	}
}

func (in *incarnation) have() map[lease.RangeID]held {
	have := make(map[lease.RangeID]held, len(in.ranges))
	for id, r := range in.ranges {
		have[id] = r.held
	}
	return have
}

// current are the assignments that count: of the plan, and of generations that are over, whose ranges are to be released. The plan
// that one of any other generation belongs to is still on its way to us.
func (in *incarnation) current() map[lease.RangeID]lease.Assignment {
	current := maps.Clone(in.orders.Assignments)
	maps.DeleteFunc(current, func(id lease.RangeID, _ lease.Assignment) bool {
		return in.orders.Plan.Standing(id.Generation) == lease.Unknown
	})
	return current
}

// do takes one step. A handover or release of a range that does not run needs no sockets closed, but goes the same way.
// What it starts begins within spread.
func (in *incarnation) do(life context.Context, s step, spread time.Duration) {
	r := in.ranges[s.rng]
	switch s.kind {
	case start:
		plan, _ := in.orders.Plan.Of(s.rng.Generation)
		in.start(life, s.assignment, plan.ShardsOf(s.rng), spread)
	case finish:
		r.stage = finishing
		close(r.finish)
	case await:
		r.awaited, r.late = s.assignment.Move, false
		in.wait(life, waitEnd{s.rng, s.assignment.Move})
	case stop:
		r.stage = stopping
		r.cancel(farewell{})
	case forget:
		delete(in.ranges, s.rng)
	case handOver, release, endSessions:
		if r == nil || !r.stage.active() {
			in.start(life, s.assignment, nil, 0)
			r = in.ranges[s.rng]
		}
		r.stage = stopping
		r.cancel(farewell{kind: s.kind, assignment: s.assignment, since: time.Now()})
	}
}

// start runs the given shards of a range. Each begins at a moment of its own within spread.
func (in *incarnation) start(life context.Context, a lease.Assignment, shards []int, spread time.Duration) {
	ctx, cancel := context.WithCancelCause(life)
	plan, _ := in.orders.Plan.Of(a.Range.Generation)
	r := &heldRange{held: held{fence: a.Fence, stage: running}, cancel: cancel, finish: make(chan struct{})}
	in.ranges[a.Range] = r
	run := &rangeRun{
		in: in, own: in.reg.Own(a), shards: shards, total: plan.Shards, spread: spread, log: in.log.With("range", a.Range),
		assignment: a, succession: newSuccession(), finish: r.finish, standby: in.standbys[a.Range],
	}
	delete(in.standbys, a.Range)
	go func() {
		in.ended <- run.run(ctx, life)
	}()
}

// settle takes note that a range's run has ended.
func (in *incarnation) settle(e rangeEnd) {
	r := in.ranges[e.rng]
	r.cancel(nil)
	if e.farewell.kind == 0 {
		delete(in.ranges, e.rng) // stopped, or lost: if it is still ordered, it starts again
		return
	}
	r.stage, r.move = spent, e.farewell.assignment.Move
	if e.farewell.kind == endSessions {
		r.stage = ended
	}
}

// waitEnd says that the target of a move was waited for as long as it may be.
type waitEnd struct {
	rng  lease.RangeID
	move int64
}

// wait reports, in a while, that the target of a move was waited for.
func (in *incarnation) wait(life context.Context, e waitEnd) {
	in.tasks.Go(func() error {
		wait(life, in.worker.timings.ready)
		select {
		case in.waited <- e:
		case <-life.Done():
		}
		return nil
	})
}

// giveUpOn takes note that the target of a move was waited for.
func (in *incarnation) giveUpOn(e waitEnd) {
	if r := in.ranges[e.rng]; r != nil && r.awaited == e.move {
		r.late = true
	}
}

// drain tells the leader, and goes on telling it while etcd is away.
func (in *incarnation) drain(life context.Context) {
	in.tell(life, "draining could not be announced; trying again", in.reg.Drain)
}

// halt stops the fleet.
func (in *incarnation) halt(life context.Context, halt lease.Halt) {
	in.tell(life, "halt could not be announced; trying again", func(ctx context.Context) error { return in.reg.Halt(ctx, halt) })
}

// tell writes to etcd, beside the loop, until it is written or the registration has ended.
func (in *incarnation) tell(life context.Context, trouble string, write func(context.Context) error) {
	in.tasks.Go(func() error {
		// An error would only say that life has ended.
		_ = in.worker.persist(life, trouble, func(ctx context.Context) error {
			err := write(ctx)
			if errors.Is(err, lease.ErrFenced) {
				return nil // the registration is lost; Keep will say so
			}
			return err
		})
		return nil
	})
}

// idle reports whether nothing is left to hand over.
func (in *incarnation) idle(p posture) bool {
	for _, r := range in.ranges {
		if r.stage != spent {
			return false
		}
	}
	return p == leaving || len(in.current()) == 0
}

// leave ends the registration, so that nobody has to wait for it to expire.
func (in *incarnation) leave(life context.Context) {
	if err := in.reg.Leave(life); err != nil {
		in.log.Warn("registration left to expire", "error", err)
	}
}

// abandon closes every socket, since the registration is lost or the process is ending, and waits for that.
func (in *incarnation) abandon() {
	running := 0
	for _, r := range in.ranges {
		if r.stage.active() {
			running++
		}
	}
	for ; running > 0; running-- {
		in.settle(<-in.ended)
	}
}

// announce tells consumers of a new plan how many shards there are. Every worker does, since none can know that another did;
// who is late is refused.
func (in *incarnation) announce(life context.Context, plan lease.Plan) {
	if plan.Generation == 0 || plan.Generation == in.announced {
		return
	}
	in.announced = plan.Generation
	cluster := stream.Cluster{Shards: plan.Shards, Generation: uint64(plan.Generation), Filter: in.worker.cfg.Events.String()}
	in.tasks.Go(func() error {
		// An error would only say that life has ended.
		_ = in.worker.persist(life, "cluster not announced in redis; trying again", func(ctx context.Context) error {
			err := stream.PublishCluster(ctx, in.worker.cfg.Redis, in.worker.cfg.Cluster, cluster)
			if errors.As(err, new(*stream.OlderGenerationError)) {
				return nil
			}
			return err
		})
		return nil
	})
}
