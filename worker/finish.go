package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// A shard of the former generation is finished when everything is in its stream that Discord had sent it by the time the next one was
// put in force. From then on the next generation's sessions have it all, since they go back further than that. Whose worker died before,
// or is cut off, is resumed by another for that end alone.

var (
	// errCaughtUp is why the session of a finished shard is closed.
	errCaughtUp = errors.New("its generation is no longer in force, and all of it is received")
	// errSessionLost says that a shard which is to be finished has no session that could be resumed.
	errSessionLost = errors.New("its generation is no longer in force, and its session is lost")
)

// finishing reports whether the shard is to be brought to its end.
func (r *runner) finishing() bool {
	select {
	case <-r.finish:
		return true
	default:
		return false
	}
}

// watch ends an attempt, by its cause, when its log fails, since its stream turned out to be another's; or when the shard is to be finished
// and everything has come.
func (a *attempt) watch(ctx context.Context, session *shard.Session, end context.CancelCauseFunc) {
	select {
	case <-a.stream.Failed():
		end(a.stream.Err())
	case <-a.finish:
		a.commands.quiesce() // the next generation's shard sends them
		if session.CaughtUp(ctx) == nil {
			end(errCaughtUp)
		}
	case <-ctx.Done():
	}
}

// untilFinish is a context that ends with errSessionLost when the shard is to be finished.
func (a *attempt) untilFinish(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-a.finish:
			cancel(errSessionLost)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// endWithGap finishes a shard whose session is lost: a gap marker says that what came after its stream's end is not to be had from it.
func (r *runner) endWithGap(ctx context.Context) error {
	record, err := r.own.LoadSession(ctx, r.id.Shard)
	if err != nil {
		return err
	}
	log, err := r.in.worker.writer.Open(ctx, r.id.Shard)
	if err != nil {
		return fmt.Errorf("shard %d: open stream: %w", r.id.Shard, err)
	}
	defer log.Close()
	tail := log.Tail()
	never, marked := tail.IsZero() && record.Epoch == 0, record.ID == "" && tail == stream.ID{Epoch: record.Epoch}
	if never || marked {
		return nil
	}
	ended, err := r.own.EndSession(ctx, r.id.Shard, record, tail.Epoch)
	if err != nil {
		return err
	}
	gap := stream.NewGap(ended.Epoch, stream.Gap{
		Shard: r.id.Shard, After: tail, Reason: "the session was lost while another number of shards took over: discord cannot replay what it sent before",
	})
	if err := log.Append(ctx, gap); err != nil {
		return err
	}
	if err := log.Flush(ctx); err != nil {
		return err
	}
	r.in.worker.metrics.gaps.Add(1)
	return nil
}
