package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/muster-gateway/muster/pkg/lease"
)

// farewell is the cause that a range's run is ended with: what to do once its sockets are closed.
type farewell struct {
	kind       stepKind // handOver or release; 0: nothing, its ownership is not ours to give
	assignment lease.Assignment
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
	total  int // shards of the plan that the range is of
	log    hclog.Logger
}

// run runs the range's shards until ctx ends, and then does what its cause says. When it returns, every socket of the
// range is closed resumably, and what was received is in Redis or will be replayed by Discord.
func (r *rangeRun) run(ctx, life context.Context) rangeEnd {
	var g errgroup.Group
	for _, shard := range r.shards {
		g.Go(func() error {
			newRunner(r, shard).run(ctx)
			return nil
		})
	}
	g.Wait()
	<-ctx.Done() // shards do not end by themselves, but a range may have none
	end := rangeEnd{rng: r.own.Range}
	if errors.As(context.Cause(ctx), &end.farewell) && end.farewell.kind != 0 {
		r.pass(life, end.farewell)
	}
	return end
}

// pass hands the range over or releases it. When that is refused, somebody else has decided about the range, and the
// watch will tell; when etcd does not answer we try again, since repeating is safe: what was done once is refused the second time.
// That goes on for as long as the registration: the sockets are closed, so nothing but an answer is of use to the range.
func (r *rangeRun) pass(life context.Context, f farewell) {
	began := time.Now()
	retry := newRetry()
	for {
		var err error
		if f.kind == handOver {
			err = r.own.HandOver(life, f.assignment)
		} else {
			err = r.own.Release(life)
		}
		switch {
		case err == nil:
			r.log.Debug("range passed on", "how", f.kind, "to", f.assignment.To.Worker, "elapsed", time.Since(began))
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
