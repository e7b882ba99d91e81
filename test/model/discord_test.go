package model

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

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
		w.judgeIdentify(process, m.Shard)
	default:
		return false
	}
	if !w.lives(process) {
		w.accuse("%s speaks for shard %d and is dead", process, m.Shard)
	}
	return false
}

// judgeIdentify: each needs a claim of its own, not long ago, and comes five seconds after the bucket's last.
func (w *witness) judgeIdentify(process string, shard int) {
	bucket, now := shard%max(w.state.Budget.MaxConcurrency, 1), time.Now()
	c := w.claims[bucket]
	if c == nil || c.used || c.process != process || c.shard != shard || now.Sub(c.at) > lease.SlotValidity {
		w.accuse("%s identifies shard %d; the last claim of its bucket: %+v", process, shard, c)
	} else {
		c.used = true
	}
	if last, ok := w.identified[bucket]; ok && now.Sub(last) < identifyWindow {
		w.accuse("%s identifies shard %d %v after the last of bucket %d", process, shard, now.Sub(last), bucket)
	}
	w.identified[bucket] = now
}

// account reads every stream and compares it with what Discord sent.
func (w *world) account(ctx context.Context) (devstack.Account, error) {
	streams := map[int][]devstack.Entry{}
	for shard := range w.sim.Stats().Sessions + w.shards { // more than there may be
		entries, err := w.client.XRange(ctx, stream.EventsKey(cluster, shard), "-", "+").Result()
		if err != nil {
			return devstack.Account{}, err
		}
		for _, e := range entries {
			id, err := stream.ParseID(e.ID)
			if err != nil {
				return devstack.Account{}, err
			}
			data, _ := e.Values["d"].(string)
			kind, _ := e.Values["t"].(string)
			entry := devstack.Entry{ID: id, Type: kind, Sum: discordsim.Sum([]byte(data))}
			if kind == "READY" {
				var ready struct {
					Trace []string `json:"_trace"`
				}
				if json.Unmarshal([]byte(data), &ready) == nil && len(ready.Trace) > 0 {
					entry.Trace = ready.Trace[0]
				}
			}
			streams[shard] = append(streams[shard], entry)
		}
	}
	account := devstack.Audit(w.sim.Sessions(), streams)
	account.Violations = len(w.sim.Violations())
	return account, nil
}

// unsettled names a shard whose stream does not end with its session's last event, or whose session has no socket.
func (w *world) unsettled(ctx context.Context) string {
	newest := map[int]discordsim.SessionLog{}
	for _, session := range w.sim.Sessions() {
		newest[session.Shard] = session
	}
	if len(newest) < w.shards {
		return fmt.Sprintf("%d of %d shards had a session", len(newest), w.shards)
	}
	for shard := range w.shards {
		session := newest[shard]
		tail, err := stream.Tail(ctx, w.client, cluster, shard)
		if err != nil {
			return err.Error()
		}
		if !session.Attached || tail.Seq != session.Last {
			return fmt.Sprintf("shard %d's stream ends with %v, its session with %d (socket: %v)", shard, tail, session.Last, session.Attached)
		}
	}
	return ""
}

// unowned lists the ranges of the plan that nobody living owns.
func (w *witness) unowned() (ids []lease.RangeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for index := range w.state.Plan.Ranges() {
		id := lease.RangeID{Generation: w.state.Plan.Generation, Index: index}
		if !w.alive(w.state.Ranges[id].Owner) {
			ids = append(ids, id)
		}
	}
	return ids
}

// hasPlan reports whether there is a plan.
func (w *witness) hasPlan() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Plan.Generation > 0
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
