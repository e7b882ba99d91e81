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
	"github.com/muster-gateway/muster/pkg/stream"
)

// runner runs one shard under one ownership: a session at a time, and with it the shard's log. It ties the three
// together that do not know each other: the session (Discord), the log (Redis) and the ownership (etcd).
type runner struct {
	in    *incarnation
	own   lease.Ownership
	id    lease.ShardID
	total int
	log   hclog.Logger

	// Of the attempt under way; they belong to the goroutine that runs the session's callbacks.
	stream *stream.Log
	epoch  uint64    // of the session whose events are being delivered
	last   stream.ID // the last entry that was appended
	claim  lease.Claim
	saving sync.WaitGroup // the session record and the slot's confirmation, on their way to etcd

	seen  shard.Status // belongs to the session's Observe
	board runnerBoard
}

// runnerBoard is what a status report reads of a runner, from other goroutines.
type runnerBoard struct {
	session atomic.Pointer[shard.Session]
	epoch   atomic.Uint64
	trouble atomic.Pointer[string] // why there is no session, if that will not pass by itself
}

func newRunner(r *rangeRun, index int) *runner {
	return &runner{
		in: r.in, own: r.own, total: r.in.plan.Load().Shards,
		id:  lease.ShardID{Generation: r.own.Range.Generation, Shard: index},
		log: r.in.log.With("shard", index),
	}
}

// run runs the shard until ctx ends. Every failure that may pass is met by opening the log anew and going on from where the stream
// really ends; a fatal one stops the shard, for good or with the whole fleet, and nothing is tried again.
func (r *runner) run(ctx context.Context) {
	r.in.board.add(r)
	defer r.in.board.remove(r)
	retry := newRetry()
	for ctx.Err() == nil {
		began := time.Now()
		err := r.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		var fatal *shard.FatalError
		switch {
		case errors.As(err, &fatal):
			r.fail(ctx, fatal)
			return
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
}

// fail reports what only a person can mend, and then holds still.
func (r *runner) fail(ctx context.Context, fatal *shard.FatalError) {
	text := fatal.Error()
	r.board.trouble.Store(&text)
	if fatal.Scope() != shard.ScopeBot {
		r.log.Error("shard stopped for good", "error", fatal)
	} else {
		r.in.halt(ctx, lease.Halt{Reason: text, Shard: r.id.Shard, At: time.Now().UTC()})
	}
	<-ctx.Done()
}

// attempt runs the shard from where its stream ends until something fails or ctx ends.
func (r *runner) attempt(ctx context.Context) error {
	log, err := r.in.worker.writer.Open(ctx, r.id.Shard)
	if err != nil {
		return fmt.Errorf("shard %d: open stream: %w", r.id.Shard, err)
	}
	defer log.Close()
	record, err := r.own.LoadSession(ctx, r.id.Shard)
	if err != nil {
		return err
	}
	r.stream, r.last, r.seen = log, log.Tail(), shard.Status{}
	resume := resumePoint(record, r.last, r.total)
	r.setEpoch(record.Epoch)

	// What a session leaves behind may still be written when the session has ended.
	keep, drop := context.WithCancel(context.WithoutCancel(ctx))
	defer drop()
	ctx, release := whileWritable(ctx, log)
	defer release()
	session, err := shard.New(r.config(ctx, keep))
	if err != nil {
		return err
	}
	r.board.session.Store(session)
	err = session.Run(ctx, resume)
	r.finish(keep, drop)
	if err == nil {
		err = log.Err()
	}
	return err
}

// whileWritable is a context that also ends when the log fails, since its stream turned out to be another's. release ends it, and
// the goroutine that watches.
func whileWritable(parent context.Context, log *stream.Log) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-log.Failed():
			cancel(log.Err())
		case <-ctx.Done():
		}
	})
	return ctx, func() { cancel(nil); watch.Wait() }
}

// resumePoint decides whether a session can be resumed, and where. The record says which session, the stream how far it
// came. They must speak of the same epoch, in which at least READY was written: else the stream ends in an older session, and to
// resume the record's would leave out its beginning. nil: identify.
func resumePoint(record lease.Session, tail stream.ID, total int) *shard.Resume {
	if record.ID == "" || record.Shards != total || record.Epoch != tail.Epoch || tail.Seq < 1 {
		return nil
	}
	return &shard.Resume{SessionID: record.ID, URL: record.ResumeURL, Seq: tail.Seq}
}

// finish waits for what the session left behind to be written, under keep, and after a while drops what is not. Entries are not lost
// thereby: Discord replays them to the next owner.
func (r *runner) finish(keep context.Context, drop func()) {
	late := time.AfterFunc(r.in.worker.timings.flush, drop)
	defer late.Stop()
	if err := r.stream.Flush(keep); err != nil {
		r.log.Debug("last entries not written; discord will replay them", "error", err)
	}
	r.saving.Wait()
}

// config ties the session to the log and the ownership. keep is for what may outlive ctx.
func (r *runner) config(ctx, keep context.Context) shard.Config {
	cfg, plan := r.in.worker.cfg, r.in.plan.Load()
	return shard.Config{
		ID:          shard.ID{Index: r.id.Shard, Total: r.total},
		Token:       cfg.Token,
		Intents:     cfg.Intents,
		Compression: cfg.Compression,
		GatewayURL:  plan.GatewayURL,
		Gate:        r.in.reg.AwaitTrust,
		Identify:    func(asking context.Context) (shard.Permit, error) { return r.identify(asking, keep) },
		Established: func(resume shard.Resume) error { return r.established(ctx, keep, resume) },
		Deliver:     func(e shard.Event) error { return r.deliver(ctx, e) },
		Observe:     r.observe,
		Logger:      r.log.Named("session"),
	}
}

// identify gets a permit from the leader: a slot of the shard's bucket, claimed for a new epoch. It begins before the events
// of that epoch and after the last of the one before.
func (r *runner) identify(ctx, keep context.Context) (shard.Permit, error) {
	for {
		claim, err := r.claimSlot(ctx)
		if err == nil {
			r.claim = claim
			return shard.Permit{Deadline: claim.Deadline, Sent: func() { r.confirm(keep, claim, time.Now()) }}, nil
		}
		if ctx.Err() != nil {
			r.withdraw(ctx)
			return shard.Permit{}, context.Cause(ctx)
		}
		if errors.Is(err, errRequestRefused) {
			return shard.Permit{}, err
		}
		r.log.Debug("no identify slot yet", "error", err)
		wait(ctx, time.Second)
	}
}

// errRequestRefused says that etcd knows another owner of the range.
var errRequestRefused = errors.New("identify request refused")

func (r *runner) claimSlot(ctx context.Context) (lease.Claim, error) {
	record, err := r.own.LoadSession(ctx, r.id.Shard)
	if err != nil {
		return lease.Claim{}, err
	}
	requested, err := r.own.RequestIdentify(ctx, r.id.Shard, record.Epoch > 0)
	if errors.Is(err, lease.ErrFenced) {
		return lease.Claim{}, fmt.Errorf("%w: %w", errRequestRefused, err)
	}
	if err != nil {
		return lease.Claim{}, err
	}
	grant, err := r.in.grants.await(ctx, r.id, requested)
	if err != nil {
		return lease.Claim{}, err
	}
	return r.own.ClaimSlot(ctx, grant, record, r.last.Epoch, r.total)
}

// confirm tells the leader when IDENTIFY was sent.
func (r *runner) confirm(keep context.Context, claim lease.Claim, sent time.Time) {
	r.saving.Go(func() {
		if err := claim.Sent(keep, sent); err != nil {
			r.log.Debug("identify not confirmed; the bucket's next one waits a little longer", "error", err)
		}
	})
}

func (r *runner) withdraw(ctx context.Context) {
	if err := r.own.WithdrawIdentify(context.WithoutCancel(ctx), r.id.Shard); err != nil {
		r.log.Debug("identify request left behind", "error", err)
	}
}

// established begins a new epoch: with a gap marker, unless it is the shard's first, since what Discord sent between the last entry and
// this session is known to nobody.
func (r *runner) established(ctx, keep context.Context, resume shard.Resume) error {
	r.setEpoch(r.claim.Epoch)
	if r.epoch > 1 {
		gap := stream.NewGap(r.epoch, stream.Gap{Shard: r.id.Shard, After: r.last, Reason: "session lost: discord could not replay"})
		if err := r.append(ctx, gap); err != nil {
			return err
		}
		r.in.worker.metrics.gaps.Add(1)
	}
	r.save(keep, resume)
	return nil
}

// save writes the session record, beside the event flow: until it is written a takeover would have to identify.
func (r *runner) save(keep context.Context, resume shard.Resume) {
	claim := r.claim
	r.saving.Go(func() {
		err := r.in.worker.persist(keep, "session record not written; trying again", func(ctx context.Context) error {
			err := claim.SaveSession(ctx, resume.SessionID, resume.URL)
			if errors.Is(err, lease.ErrFenced) {
				r.log.Debug("session record not written: it is there already, or the shard is no longer ours", "error", err)
				return nil
			}
			return err
		})
		if err != nil {
			r.log.Warn("session record not written; a new owner will have to identify", "error", err)
		}
	})
}

// deliver appends one event. It blocks while the worker's buffer is full, and with it the reading of the socket.
func (r *runner) deliver(ctx context.Context, e shard.Event) error {
	r.in.worker.metrics.received(len(e.Data))
	return r.append(ctx, stream.Entry{ID: stream.ID{Epoch: r.epoch, Seq: e.Seq}, Type: e.Type, Data: e.Data})
}

func (r *runner) append(ctx context.Context, e stream.Entry) error {
	if err := r.stream.Append(ctx, e); err != nil {
		return fmt.Errorf("shard %d: %w", r.id.Shard, err)
	}
	r.last = e.ID
	return nil
}

// observe counts what the session did since it was last looked at.
func (r *runner) observe(now shard.Status) {
	m := r.in.worker.metrics
	m.identifies.Add(uint64(now.Identifies - r.seen.Identifies))
	m.resumes.Add(uint64(now.Resumes - r.seen.Resumes))
	m.connects.Add(uint64(now.Connects - r.seen.Connects))
	r.seen = now
}

func (r *runner) setEpoch(epoch uint64) {
	r.epoch = epoch
	r.board.epoch.Store(epoch)
}
