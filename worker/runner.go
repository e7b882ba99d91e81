package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// runner runs one shard under one ownership, in one attempt after the other.
type runner struct {
	in    *incarnation
	own   lease.Ownership
	id    lease.ShardID
	total int
	delay time.Duration // before the first attempt
	log   hclog.Logger

	succession *succession
	endTurn    func()          // nil unless the shard has its turn to go from muted to live
	finish     <-chan struct{} // closed when the shard is to be finished

	unmuted bool // nothing is to be done any more before the shard may write to its stream

	standby *shard.Standby // a connection that was opened before the shard was ours; nil if there is none
	given   time.Time      // when it became ours; zero once it was live

	doubted bool // somebody else has written to the stream: whether the shard is ours must be asked

	board runnerBoard
}

// runnerBoard is what a status report reads of a runner, from other goroutines.
type runnerBoard struct {
	session atomic.Pointer[shard.Session]
	epoch   atomic.Uint64
	muted   atomic.Pointer[mutedAttempt] // nil unless the shard is muted
	events  atomic.Uint64                // received so far
	parked  atomic.Bool                  // its socket is closed until Redis takes entries again
	trouble atomic.Pointer[string]       // why there is no session, if that will not pass by itself
}

func newRunner(r *rangeRun, index int) *runner {
	var delay time.Duration
	if r.spread > 0 {
		delay = rand.N(r.spread)
	}
	return &runner{
		in: r.in, own: r.own, total: r.total, succession: r.succession, finish: r.finish, delay: delay,
		id:  lease.ShardID{Generation: r.own.Range.Generation, Shard: index},
		log: r.in.log.With("shard", index), standby: r.standby.take(index), given: time.Now(),
	}
}

// run runs the shard until ctx ends, or until it is finished. Every failure that may pass is met by opening the log anew and going on from where the stream
// really ends; a fatal one stops the shard, for good or with the whole fleet, and nothing is tried again.
func (r *runner) run(ctx context.Context) (finished bool) {
	r.in.board.add(r)
	defer r.in.board.remove(r)
	defer r.leaveTurn()
	wait(ctx, r.delay)
	retry := newRetry()
	for ctx.Err() == nil {
		began := time.Now()
		err := r.try(ctx)
		if ctx.Err() != nil {
			return false
		}
		var fatal *shard.FatalError
		var refused *stream.RefusedError
		switch {
		case errors.Is(err, errCaughtUp):
			return true
		case errors.Is(err, errUnmuted):
			continue
		case err == nil: // Redis was away for long, and is back
			retry.Reset()
		case errors.As(err, &fatal):
			r.fail(ctx, fatal)
			return false
		case errors.As(err, &refused) && !refused.Behind():
			r.doubted = true
			r.log.Warn("another owner has written to the stream; going on if the shard is still ours", "error", err)
			r.in.worker.metrics.interruptions.Add(1)
		case errors.Is(err, lease.ErrFenced):
			r.log.Debug("shard is no longer ours", "error", err) // the watch will say whose; asking again does no harm
		default:
			r.log.Warn("shard interrupted; going on from the stream's end", "error", err)
			r.in.worker.metrics.interruptions.Add(1)
		}
		if time.Since(began) > time.Minute {
			retry.Reset()
		}
		wait(ctx, retry.NextBackOff())
	}
	return false
}

// try runs the shard in the way that its generation's standing asks for. errCaughtUp says that it is finished.
func (r *runner) try(ctx context.Context) (err error) {
	defer func() {
		if !errors.Is(err, errUnmuted) {
			r.leaveTurn()
		}
	}()
	plan := r.in.plan.get()
	if plan.Standing(r.id.Generation) == lease.Preparing {
		return r.attemptMuted(ctx)
	}
	if err := r.unmute(ctx, plan); err != nil {
		return err
	}
	err = r.attempt(ctx)
	var fatal *shard.FatalError
	refused := r.finishing() && errors.As(err, &fatal) && fatal.Scope() == shard.ScopePlan
	if refused || errors.Is(err, errSessionLost) {
		if err = r.endWithGap(ctx); err == nil {
			err = errCaughtUp
		}
	}
	return err
}

// attempt runs the shard from where its stream ends until something fails or ctx ends.
func (r *runner) attempt(ctx context.Context) error {
	if r.doubted {
		if err := r.own.Confirm(ctx); err != nil {
			return err
		}
		r.doubted = false
		r.log.Debug("ownership confirmed")
	}
	log, err := r.in.worker.writer.Open(ctx, r.id.Shard)
	if err != nil {
		return fmt.Errorf("shard %d: open stream: %w", r.id.Shard, err)
	}
	defer log.Close()
	// What a session leaves behind may still be written when the session has ended.
	keep, drop := context.WithCancel(context.WithoutCancel(ctx))
	defer drop()
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	a := &attempt{runner: r, own: r.own, keep: keep, stream: log, last: log.Tail()}
	session, err := shard.New(a.config())
	if err != nil {
		return err
	}
	r.board.session.Store(session)
	a.startCommands(running, session)
	var watch sync.WaitGroup
	watch.Go(func() { a.watch(running, session, end) })
	err = session.Run(running)
	caughtUp := errors.Is(context.Cause(running), errCaughtUp)
	end(nil)
	watch.Wait()
	if errors.Is(err, stream.ErrFull) {
		err = r.outlast(ctx, log)
	}
	flushed := a.settle(drop)
	if err == nil {
		err = log.Err()
	}
	if err == nil && caughtUp && flushed {
		err = errCaughtUp
	}
	return err
}

// outlast waits, without a socket, for Redis to take what the log holds. Discord keeps the session and what it sends meanwhile for
// some minutes, in which the shard resumes.
func (r *runner) outlast(ctx context.Context, log *stream.Log) error {
	r.log.Debug("redis takes no entries; socket closed, to be resumed when it does")
	r.board.parked.Store(true)
	defer r.board.parked.Store(false)
	return log.Flush(ctx)
}
