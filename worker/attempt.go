package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// attempt is one run of a shard's session, and with it of the shard's log. It ties the three together that do not know each
// other: the session (Discord), the log (Redis) and the ownership (etcd). To the session it is the shard.Store, whose content is
// where the stream ends and what the session record says, and the shard.Identifier, whose permits are slots claimed in etcd.
//
// Except where noted, its fields belong to the goroutine that runs the session's callbacks.
type attempt struct {
	*runner
	own    lease.Ownership // the runner's, or of a muted shard that too, muted
	muted  bool            // it has no stream
	keep   context.Context // for what may be written when the session has ended; it ends a while later
	stream *stream.Log
	epoch  uint64    // of the session whose events are being delivered
	last   stream.ID // the last entry that was appended
	claim  lease.Claim
	saving sync.WaitGroup // the session record, and what is said of the slot, on their way to etcd
	seen   shard.Status   // belongs to observe

	commands *commandPump
}

// config ties the session to the log and the ownership.
func (a *attempt) config() shard.Config {
	cfg, plan := a.in.worker.cfg, a.in.plan.get()
	return shard.Config{
		ID:             shard.ID{Index: a.id.Shard, Total: a.total},
		Token:          cfg.Token,
		Intents:        cfg.Intents,
		Presence:       cfg.Presence,
		LargeThreshold: cfg.LargeThreshold,
		Capabilities:   cfg.Capabilities,
		Compression:    cfg.Compression,
		GatewayURL:     plan.GatewayURL,
		Gate:           a.in.reg.AwaitTrust,
		Identifier:     a,
		Store:          a,
		Standby:        a.standby,
		Deliver:        a.deliver,
		Observe:        a.observe,
		Logger:         a.log.Named("session"),
		DialContext:    cfg.DialDiscord,
	}
}

// Load implements shard.Store: the record says which session, the stream how far it came, or beside it the position, if the last
// events were not to be in the stream.
func (a *attempt) Load(ctx context.Context, _ shard.ID) (shard.Resume, error) {
	record, err := a.own.LoadSession(ctx, a.id.Shard)
	if err != nil {
		return shard.Resume{}, err
	}
	a.setEpoch(record.Epoch)
	if record.ID != "" && record.From > 0 {
		if err := a.goOn(ctx, record); err != nil {
			return shard.Resume{}, err
		}
	}
	resume := resumePoint(record, a.stream.Position(), a.total)
	if resume.SessionID == "" && a.finishing() {
		return shard.Resume{}, errSessionLost
	}
	return resume, nil
}

// resumePoint decides whether a session can be resumed, and where. The record says which session, the stream how far it
// came. They must speak of the same epoch, in which at least READY was written: else the stream ends in an older session, and to
// resume the record's would leave out its beginning. The zero Resume: identify.
func resumePoint(record lease.Session, tail stream.ID, total int) shard.Resume {
	if record.ID == "" || record.Shards != total || record.Epoch != tail.Epoch || tail.Seq < 1 {
		return shard.Resume{}
	}
	return shard.Resume{SessionID: record.ID, URL: record.ResumeURL, Seq: tail.Seq}
}

// Permit implements shard.Identifier: it gets leave from the leader, a slot of the shard's bucket, claimed for a new epoch. That
// begins before its first event and after the last of the epoch before.
func (a *attempt) Permit(ctx context.Context, _ shard.ID) (shard.Permit, error) {
	ctx, release := a.untilFinish(ctx)
	defer release()
	for {
		claim, err := a.claimSlot(ctx)
		if err == nil {
			a.claim = claim
			return shard.Permit{Deadline: claim.Deadline, Sent: func() { a.confirm(claim, time.Now()) }}, nil
		}
		if ctx.Err() != nil {
			a.withdraw()
			return shard.Permit{}, context.Cause(ctx)
		}
		if errors.Is(err, errRequestRefused) || errors.Is(err, errTooLate) {
			return shard.Permit{}, err
		}
		a.log.Debug("no identify slot yet", "error", err)
		wait(ctx, time.Second)
	}
}

var (
	// errRequestRefused says that etcd knows another owner of the range.
	errRequestRefused = errors.New("identify request refused")
	// errTooLate says that a muted session which began now would have nothing of what came before, and its generation is in force.
	errTooLate = errors.New("its generation is in force")
)

func (a *attempt) claimSlot(ctx context.Context) (lease.Claim, error) {
	if a.muted && a.in.plan.get().Generation == a.id.Generation {
		return lease.Claim{}, errTooLate
	}
	record, err := a.own.LoadSession(ctx, a.id.Shard)
	if err != nil {
		return lease.Claim{}, err
	}
	// What is only being prepared repairs nothing.
	requested, err := a.own.RequestIdentify(ctx, a.id.Shard, record.Epoch > 0 && !a.muted)
	if errors.Is(err, lease.ErrFenced) {
		return lease.Claim{}, fmt.Errorf("%w: %w", errRequestRefused, err)
	}
	if err != nil {
		return lease.Claim{}, err
	}
	grant, err := a.in.grants.await(ctx, a.id, requested)
	if err != nil {
		return lease.Claim{}, err
	}
	return a.own.ClaimSlot(ctx, grant, record, a.last.Epoch, a.total)
}

// confirm tells the leader when IDENTIFY was sent.
func (a *attempt) confirm(claim lease.Claim, sent time.Time) {
	a.saving.Go(func() {
		if err := claim.Sent(a.keep, sent); err != nil {
			a.log.Debug("identify not confirmed; the bucket's next one waits a little longer", "error", err)
		}
	})
}

// withdraw takes the request back, beside the session, whose socket is not to stay open until etcd answers.
func (a *attempt) withdraw() {
	a.saving.Go(func() {
		if err := a.own.WithdrawIdentify(a.keep, a.id.Shard); err != nil {
			a.log.Debug("identify request left behind", "error", err)
		}
	})
}

// Begin implements shard.Store. It begins a new epoch: with a gap marker, unless it is the shard's first, since what Discord sent
// between the last entry and this session is known to nobody.
func (a *attempt) Begin(ctx context.Context, _ shard.ID, session shard.Resume) error {
	a.setEpoch(a.claim.Epoch)
	if a.epoch > 1 {
		gap := stream.NewGap(a.epoch, stream.Gap{Shard: a.id.Shard, After: a.last, Reason: "a new session began: discord cannot replay what it sent before"})
		if err := a.append(ctx, gap); err != nil {
			return err
		}
		a.in.worker.metrics.gaps.Add(1)
	}
	a.save(session)
	return nil
}

// save writes the session record, beside the event flow: until it is written a takeover would have to identify.
func (a *attempt) save(session shard.Resume) {
	claim := a.claim
	a.saving.Go(func() {
		err := a.in.worker.persist(a.keep, "session record not written; trying again", func(ctx context.Context) error {
			err := claim.SaveSession(ctx, session.SessionID, session.URL)
			if errors.Is(err, lease.ErrFenced) {
				a.log.Debug("session record not written: it is there already, or the shard is no longer ours", "error", err)
				return nil
			}
			return err
		})
		if err != nil {
			a.log.Warn("session record not written; a new owner will have to identify", "error", err)
		}
	})
}

// deliver appends one event, unless the filter leaves it out. It blocks while the worker's buffer is full, and with it the reading of the socket.
func (a *attempt) deliver(ctx context.Context, e shard.Event) error {
	a.in.worker.metrics.received(len(e.Data))
	a.board.events.Add(1)
	id := stream.ID{Epoch: a.epoch, Seq: e.Seq}
	if !a.in.worker.cfg.Events.Wants(e.Type) {
		a.in.worker.metrics.filtered.Add(1)
		return a.stream.Skip(id)
	}
	return a.append(ctx, stream.Entry{ID: id, Type: e.Type, Data: e.Data})
}

// End implements shard.Store. There is nothing to save here: where the session stands, the stream tells, and flushing it (finish).
func (a *attempt) End(context.Context, shard.ID, shard.Resume) error { return nil }

func (a *attempt) append(ctx context.Context, e stream.Entry) error {
	if err := a.stream.Append(ctx, e); err != nil {
		return fmt.Errorf("shard %d: %w", a.id.Shard, err)
	}
	a.last = e.ID
	return nil
}

// observe counts what the session did since it was last looked at.
func (a *attempt) observe(now shard.Status) {
	a.observeMove(now)
	a.count(&a.seen, now)
	a.commands.observe(now.State)
	if now.State == shard.StateLive && a.endTurn != nil {
		a.endTurn()
	}
}

func (a *attempt) count(seen *shard.Status, now shard.Status) {
	m := a.in.worker.metrics
	m.identifies.Add(uint64(now.Identifies - seen.Identifies))
	m.resumes.Add(uint64(now.Resumes - seen.Resumes))
	m.connects.Add(uint64(now.Connects - seen.Connects))
	*seen = now
}

func (a *attempt) setEpoch(epoch uint64) {
	a.epoch = epoch
	a.board.epoch.Store(epoch)
}

// settle waits for what the session left behind to be written, and after a while drops what is not. Entries are not lost
// thereby: Discord replays them to the next owner.
func (a *attempt) settle(drop func()) (flushed bool) {
	late := time.AfterFunc(a.in.worker.timings.flush, drop)
	defer late.Stop()
	a.commands.stop()
	err := a.stream.Flush(a.keep)
	if err != nil {
		a.log.Debug("last entries not written; discord will replay them", "error", err)
	}
	a.saving.Wait()
	return err == nil
}
