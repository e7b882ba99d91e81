package coordinator

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/pkg/lease"
)

// buildView is the cluster as the API shows it.
func (c *Coordinator) buildView(state *lease.Cluster, now time.Time) *api.Cluster {
	v := &api.Cluster{
		Cluster: c.cfg.Cluster, AnsweredBy: c.cfg.ID, At: now.UTC(), Revision: state.Revision,
		Generation: state.Plan.Generation, Shards: state.Plan.Shards, RangeSize: state.Plan.RangeSize,
		Leader: state.Leader.ID, Term: state.Leader.Term,
		Budget: api.Budget{
			Total: state.Budget.Total, Remaining: state.Budget.Remaining, Reserve: reserve(state.Budget),
			MaxConcurrency: state.Budget.MaxConcurrency, ResetAt: state.Budget.ResetAt, Waiting: shortage(state.Requests, state.Budget),
		},
		Halted: []api.Halt{}, Refused: []api.Refusal{}, Alarm: state.Alarm.Text,
		Directives: directivesView(state.Directives), Buckets: make([]api.Bucket, 0, len(state.Slots)),
		Workers:     make([]api.Worker, 0, len(state.Workers)),
		Ranges:      make([]api.Range, 0, state.Plan.Ranges()),
		ShardStates: make([]api.Shard, 0, state.Plan.Shards),
	}
	for _, halt := range state.Halts {
		v.Halted = append(v.Halted, api.Halt{Worker: halt.Worker, Shard: halt.Shard, Reason: halt.Reason})
	}
	slices.SortFunc(v.Halted, func(a, b api.Halt) int { return cmp.Compare(a.Worker, b.Worker) })
	for _, f := range refusalsOf(state, state.Plan.Generation) {
		v.Refused = append(v.Refused, api.Refusal{Worker: f.Worker, Shard: f.Shard, Code: f.Code, Reason: f.Reason})
	}
	for _, bucket := range slices.Sorted(maps.Keys(state.Slots)) {
		slot := state.Slots[bucket]
		v.Buckets = append(v.Buckets, api.Bucket{Bucket: bucket, State: string(slot.State), Shard: slot.Shard.Shard})
	}
	if next, ok := state.Plan.Of(state.Plan.Next.Generation); ok {
		ready := inState(state, next, lease.StateMuted, nextShards)
		v.Next = &api.Next{Generation: next.Generation, Shards: next.Shards, Ready: ready}
	}
	for id := range state.Ranges {
		if state.Plan.Standing(id.Generation) == lease.Finishing {
			v.Finishing++
		}
	}
	owned := map[string]int{}
	for index := range state.Plan.Ranges() {
		addRange(v, state, lease.RangeID{Generation: state.Plan.Generation, Index: index}, owned)
	}
	for _, w := range state.Workers {
		w.Draining = w.Draining || toDrain(state, w)
		v.Workers = append(v.Workers, workerView(w, state.Status[w.ID], owned[w.ID]))
	}
	slices.SortFunc(v.Workers, func(a, b api.Worker) int { return cmp.Compare(a.ID, b.ID) })
	if !c.unread.IsZero() {
		unread := c.unread.UTC()
		v.UnreadSince = &unread
	}
	v.Troubles = api.Troubles(v)
	return v
}

// directivesView is what stands.
func directivesView(d lease.Directives) api.Directives {
	v := api.Directives{Drains: []api.Drain{}}
	if d.Down != nil {
		v.Down = &api.Down{EndSessions: d.Down.EndSessions, At: d.Down.At}
	}
	if r := d.Reshard; r != nil {
		v.Reshard = &api.Reshard{Shards: r.Shards, Abort: r.Abort, Refused: r.Refused, At: r.At}
	}
	if d.Rebalance != nil {
		v.Rebalance = &api.Rebalance{At: d.Rebalance.At}
	}
	for _, id := range slices.Sorted(maps.Keys(d.Drains)) {
		v.Drains = append(v.Drains, api.Drain{Worker: id, Incarnation: d.Drains[id].Incarnation, At: d.Drains[id].At})
	}
	return v
}

func addRange(v *api.Cluster, state *lease.Cluster, id lease.RangeID, owned map[string]int) {
	r := state.Ranges[id]
	shards := state.Plan.ShardsOf(id)
	view := api.Range{Range: id.Index, First: shards[0], Last: shards[len(shards)-1]}
	if w, ok := state.Workers[r.Owner.Worker]; ok && w.Incarnation == r.Owner.Incarnation {
		view.Owner = w.ID
		view.EventsPerSecond = believed(state.Status[w.ID].Loads[id])
		owned[w.ID] += len(shards)
	}
	if r.Move != nil {
		view.Moving, view.MoveTo = true, r.Move.To.Worker
	}
	v.Ranges = append(v.Ranges, view)
	states := state.Status[view.Owner].Shards
	for _, shard := range shards {
		v.ShardStates = append(v.ShardStates, shardView(lease.ShardID{Generation: id.Generation, Shard: shard}, view.Owner, states))
	}
}

// shardView is a shard as its owner, who may be nobody, last said.
func shardView(shard lease.ShardID, owner string, states map[int]lease.ShardStatus) api.Shard {
	v := api.Shard{Shard: shard.Shard, Worker: owner, State: api.StateUnassigned}
	if owner == "" {
		return v
	}
	v.State = api.StateUnknown
	if s, ok := states[shard.Shard]; ok && s.Generation == shard.Generation {
		v.State, v.Epoch, v.LatencyMS, v.Error = s.State, s.Epoch, s.LatencyMS, s.Error
	}
	return v
}

func workerView(w lease.Worker, s lease.Status, shards int) api.Worker {
	return api.Worker{
		ID: w.ID, Incarnation: w.Incarnation, Host: w.Host, Zone: w.Zone, Capacity: w.Capacity, MaxShards: w.MaxShards, Draining: w.Draining, Started: w.Started,
		Shards: shards, EventsPerSecond: believed(s.EventsPerSecond), BytesPerSecond: believed(s.BytesPerSecond), BufferedBytes: s.BufferedBytes, RedisFailing: s.RedisFailing,
		Events: s.Events, Entries: s.Entries, Identifies: s.Identifies, Resumes: s.Resumes, Gaps: s.Gaps,
	}
}
