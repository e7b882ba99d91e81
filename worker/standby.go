package worker

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

// standby is the connections for the shards of a range that is to be handed over to this worker, past HELLO if all went well, so that when it
// is they have but to RESUME. It is never needed: a shard that finds none dials.
type standby struct {
	move   int64
	cancel context.CancelFunc

	mu    sync.Mutex
	conns map[int]*shard.Standby
	gone  map[int]bool // shards that have asked for theirs: one that opens later is of no use
}

// standBy opens connections for the ranges that are to be handed over to this worker, and ends those of moves that are no more.
func (in *incarnation) standBy(life context.Context, p posture) {
	have := make(map[lease.RangeID]int64, len(in.standbys))
	for id, s := range in.standbys {
		have[id] = s.move
	}
	begin, end := prepare(have, in.orders.Notices, in.orders.Plan.Generation, p)
	for _, id := range end {
		in.standbys[id].end()
		delete(in.standbys, id)
	}
	for _, n := range begin {
		in.standbys[n.Range] = in.openStandby(life, n)
	}
}

// prepare compares the ranges that this worker stands by for, by their moves, with the notices it has, and says for which to begin and to end
// that. It is pure. The leader bounds the moves under way, and with them what there is to stand by for.
func prepare(
	have map[lease.RangeID]int64, notices map[lease.RangeID]lease.Notice, generation int, p posture,
) (begin []lease.Notice, end []lease.RangeID) {
	wanted := func(id lease.RangeID) bool { return p == serving && id.Generation == generation }
	for _, id := range slices.SortedFunc(maps.Keys(have), lease.RangeID.Compare) {
		if n, noticed := notices[id]; !noticed || n.Move != have[id] || !wanted(id) {
			end = append(end, id)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(notices), lease.RangeID.Compare) {
		if have[id] != notices[id].Move && wanted(id) {
			begin = append(begin, notices[id])
		}
	}
	return begin, end
}

// openStandby begins to stand by for a range, and tells its owner when there is nothing more to wait for.
func (in *incarnation) openStandby(life context.Context, n lease.Notice) *standby {
	ctx, cancel := context.WithTimeout(life, in.worker.timings.standby)
	s := &standby{move: n.Move, cancel: cancel, conns: map[int]*shard.Standby{}, gone: map[int]bool{}}
	plan := in.orders.Plan
	in.tasks.Go(func() error {
		soon, cancel := context.WithTimeout(ctx, in.worker.timings.prepare)
		defer cancel()
		var all sync.WaitGroup
		for _, index := range plan.ShardsOf(n.Range) {
			all.Go(func() { in.connectAhead(ctx, soon, s, plan, index) })
		}
		all.Wait()
		in.tell(ctx, "the owner of a range cannot be told that this worker is ready for it; trying again",
			func(ctx context.Context) error { return in.reg.Ready(ctx, n) })
		return nil
	})
	return s
}

// connectAhead opens the connection of a shard, which lasts until ctx ends or the shard takes it. It returns when that is past HELLO or has
// failed, and when soon ends. A shard without a session to resume is in no hurry: it will need a slot.
func (in *incarnation) connectAhead(ctx, soon context.Context, s *standby, plan lease.Plan, index int) {
	log := in.log.With("shard", index)
	record, err := in.reg.LoadSession(soon, lease.ShardID{Generation: plan.Generation, Shard: index})
	if err != nil {
		log.Debug("no connection ahead of a handover", "error", err)
		return
	}
	if record.ID == "" || record.Shards != plan.Shards {
		return
	}
	conn, err := shard.NewStandby(shard.Config{
		ID:          shard.ID{Index: index, Total: plan.Shards},
		Compression: in.worker.cfg.Compression,
		GatewayURL:  plan.GatewayURL,
		Gate:        in.reg.AwaitTrust,
		DialContext: in.worker.cfg.DialDiscord,
		Logger:      log.Named("standby"),
	}, record.ResumeURL)
	if err != nil || !s.add(index, conn) {
		return // its session, if there is one, has the same to say about the URL
	}
	ended := make(chan struct{})
	in.tasks.Go(func() error {
		defer close(ended)
		if err := conn.Run(ctx); err != nil {
			log.Debug("connection ahead of a handover ended", "error", err)
		}
		return nil
	})
	select {
	case <-conn.Greeted():
	case <-ended:
	case <-soon.Done():
	}
}

// add notes a shard's connection, and reports whether it is still of use.
func (s *standby) add(index int, conn *shard.Standby) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone[index] {
		return false
	}
	s.conns[index] = conn
	return true
}

// take is the connection of a shard that is about to run; nil if there is none.
func (s *standby) take(index int) *shard.Standby {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[index] = true
	return s.conns[index]
}

// end closes the connections that no shard has taken.
func (s *standby) end() {
	if s != nil {
		s.cancel()
	}
}
