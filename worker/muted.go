package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

const (
	// overlap is how far a session that was muted goes back when it is unmuted, at least. An event may come to it earlier than to the
	// session of the former generation that writes it; by how much Discord does not say, but surely by less than this.
	overlap = 10 * time.Second
	// pointEvery is how often a muted session notes how far it has come, and noteEvery how often that is written to Redis.
	pointEvery = time.Second
	noteEvery  = 2 * time.Second
)

// mutedAttempt is an attempt of a shard of the generation that is being prepared. Its session runs, but nothing of it is in the stream,
// which the former generation's shard of the same number goes on writing. It only notes, beside the stream, from where the session
// can be gone on with: the sequence number that it had overlap ago. So it can be resumed by anybody, at any time.
type mutedAttempt struct {
	*attempt

	mu    sync.Mutex
	began time.Time // when the session began, or was resumed without a note; zero: not yet
	base  int64     // the sequence number it had then; if there was a note, that of the note
	noted bool      // there is a note for this session
	trail []point   // how far it had come since, oldest first
	seen  shard.Status
}

// point says that everything up to a sequence number had come by a time.
type point struct {
	at  time.Time
	seq int64
}

// errUnmuted is why a muted session is closed: it is to be gone on with from its note.
var errUnmuted = errors.New("the former generation is done with the stream")

// attemptMuted runs the shard, muted, until its generation is in force and the former one has done with the stream, or something fails.
func (r *runner) attemptMuted(ctx context.Context) error {
	keep, drop := context.WithCancel(context.WithoutCancel(ctx))
	defer drop()
	ctx, end := context.WithCancelCause(ctx)
	m := &mutedAttempt{attempt: &attempt{runner: r, own: r.own.Mute(), muted: true, keep: keep}}
	session, err := shard.New(m.config())
	if err != nil {
		end(nil)
		return err
	}
	r.board.session.Store(session)
	r.board.muted.Store(m)
	defer r.board.muted.Store(nil)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if r.succession.await(ctx) == nil && r.takeTurn(ctx) == nil {
			end(errUnmuted)
		}
	})
	err = session.Run(ctx)
	end(nil)
	waiting.Wait()
	if errors.Is(context.Cause(ctx), errUnmuted) {
		err = errUnmuted
	}
	late := time.AfterFunc(r.in.worker.timings.flush, drop)
	defer late.Stop()
	m.saving.Wait()
	return err
}

func (m *mutedAttempt) config() shard.Config {
	cfg := m.attempt.config()
	cfg.Store, cfg.Deliver, cfg.Observe = m, m.deliver, m.observe
	return cfg
}

// Load implements shard.Store: the record says which session, the note from where. A session without a note is too young to have one,
// and is resumed from its READY.
func (m *mutedAttempt) Load(ctx context.Context, _ shard.ID) (shard.Resume, error) {
	record, err := m.own.LoadSession(ctx, m.id.Shard)
	if err != nil {
		return shard.Resume{}, err
	}
	m.setEpoch(record.Epoch)
	if record.ID == "" || record.Shards != m.total {
		return shard.Resume{}, nil
	}
	w := m.in.worker
	seq, err := stream.ReadMuted(ctx, w.cfg.Redis, w.cfg.Cluster, m.id.Shard, m.id.Generation, record.Epoch)
	if err != nil {
		return shard.Resume{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base, m.noted = max(seq, 1), seq > 0
	return shard.Resume{SessionID: record.ID, URL: record.ResumeURL, Seq: m.base}, nil
}

// Begin implements shard.Store.
func (m *mutedAttempt) Begin(_ context.Context, _ shard.ID, session shard.Resume) error {
	m.mu.Lock()
	m.began, m.base, m.noted, m.trail = time.Now(), 1, false, nil
	m.setEpoch(m.claim.Epoch)
	m.mu.Unlock()
	m.save(session)
	return nil
}

// deliver drops one event, and notes now and then how far the session has come.
func (m *mutedAttempt) deliver(_ context.Context, e shard.Event) error {
	m.in.worker.metrics.muted.Add(1)
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.trail); n > 0 && now.Sub(m.trail[n-1].at) < pointEvery {
		return nil
	}
	m.trail = append(m.trail, point{now, e.Seq})
	for len(m.trail) > 1 && now.Sub(m.trail[1].at) > 2*overlap {
		m.trail = m.trail[1:]
	}
	return nil
}

// at is from where the session can be gone on with so that it has all that came after a time. It is false if the session is younger.
func (m *mutedAttempt) at(t time.Time) (id stream.ID, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id = stream.ID{Epoch: m.board.epoch.Load(), Seq: m.base}
	if !m.noted && (m.began.IsZero() || m.began.After(t)) {
		return id, false
	}
	for _, p := range m.trail {
		if !p.at.After(t) {
			id.Seq = max(id.Seq, p.seq)
		}
	}
	return id, true
}

// wasNoted takes note that Redis has a note of the session of that epoch.
func (m *mutedAttempt) wasNoted(epoch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noted = m.noted || m.board.epoch.Load() == epoch
}

func (m *mutedAttempt) isNoted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.noted
}

// observe counts what the session did since it was last looked at.
func (m *mutedAttempt) observe(now shard.Status) {
	m.count(&m.seen, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.State == shard.StateLive && m.began.IsZero() {
		m.began = time.Now()
	}
}

// noteMuted notes in Redis, while a generation is being prepared, from where its sessions can be gone on with. What is noted lies
// before the flip by overlap, however late this worker learns of that: for etcd was asked, after the moment that the overlap is counted
// from, whether it had been, and had not.
func (in *incarnation) noteMuted(life context.Context) error {
	ticker := time.NewTicker(noteEvery)
	defer ticker.Stop()
	for {
		select {
		case <-life.Done():
			return nil
		case <-ticker.C:
		}
		if in.plan.get().Next.Generation == 0 {
			continue
		}
		if err := in.noteOnce(life); err != nil && life.Err() == nil {
			in.log.Debug("how far muted sessions have come is not noted", "error", err)
		}
	}
}

func (in *incarnation) noteOnce(life context.Context) error {
	asked := time.Now()
	plan, err := in.worker.cfg.Store.Plan(life)
	if err != nil {
		return err
	}
	var notes []stream.Muted
	noted := in.board.muted()
	for m := range noted {
		id, ok := m.at(asked.Add(-overlap))
		if !ok || plan.Standing(m.id.Generation) != lease.Preparing {
			delete(noted, m)
			continue
		}
		noted[m] = id.Epoch
		notes = append(notes, stream.Muted{Shard: m.id.Shard, Generation: m.id.Generation, ID: id})
	}
	if err := stream.SaveMuted(life, in.worker.cfg.Redis, in.worker.cfg.Cluster, notes); err != nil {
		return err
	}
	for m, epoch := range noted {
		m.wasNoted(epoch)
	}
	return nil
}
