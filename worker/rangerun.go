package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

// farewell is the cause that a range's run is ended with: what to do once its sockets are closed.
type farewell struct {
	kind       stepKind // handOver, release, finish or endSessions; 0: nothing, its ownership is not ours to give
	assignment lease.Assignment
	since      time.Time // when the run was ended with it
}

// Unwrap tells the shards' sessions whether they are to end with their sockets.
func (f farewell) Unwrap() error {
	if f.kind == endSessions {
		return shard.ErrEndSession
	}
	return nil
}

func (f farewell) Error() string { return fmt.Sprintf("range is to %v", f.kind) }

// rangeEnd says that a range's run has ended, and with what farewell.
type rangeEnd struct {
	rng      lease.RangeID
	farewell farewell
}

// rangeRun is a range that runs, under one ownership.
type rangeRun struct {
	in     *incarnation
	own    lease.Ownership
	shards []int
	total  int           // shards of the plan that the range is of
	spread time.Duration // each shard begins at a moment of its own within it
	log    hclog.Logger

	assignment lease.Assignment
	succession *succession
	finish     chan struct{} // closed when the shards are to be finished
	standby    *standby      // opened before the range was ours; nil if there is none
}

// run runs the range's shards until ctx ends, and then does what its cause says, or until they are finished, and then retires it. When it
// returns, every socket of the range is closed, resumably unless the sessions were to end, and what was received is in Redis or will be replayed by Discord.
func (r *rangeRun) run(ctx, life context.Context) rangeEnd {
	defer r.standby.end()
	var shards, watch sync.WaitGroup
	var finished atomic.Int64
	ctx, stop := context.WithCancel(ctx)
	defer watch.Wait()
	defer stop()
	if plan := r.in.plan.get(); plan.Standing(r.own.Range.Generation) == lease.Preparing || plan.Former.Generation != 0 {
		watch.Go(func() { r.succession.watch(ctx, r) })
	}
	for _, index := range r.shards {
		shards.Go(func() {
			if newRunner(r, index).run(ctx) {
				finished.Add(1)
			}
		})
	}
	shards.Wait()
	end := rangeEnd{rng: r.own.Range}
	if n := len(r.shards); n > 0 && int(finished.Load()) == n {
		end.farewell = farewell{kind: finish, assignment: r.assignment}
		r.pass(life, end.farewell)
		return end
	}
	<-ctx.Done() // shards do not end by themselves, but a range may have none
	if errors.As(context.Cause(ctx), &end.farewell) && end.farewell.kind != 0 {
		r.pass(life, end.farewell)
	}
	return end
}

// pass hands the range over, releases it, or takes note that its sessions are ended. When that is refused, somebody else has decided about the range, and the
// watch will tell; when etcd does not answer we try again, since repeating is safe: what was done once is refused the second time.
// That goes on for as long as the registration: the sockets are closed, so nothing but an answer is of use to the range.
func (r *rangeRun) pass(life context.Context, f farewell) {
	began := time.Now()
	retry := newRetry()
	for {
		var err error
		switch f.kind {
		case handOver:
			err = r.own.HandOver(life, f.assignment)
		case finish:
			err = r.own.Retire(life)
		case endSessions:
			plan, _ := r.in.plan.get().Of(r.own.Range.Generation)
			err = r.own.EndSessions(life, plan.ShardsOf(r.own.Range))
		default:
			err = r.in.reg.Own(f.assignment).Release(life) // which knows of the move there was
		}
		switch {
		case err == nil:
			r.log.Debug("range passed on", "how", f.kind, "to", f.assignment.To.Worker, "elapsed", time.Since(began))
			if f.kind == handOver {
				r.in.worker.metrics.moves.source.Observe(time.Since(f.since).Seconds())
			}
			return
		case errors.Is(err, lease.ErrFenced):
			r.log.Debug("range not passed on: it was decided about meanwhile", "error", err)
			return
		case life.Err() != nil:
			r.log.Warn("range not passed on", "error", err)
			return
		}
		wait(life, retry.NextBackOff())
	}
}
