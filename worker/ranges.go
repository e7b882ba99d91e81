package worker

import (
	"context"
	"maps"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// heldRange is a range that this incarnation holds. It belongs to the loop; its shards run beside it.
type heldRange struct {
	held
	cancel context.CancelCauseFunc // ends the run; its cause is the farewell
	finish chan struct{}           // closed: the shards are to be finished
}

// act does what reconcile says until it says nothing more.
func (in *incarnation) act(life context.Context, p posture) {
	if p == serving {
		p = in.posture()
	}
	rests := p == halted || p == ending
	var spread time.Duration
	if in.resting && !rests {
		spread = wakeSpread(in.orders.Plan.Shards)
	}
	in.resting = rests
	defer func() { in.board.rest(in.rest(p)) }()
	for {
		steps := reconcile(in.have(), in.current(), in.orders.Plan, p)
		if len(steps) == 0 {
			in.standBy(life, p)
			return
		}
		for _, s := range steps {
			in.log.Debug("range", "step", s.kind, "range", s.rng, "to", s.assignment.To.Worker)
			in.do(life, s, spread)
		}
	}
}

func (in *incarnation) have() map[lease.RangeID]held {
	have := make(map[lease.RangeID]held, len(in.ranges))
	for id, r := range in.ranges {
		have[id] = r.held
	}
	return have
}

// current are the assignments that count: of the plan, and of generations that are over, whose ranges are to be released. The plan
// that one of any other generation belongs to is still on its way to us.
func (in *incarnation) current() map[lease.RangeID]lease.Assignment {
	current := maps.Clone(in.orders.Assignments)
	maps.DeleteFunc(current, func(id lease.RangeID, _ lease.Assignment) bool {
		return in.orders.Plan.Standing(id.Generation) == lease.Unknown
	})
	return current
}

// do takes one step. A handover or release of a range that does not run needs no sockets closed, but goes the same way.
// What it starts begins within spread.
func (in *incarnation) do(life context.Context, s step, spread time.Duration) {
	r := in.ranges[s.rng]
	switch s.kind {
	case start:
		plan, _ := in.orders.Plan.Of(s.rng.Generation)
		in.start(life, s.assignment, plan.ShardsOf(s.rng), spread)
	case finish:
		r.stage = finishing
		close(r.finish)
	case await:
		r.awaited, r.late = s.assignment.Move, false
		in.wait(life, waitEnd{s.rng, s.assignment.Move})
	case stop:
		r.stage = stopping
		r.cancel(farewell{})
	case forget:
		delete(in.ranges, s.rng)
	case handOver, release, endSessions:
		if r == nil || !r.stage.active() {
			in.start(life, s.assignment, nil, 0)
			r = in.ranges[s.rng]
		}
		r.stage = stopping
		r.cancel(farewell{kind: s.kind, assignment: s.assignment, since: time.Now()})
	}
}

// start runs the given shards of a range. Each begins at a moment of its own within spread.
func (in *incarnation) start(life context.Context, a lease.Assignment, shards []int, spread time.Duration) {
	ctx, cancel := context.WithCancelCause(life)
	plan, _ := in.orders.Plan.Of(a.Range.Generation)
	r := &heldRange{held: held{fence: a.Fence, stage: running}, cancel: cancel, finish: make(chan struct{})}
	in.ranges[a.Range] = r
	run := &rangeRun{
		in: in, own: in.reg.Own(a), shards: shards, total: plan.Shards, spread: spread, log: in.log.With("range", a.Range),
		assignment: a, succession: newSuccession(), finish: r.finish, standby: in.standbys[a.Range],
	}
	delete(in.standbys, a.Range)
	go func() {
		in.ended <- run.run(ctx, life)
	}()
}

// settle takes note that a range's run has ended.
func (in *incarnation) settle(e rangeEnd) {
	r := in.ranges[e.rng]
	r.cancel(nil)
	if e.farewell.kind == 0 {
		delete(in.ranges, e.rng) // stopped, or lost: if it is still ordered, it starts again
		return
	}
	r.stage, r.move = spent, e.farewell.assignment.Move
	if e.farewell.kind == endSessions {
		r.stage = ended
	}
}

// waitEnd says that the target of a move was waited for as long as it may be.
type waitEnd struct {
	rng  lease.RangeID
	move int64
}

// wait reports, in a while, that the target of a move was waited for.
func (in *incarnation) wait(life context.Context, e waitEnd) {
	in.tasks.Go(func() error {
		wait(life, in.worker.timings.ready)
		select {
		case in.waited <- e:
		case <-life.Done():
		}
		return nil
	})
}

// giveUpOn takes note that the target of a move was waited for.
func (in *incarnation) giveUpOn(e waitEnd) {
	if r := in.ranges[e.rng]; r != nil && r.awaited == e.move {
		r.late = true
	}
}

// idle reports whether nothing is left to hand over.
func (in *incarnation) idle(p posture) bool {
	for _, r := range in.ranges {
		if r.stage != spent {
			return false
		}
	}
	return p == leaving || len(in.current()) == 0
}

// abandon closes every socket, since the registration is lost or the process is ending, and waits for that.
func (in *incarnation) abandon() {
	running := 0
	for _, r := range in.ranges {
		if r.stage.active() {
			running++
		}
	}
	for ; running > 0; running-- {
		in.settle(<-in.ended)
	}
}
