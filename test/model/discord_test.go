package model

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Opcodes that begin or continue a session (Discord: Opcodes and Status Codes).
const (
	opIdentify = 2
	opResume   = 6
)

// overhear judges what is said to Discord, at the moment it arrives.
func (w *witness) overhear(m *discordsim.Message) (handled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	process := m.Peer.RemoteAddr().String()
	switch m.Op {
	case opResume:
		w.counts["resume"]++
	case opIdentify:
		w.counts["identify"]++
		w.judgeIdentify(process, m.Shard, m.Total)
	default:
		return false
	}
	if !w.lives(process) {
		w.accuse("%s speaks for shard %d and is dead", process, m.Shard)
	}
	return false
}

// judgeIdentify: each needs a claim of its own, not long ago, and comes five seconds after the bucket's last.
func (w *witness) judgeIdentify(process string, shard, total int) {
	bucket, now := shard%max(w.state.Budget.MaxConcurrency, 1), time.Now()
	c := w.claims[bucket]
	if c == nil || c.used || c.process != process || c.shard.Shard != shard || w.plans[c.shard.Generation].Shards != total || now.Sub(c.at) > lease.SlotValidity {
		w.accuse("%s identifies shard %d; the last claim of its bucket: %+v", process, shard, c)
	} else {
		c.used = true
		w.sessionsOf[began{shard, total, now}] = c.shard.Generation
		if _, known := w.begun[c.shard]; !known {
			w.begun[c.shard] = now
		}
	}
	if last, ok := w.identified[bucket]; ok && now.Sub(last) < identifyWindow {
		w.accuse("%s identifies shard %d %v after the last of bucket %d", process, shard, now.Sub(last), bucket)
	}
	w.identified[bucket] = now
}

// account reads every stream and compares it with what Discord sent.
func (w *world) account(ctx context.Context) (devstack.Account, error) {
	sessions, streams := w.sim.Sessions(), map[int][]devstack.Entry{}
	for _, session := range sessions {
		shard := session.Shard
		if _, read := streams[shard]; read {
			continue
		}
		entries, err := w.client.XRange(ctx, stream.EventsKey(cluster, shard), "-", "+").Result()
		if err != nil {
			return devstack.Account{}, err
		}
		for _, e := range entries {
			entry, err := entryOf(e)
			if err != nil {
				return devstack.Account{}, err
			}
			streams[shard] = append(streams[shard], entry)
		}
	}
	audit := devstack.Audit
	if w.witness.happened()["prepared"] > 0 {
		audit = devstack.AuditReshard
	}
	account := audit(w.witness.everInForce(sessions), streams)
	account.Violations = len(w.violations())
	return account, nil
}

func entryOf(e redis.XMessage) (devstack.Entry, error) {
	id, err := stream.ParseID(e.ID)
	data, _ := e.Values["d"].(string)
	kind, _ := e.Values["t"].(string)
	return devstack.EntryOf(stream.Message{ID: id, Type: kind, Data: []byte(data)}), err
}

// violations are what was done that Discord forbids, but for sessions that were thrown away by order, or resumed because whoever did that was
// killed before he could take note.
func (w *world) violations() []discordsim.Violation {
	ending := w.witness.ends()
	return slices.DeleteFunc(w.sim.Violations(), func(v discordsim.Violation) bool {
		ended := v.Rule == discordsim.RuleSessionThrownAway || v.Rule == discordsim.RuleResumeEnded
		return ended && !ending.IsZero() && !v.At.Before(ending)
	})
}

// newest are the last sessions of the plan's shards. why says what there is beside them, or not: a socket of another session.
func (w *world) newest() (newest map[int]discordsim.SessionLog, why string) {
	plan := w.witness.plan()
	newest = map[int]discordsim.SessionLog{}
	for _, session := range w.sim.Sessions() {
		former := newest[session.Shard]
		switch {
		case session.Total != plan.Shards && session.Attached:
			why = fmt.Sprintf("shard %d of %d has a socket, and there are %d", session.Shard, session.Total, plan.Shards)
		case session.Total != plan.Shards:
		case former.Attached:
			why = fmt.Sprintf("shard %d of %d has a socket of an earlier session", former.Shard, former.Total)
			fallthrough
		default:
			newest[session.Shard] = session
		}
	}
	if len(newest) < plan.Shards || plan.Shards == 0 {
		why = fmt.Sprintf("%d of %d shards had a session", len(newest), plan.Shards)
	}
	return newest, why
}

// unready names what is missing for every shard to be live, or is there of another generation.
func (w *world) unready() string {
	newest, why := w.newest()
	for shard, session := range newest {
		if !session.Attached {
			return fmt.Sprintf("shard %d has no socket", shard)
		}
	}
	return why
}

// unsettled names a shard whose stream does not end with its session's last event, or whose session has no socket.
func (w *world) unsettled(ctx context.Context) string {
	newest, why := w.newest()
	for shard, session := range newest {
		tail, err := stream.Tail(ctx, w.client, cluster, shard)
		if err != nil {
			return err.Error()
		}
		if !session.Attached || tail.Seq != session.Last {
			return fmt.Sprintf("shard %d's stream ends with %v, its session with %d (socket: %v)", shard, tail, session.Last, session.Attached)
		}
	}
	return why
}

// unowned lists the ranges of the plan, and of the one that is being prepared, that nobody living owns.
func (w *witness) unowned() (ids []lease.RangeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, generation := range []int{w.state.Plan.Generation, w.state.Plan.Next.Generation} {
		plan, _ := w.state.Plan.Of(generation)
		for index := range plan.Ranges() {
			id := lease.RangeID{Generation: plan.Generation, Index: index}
			if !w.alive(w.state.Ranges[id].Owner) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// identifying is the time from the first shard's first IDENTIFY to the last's.
func (w *witness) identifying() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	times := slices.SortedFunc(maps.Values(w.begun), time.Time.Compare)
	if len(times) == 0 {
		return 0
	}
	return times[len(times)-1].Sub(times[0])
}

// plan is the plan by now; its generation is 0 if there is none.
func (w *witness) plan() lease.Plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Plan
}

// down reports whether the cluster is to have no sockets, and since when it is, or is not.
func (w *witness) down() (down bool, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Directives.Down != nil, w.moved
}

// ends is when sessions were ended by order first; zero: never.
func (w *witness) ends() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ending
}

// takers is how many workers could be given ranges.
func (w *witness) takers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(eligible(&w.state))
}

// everInForce leaves out sessions of generations that were given up: nothing of them was to be in a stream.
func (w *witness) everInForce(sessions []discordsim.SessionLog) []discordsim.SessionLog {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(sessions, func(s discordsim.SessionLog) bool {
		generation, known := w.sessionsOf[began{s.Shard, s.Total, s.Identified}]
		return known && !w.inForce[generation]
	})
}

// meet makes a process known.
func (w *witness) meet(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links[p.name] = p.discord
}

// budget is how many IDENTIFYs are left, by what etcd says.
func (w *witness) budget() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Budget.Remaining
}

// leader is the process that leads; empty if none does.
func (w *witness) leader() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.candidates {
		if w.leads(c.process) {
			return c.process
		}
	}
	return ""
}

// found is what the witness has against the run.
func (w *witness) found() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.broken)
}

// happened counts what there was, so that a run is known to have met it.
func (w *witness) happened() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.counts)
}
