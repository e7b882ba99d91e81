package lease

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A range is modelled as a register of owner, fence and move, whose writes name the fence and move they were decided by.
// A write whose answer was lost may happen at any later time, or never; then its revision is not known to the model.
type rangeState struct {
	owner       string
	fence, move int64 // 0: none; unknownRevision: written by a call that did not tell
}

const unknownRevision = -2

type rangeCall struct {
	kind        string // an action, "ready", "hand over", "release", or "read"
	fence, move int64  // as the caller believes
	to          string
}

type rangeAnswer struct {
	outcome  string // "done", "fenced" or "lost"
	revision int64  // of a write that was done; a worker's writes do not tell
	read     rangeState
}

// same reports whether a believed revision can be the true one.
func same(truth, belief int64) bool {
	return truth == belief || truth == unknownRevision && belief != 0
}

// accepts says what a write needs to be done: that the range has the owner and the move, or none, that the writer believes it to have.
func (s rangeState) accepts(c rangeCall) bool {
	return same(s.fence, c.fence) && same(s.move, c.move)
}

// after is the state that a write leaves. Its revision becomes the fence, or that of the move.
func (s rangeState) after(c rangeCall, revision int64) rangeState {
	switch c.kind {
	case "intend", "ready":
		return rangeState{s.owner, c.fence, revision}
	case "cancel":
		return rangeState{s.owner, c.fence, 0}
	default:
		return rangeState{c.to, revision, 0}
	}
}

// surelyAccepts is accepts, where no revision is unknown.
func (s rangeState) surelyAccepts(c rangeCall) bool {
	return s.accepts(c) && s.fence != unknownRevision && s.move != unknownRevision
}

func (s rangeState) step(c rangeCall, a rangeAnswer) []any {
	switch {
	case c.kind == "read":
		if s.owner != a.read.owner || !same(s.fence, a.read.fence) || !same(s.move, a.read.move) {
			return nil
		}
		return []any{a.read}
	case a.outcome == "done":
		if !s.accepts(c) || a.revision != unknownRevision && a.revision <= max(s.fence, s.move) {
			return nil
		}
		return []any{s.after(c, a.revision)}
	case a.outcome == "fenced":
		if s.surelyAccepts(c) {
			return nil
		}
		return []any{s}
	default:
		if !s.accepts(c) {
			return []any{s}
		}
		return []any{s, s.after(c, unknownRevision)}
	}
}

var rangeModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{rangeState{}} },
	Step: func(state, call, answer any) []any {
		return state.(rangeState).step(call.(rangeCall), answer.(rangeAnswer))
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(call, answer any) string {
		return fmt.Sprintf("%+v -> %+v", call, answer)
	},
}).ToModel()

// rangeClient is one participant: now a leader, now an owner, often with beliefs of long ago.
type rangeClient struct {
	w       *world
	rng     *rand.Rand
	began   time.Time
	belief  Range
	history []porcupine.Operation
	id      int
}

func (c *rangeClient) run(calls int) {
	for range calls {
		c.call(rangeCall{kind: "read"}, c.read)
		for range 1 + c.rng.IntN(2) { // the second acts on what the first made stale
			c.write()
		}
	}
}

func (c *rangeClient) read(ctx context.Context) (rangeAnswer, error) {
	cluster, err := readCluster(ctx, c.w.s)
	if err != nil {
		return rangeAnswer{}, err
	}
	c.belief = cluster.Ranges[theRange]
	c.belief.ID = theRange
	return rangeAnswer{read: rangeState{c.belief.Owner.Worker, c.belief.Fence, moveOf(c.belief)}}, nil
}

func moveOf(r Range) int64 {
	if r.Move == nil {
		return 0
	}
	return r.Move.Revision
}

// write makes a random write that the belief allows.
func (c *rangeClient) write() {
	owner, other := c.w.a, c.w.b
	if c.belief.Owner.Worker == "b" {
		owner, other = other, owner
	}
	call := rangeCall{fence: c.belief.Fence, move: moveOf(c.belief), to: other.ref.Worker}
	order := Assignment{Range: theRange, Fence: c.belief.Fence, To: other.Ref(), Move: call.move}
	ownership := owner.Own(order)
	switch {
	case c.belief.Owner.Worker == "":
		c.act(call, Assign, other)
	case c.belief.Move == nil && c.rng.IntN(4) == 0:
		call.kind, call.to = "release", ""
		c.tell(call, ownership.Release)
	case c.belief.Move == nil:
		c.act(call, Intend, other)
	default:
		switch c.rng.IntN(5) {
		case 0:
			c.act(call, Force, other)
		case 1:
			c.act(call, Cancel, other)
		case 2:
			call.kind, call.to = "release", ""
			c.tell(call, ownership.Release)
		case 3:
			call.kind = "ready"
			n := Notice{Range: theRange, Move: call.move, Owner: owner.Ref(), OwnerFence: c.belief.Fence}
			c.tell(call, func(ctx context.Context) error { return other.Ready(ctx, n) })
		default:
			call.kind = "hand over"
			c.tell(call, func(ctx context.Context) error { return ownership.HandOver(ctx, order) })
		}
	}
}

// tell makes a worker's write, which does not tell its revision.
func (c *rangeClient) tell(call rangeCall, do func(context.Context) error) {
	c.call(call, func(ctx context.Context) (rangeAnswer, error) { return rangeAnswer{revision: unknownRevision}, do(ctx) })
}

func (c *rangeClient) act(call rangeCall, kind ActionKind, to *Registration) {
	call.kind = kind.String()
	action := Action{kind, c.belief, to.Ref()}
	c.call(call, func(ctx context.Context) (rangeAnswer, error) {
		taken, revision, err := c.w.term.Apply(ctx, []Action{action})
		if err == nil && len(taken) == 0 {
			err = ErrFenced
		}
		return rangeAnswer{revision: revision}, err
	})
}

// call makes one call and records it. Some get so little time that their outcome stays unknown.
func (c *rangeClient) call(call rangeCall, do func(context.Context) (rangeAnswer, error)) {
	patience := time.Minute
	if c.rng.IntN(10) == 0 && call.kind != "read" { // few: each multiplies what the checker has to try
		patience = time.Duration(c.rng.IntN(3000)) * time.Microsecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	op := porcupine.Operation{ClientId: c.id, Input: call, Call: int64(time.Since(c.began))}
	answer, err := do(ctx)
	op.Return = int64(time.Since(c.began))
	switch {
	case err == nil:
		answer.outcome = "done"
	case errors.Is(err, ErrFenced):
		answer.outcome = "fenced"
	case call.kind == "read":
		c.w.t.Errorf("read: %v", err)
		return
	default:
		answer.outcome, op.Return = "lost", math.MaxInt64
	}
	op.Output = answer
	c.history = append(c.history, op)
}

func TestRangeIsALinearizableRegister(t *testing.T) {
	w := newWorld(t)
	must(t, w.own.Release(t.Context()))
	_, err := w.s.client.Delete(t.Context(), w.s.keys.owner(theRange))
	must(t, err)
	clients := make([]*rangeClient, 5)
	var running sync.WaitGroup
	began := time.Now()
	for i := range clients {
		seed := rand.Uint64()
		t.Logf("client %d has seed %d", i, seed)
		clients[i] = &rangeClient{w: w, rng: rand.New(rand.NewPCG(seed, 0)), began: began, id: i}
		running.Go(func() { clients[i].run(40) })
	}
	running.Wait()
	var history []porcupine.Operation
	outcomes := map[string]int{}
	for _, c := range clients {
		history = append(history, c.history...)
		for _, op := range c.history {
			outcomes[op.Input.(rangeCall).kind+" "+op.Output.(rangeAnswer).outcome]++
		}
	}
	t.Logf("outcomes %v", outcomes)
	if result := porcupine.CheckOperationsTimeout(rangeModel, history, time.Minute); result != porcupine.Ok {
		t.Errorf("the history is %v", result)
	}
}
