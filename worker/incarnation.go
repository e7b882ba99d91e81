package worker

import (
	"context"
	"errors"
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

// leave ends the registration, so that nobody has to wait for it to expire.
func (in *incarnation) leave(life context.Context) {
	if err := in.reg.Leave(life); err != nil {
		in.log.Warn("registration left to expire", "error", err)
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
