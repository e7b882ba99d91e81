package worker

import (
	"context"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

const (
	// reportEvery is how often a report may be sent, if a shard's state changed. If only the load did, by more than reportChange, it is sent
	// every reportLoad, and if nothing did every reportAnyway: etcd has to write it down, for each of a thousand workers.
	reportEvery  = 500 * time.Millisecond
	reportLoad   = 10 * time.Second
	reportAnyway = 30 * time.Second
	reportChange = 0.1
	// deafAfter is how long a shard may be without a running session before the worker counts as not ready.
	deafAfter = time.Minute
)

// board is the shards that run in an incarnation, for reports.
type board struct {
	mu      sync.Mutex
	runners map[*runner]time.Time // since when each is without a live session; zero if it has one
	resting map[int]lease.ShardStatus
}

func newBoard() *board { return &board{runners: map[*runner]time.Time{}} }

func (b *board) add(r *runner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runners[r] = time.Now()
}

func (b *board) remove(r *runner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.runners, r)
}

// rest replaces what is known of the shards that are held and do not run.
func (b *board) rest(shards map[int]lease.ShardStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resting = shards
}

// shards is the state of every shard, of those that are being prepared apart, and how many of the others have been deaf for too long.
func (b *board) shards(plan lease.Plan, now time.Time) (states, next map[int]lease.ShardStatus, deaf int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	states, next = make(map[int]lease.ShardStatus, len(b.runners)+len(b.resting)), map[int]lease.ShardStatus{}
	maps.Copy(states, b.resting)
	for r, since := range b.runners {
		status := r.status()
		if plan.Standing(status.Generation) == lease.Preparing {
			next[r.id.Shard] = status
			b.runners[r] = now
			continue
		}
		if other, ok := states[r.id.Shard]; !ok || other.Generation < status.Generation { // one of an earlier generation is being closed
			states[r.id.Shard] = status
		}
		switch {
		case status.State == string(shard.StateLive):
			b.runners[r] = time.Time{}
		case since.IsZero():
			b.runners[r] = now
		case now.Sub(since) > deafAfter:
			deaf++
		}
	}
	return states, next, deaf
}

// muted are the shards that are being prepared; the values are for the caller.
func (b *board) muted() map[*mutedAttempt]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[*mutedAttempt]uint64{}
	for r := range b.runners {
		if m := r.board.muted.Load(); m != nil {
			all[m] = 0
		}
	}
	return all
}

// parked is how many shards have closed their sockets until Redis takes entries again.
func (b *board) parked() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.runners {
		if r.board.parked.Load() {
			n++
		}
	}
	return n
}

// sessions is how the sessions of all shards are.
func (b *board) sessions() []shard.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]shard.Status, 0, len(b.runners))
	for r := range b.runners {
		all = append(all, r.sessionStatus())
	}
	return all
}

// sessionStatus is how the shard's session is; before there is one, and while there is none for want of Redis, it counts as
// waiting.
func (r *runner) sessionStatus() shard.Status {
	if r.board.trouble.Load() != nil {
		return shard.Status{State: shard.StateFailed}
	}
	if session := r.board.session.Load(); session != nil && !r.board.parked.Load() {
		return session.Status()
	}
	return shard.Status{State: shard.StateWaiting}
}

// status is how the shard is now.
func (r *runner) status() lease.ShardStatus {
	status := lease.ShardStatus{Generation: r.id.Generation, State: string(shard.StateConnecting), Epoch: r.board.epoch.Load()}
	if session := r.board.session.Load(); session != nil {
		s := session.Status()
		status.State = string(s.State)
		status.LatencyMS = float64(s.Latency.Microseconds()) / 1000
		if s.State != shard.StateLive {
			status.Error = s.LastEnd
		}
	}
	if m := r.board.muted.Load(); m != nil && m.isNoted() && status.State == string(shard.StateLive) {
		status.State = lease.StateMuted
	}
	if r.board.parked.Load() {
		status.State, status.Error = string(shard.StateWaiting), "redis takes no entries: socket closed, to be resumed"
	}
	if trouble := r.board.trouble.Load(); trouble != nil {
		status.State, status.Error = string(shard.StateFailed), *trouble
	}
	return status
}

// report publishes the worker's status while life lasts.
func (in *incarnation) report(life context.Context) error {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	rates, loads := newRates(in.worker.metrics, time.Now()), loads{from: time.Now()}
	var last lease.Status
	var sent time.Time
	for {
		select {
		case <-life.Done():
			return nil
		case now := <-ticker.C:
			status := in.status(now)
			status.EventsPerSecond, status.BytesPerSecond = rates.at(now, status.Events, in.worker.metrics.bytes.Load())
			status.Loads = loads.at(now, in.board)
			if now.Sub(sent) < reportAfter(last, status, in.plan.get().Shards) {
				continue
			}
			if err := in.reg.Report(life, status); err != nil {
				in.log.Debug("status not reported", "error", err)
				continue
			}
			last, sent = status, now
		}
	}
}

// reportPerShard is how much less often than reportEvery reports may be sent in a large cluster, for each of its shards. Each says how every
// shard of its worker is, so those of all workers would be too much for etcd while all of them change, as when many workers die.
const reportPerShard = 50 * time.Microsecond

func (in *incarnation) status(now time.Time) lease.Status {
	m, w := in.worker.metrics, in.worker.writer.Stats()
	shards, next, _ := in.board.shards(in.plan.get(), now)
	return lease.Status{
		Shards: shards, Next: next, BufferedBytes: w.Buffered, RedisFailing: in.worker.redisFailing.Load(), Events: m.events.Load(), Entries: w.Entries,
		Identifies: m.identifies.Load(), Resumes: m.resumes.Load(), Gaps: m.gaps.Load(),
	}
}

// reportAfter is how long after a was reported b is, in a cluster of so many shards.
func reportAfter(a, b lease.Status, shards int) time.Duration {
	pace := min(time.Duration(shards)*reportPerShard, reportAnyway)
	switch {
	case differs(a, b):
		return pace
	case loadDiffers(a, b):
		return max(pace, reportLoad)
	default:
		return reportAnyway
	}
}

// differs says whether b is news to somebody who knows a, but for load.
func differs(a, b lease.Status) bool {
	if len(a.Shards) != len(b.Shards) || len(a.Next) != len(b.Next) || a.Identifies != b.Identifies || a.Resumes != b.Resumes || a.Gaps != b.Gaps ||
		a.RedisFailing != b.RedisFailing {
		return true
	}
	for id, s := range b.Shards {
		if shardDiffers(a.Shards[id], s) {
			return true
		}
	}
	for id, s := range b.Next {
		if shardDiffers(a.Next[id], s) {
			return true
		}
	}
	return false
}

func shardDiffers(a, b lease.ShardStatus) bool {
	return a.Generation != b.Generation || a.State != b.State || a.Epoch != b.Epoch || a.Error != b.Error
}

// loadDiffers says whether the load of the worker, or of a range, has changed noticeably, or is known of other ranges.
func loadDiffers(a, b lease.Status) bool {
	if len(a.Loads) != len(b.Loads) || changed(a.EventsPerSecond, b.EventsPerSecond) {
		return true
	}
	for id, load := range b.Loads {
		if before, known := a.Loads[id]; !known || changed(before, load) {
			return true
		}
	}
	return false
}

func changed(a, b float64) bool { return math.Abs(b-a) > reportChange*math.Max(a, 1) }

// rates turns counters into rates, smoothed over some seconds.
type rates struct {
	at0           time.Time
	events, bytes uint64
	perSecond     [2]float64
}

func newRates(m *metrics, now time.Time) *rates {
	return &rates{at0: now, events: m.events.Load(), bytes: m.bytes.Load()}
}

// rateMemory is how fast an old rate is forgotten.
const rateMemory = 3 * time.Second

func (r *rates) at(now time.Time, events, bytes uint64) (eventsPerSecond, bytesPerSecond float64) {
	elapsed := now.Sub(r.at0).Seconds()
	if elapsed <= 0 {
		return r.perSecond[0], r.perSecond[1]
	}
	weight := 1 - math.Exp(-elapsed/rateMemory.Seconds())
	r.perSecond[0] += weight * (float64(events-r.events)/elapsed - r.perSecond[0])
	r.perSecond[1] += weight * (float64(bytes-r.bytes)/elapsed - r.perSecond[1])
	r.at0, r.events, r.bytes = now, events, bytes
	return r.perSecond[0], r.perSecond[1]
}
