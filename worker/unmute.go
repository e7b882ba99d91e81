package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

const (
	// maxTurns bounds the shards of a worker that are between muted and live at a time, so that Discord is not asked for all replays at once.
	maxTurns = 16
	// maxTurn is how long a shard may keep others from that: one that Discord does not answer must not keep them for ever.
	maxTurn = 10 * time.Second
)

// succession is the moment from which the shards of a range may write to their streams: their generation is in force, and the former
// one's shards of the same numbers have been brought to their ends.
type succession struct {
	come chan struct{} // closed then
}

func newSuccession() *succession { return &succession{make(chan struct{})} }

// watch waits for the moment, asking etcd now and then, until ctx ends.
func (s *succession) watch(ctx context.Context, run *rangeRun) {
	plan, err := run.in.plan.await(ctx, run.own.Range.Generation)
	if err != nil {
		return
	}
	retry := newRetry()
	for ctx.Err() == nil {
		done, err := run.in.worker.cfg.Store.Succeeded(ctx, plan, run.shards)
		if done && err == nil {
			close(s.come)
			return
		}
		if err != nil && ctx.Err() == nil {
			run.log.Debug("whether the former generation is done is not known", "error", err)
		}
		wait(ctx, retry.NextBackOff())
	}
}

func (s *succession) await(ctx context.Context) error {
	select {
	case <-s.come:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// takeTurn waits until the shard may go from muted to live. Who has the turn keeps it until endTurn, or for maxTurn.
func (r *runner) takeTurn(ctx context.Context) error {
	if r.endTurn != nil {
		return nil
	}
	select {
	case r.in.turns <- struct{}{}:
		end := sync.OnceFunc(func() { <-r.in.turns })
		late := time.AfterFunc(maxTurn, end)
		r.endTurn = func() { late.Stop(); end() }
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leaveTurn lets another shard have the turn.
func (r *runner) leaveTurn() {
	if r.endTurn != nil {
		r.endTurn()
		r.endTurn = nil
	}
}

// unmute makes a shard that was prepared the writer of its stream, if it is not yet: once the former generation is done with it. The
// session is gone on with from its note. Without one it is too young, or too long ago, and a new one begins.
func (r *runner) unmute(ctx context.Context, plan lease.Plan) error {
	if r.unmuted || plan.Generation != r.id.Generation || plan.Former.Generation == 0 {
		return nil
	}
	shard, w := r.id.Shard, r.in.worker
	record, err := r.own.LoadSession(ctx, shard)
	if err != nil {
		return err
	}
	if record.Revision != 0 && !record.Muted {
		r.unmuted = true
		return nil
	}
	if err := r.succession.await(ctx); err != nil {
		return err
	}
	if err := r.takeTurn(ctx); err != nil {
		return err
	}
	former, err := r.own.LoadFormer(ctx, plan, shard)
	if err != nil {
		return err
	}
	tail, err := stream.Tail(ctx, w.cfg.Redis, w.cfg.Cluster, shard)
	if err != nil {
		return err
	}
	var from int64
	if record.ID != "" && record.Shards == plan.Shards {
		if from, err = stream.ReadMuted(ctx, w.cfg.Redis, w.cfg.Cluster, shard, r.id.Generation, record.Epoch); err != nil {
			return err
		}
	}
	session, err := r.own.Unmute(ctx, plan, shard, record, former, tail.Epoch, from)
	if err != nil {
		return fmt.Errorf("shard %d: %w", shard, err)
	}
	r.unmuted = true
	r.log.Debug("unmuted", "epoch", session.Epoch, "from", from)
	return nil
}

// goOn opens the epoch of a session that was muted, unless that was done before, and has the log go on from where the session does.
func (a *attempt) goOn(ctx context.Context, record lease.Session) error {
	if a.last.Epoch < record.Epoch {
		plan := a.in.plan.get()
		marker := stream.NewReshard(record.Epoch, stream.Reshard{
			Shard: a.id.Shard, After: a.last, Generation: uint64(a.id.Generation), Before: plan.Former.Shards, Shards: a.total, From: record.From,
		})
		if err := a.append(ctx, marker); err != nil {
			return err
		}
	}
	if at := a.stream.Position(); a.last == (stream.ID{Epoch: record.Epoch}) && at.Seq < record.From {
		return a.stream.GoOnFrom(record.From)
	}
	return nil
}
