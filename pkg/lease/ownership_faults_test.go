package lease

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// heldState is a range, and with it what its history has proved of terms and incarnations: that those below are over.
type heldState struct {
	rangeState
	term  int64
	alive [3]int64
}

// heldCall is a rangeCall and on whose behalf it is made. What a fence or a move does not decide, these must.
type heldCall struct {
	rangeCall
	term       int64 // of the leader; 0: it is a worker's
	by, target someone
	dead       someone // an owner who must be dead
}

// someone is an incarnation of one of the workers; the zero value is nobody.
type someone struct {
	worker int
	number int64
}

func (s heldState) step(c heldCall, a rangeAnswer) []any {
	switch {
	case c.kind == "campaign":
		if a.revision <= s.term {
			return nil
		}
		s.term = a.revision
		return []any{s}
	case c.kind == "register":
		if a.revision < s.alive[c.by.worker] {
			return nil
		}
		s.alive[c.by.worker] = a.revision
		return []any{s}
	case a.outcome == "fenced": // why is for the tests of each fence
		return []any{s}
	case a.outcome == "lost" && s.permits(c) && s.accepts(c.rangeCall):
		done := s.proved(c)
		done.rangeState = s.after(c.rangeCall, unknownRevision)
		return []any{s, done}
	case a.outcome == "lost":
		return []any{s}
	}
	next := s.rangeState.step(c.rangeCall, a)
	if len(next) == 0 || !s.permits(c) {
		return nil
	}
	done := s.proved(c)
	done.rangeState = next[0].(rangeState)
	return []any{done}
}

// permits reports whether nothing has proved that those are over who write and are written about.
func (s heldState) permits(c heldCall) bool {
	return (c.term == 0 || c.term >= s.term) &&
		(c.by.number == 0 || c.by.number >= s.alive[c.by.worker]) &&
		(c.target.number == 0 || c.target.number >= s.alive[c.target.worker])
}

// proved is the state with what a write proves that was done.
func (s heldState) proved(c heldCall) heldState {
	s.term = max(s.term, c.term)
	for _, lives := range []someone{c.by, c.target} {
		s.alive[lives.worker] = max(s.alive[lives.worker], lives.number)
	}
	if c.dead.number != 0 {
		s.alive[c.dead.worker] = max(s.alive[c.dead.worker], c.dead.number+1)
	}
	return s
}

var heldModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{heldState{}} },
	Step: func(state, call, answer any) []any {
		return state.(heldState).step(call.(heldCall), answer.(rangeAnswer))
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(call, answer any) string { return fmt.Sprintf("%+v -> %+v", call, answer) },
}).ToModel()

// holder takes part in what happens to the range, as a worker or as a leader, now and then with a right that it lost long ago.
type holder struct {
	*participant
	belief Range
	others map[string]Worker

	regs  []*Registration
	terms terms
}

var holders = []string{"a", "b", "c"}

func incarnationOf(r Ref) someone {
	for i, name := range holders {
		if name == r.Worker {
			return someone{i, r.Incarnation}
		}
	}
	return someone{}
}

func (h *holder) record(call heldCall, do func(context.Context) (rangeAnswer, error)) error {
	var answer rangeAnswer
	return h.participant.record(call.kind, call, func(ctx context.Context) (err error) {
		answer, err = do(ctx)
		return err
	}, func(outcome string) any {
		answer.outcome = outcome
		return answer
	})
}

func (h *holder) look() error {
	return h.record(heldCall{rangeCall: rangeCall{kind: "read"}}, func(ctx context.Context) (rangeAnswer, error) {
		cluster, err := readCluster(ctx, h.store)
		if err != nil {
			return rangeAnswer{}, err
		}
		h.belief, h.others = cluster.Ranges[theRange], cluster.Workers
		h.belief.ID = theRange
		return rangeAnswer{read: rangeState{h.belief.Owner.Worker, h.belief.Fence, moveOf(h.belief)}}, nil
	})
}

// beWorker registers again and again, and gives the range up or on when it is its own.
func (h *holder) beWorker(ctx context.Context) {
	name := holders[h.id]
	var keeping sync.WaitGroup
	defer keeping.Wait()
	h.work(ctx, func() {
		if len(h.regs) == 0 || h.rng.IntN(25) == 0 {
			if n := len(h.regs); n > 0 {
				_ = h.regs[n-1].Leave(context.WithoutCancel(ctx)) // if that fails the next registration is refused, until it has expired
			}
			op := porcupine.Operation{ClientId: h.id, Call: h.now()}
			reg, err := h.store.Register(ctx, Worker{ID: name}, MinTTL)
			if err != nil {
				return
			}
			op.Input, op.Output = heldCall{rangeCall: rangeCall{kind: "register"}, by: incarnationOf(reg.Ref())}, rangeAnswer{revision: reg.Ref().Incarnation}
			op.Return = h.now()
			h.note("register", op)
			h.regs = append(h.regs, reg)
			keeping.Go(func() { _ = reg.Keep(ctx) }) // that it is lost, the next call tells
		}
		if h.look() != nil || h.belief.Owner.Worker != name || h.rng.IntN(3) > 0 { // now and then the leader is faster
			return
		}
		for range 1 + h.rng.IntN(2) {
			h.pass(h.regs[max(0, len(h.regs)-1-h.rng.IntN(2))])
		}
	})
}

func (h *holder) pass(reg *Registration) {
	order := Assignment{Range: theRange, Fence: h.belief.Fence}
	if m := h.belief.Move; m != nil {
		order.To, order.Move = m.To, m.Revision
	}
	own := reg.Own(order)
	call := heldCall{rangeCall: rangeCall{kind: "release", fence: h.belief.Fence}, by: incarnationOf(reg.Ref())}
	do := own.Release
	if m := h.belief.Move; m != nil && m.To.Worker != "" {
		call.kind, call.move, call.to, call.target = "hand over", m.Revision, m.To.Worker, incarnationOf(m.To)
		do = func(ctx context.Context) error { return own.HandOver(ctx, order) }
	}
	_ = h.record(call, func(ctx context.Context) (rangeAnswer, error) {
		return rangeAnswer{revision: unknownRevision}, do(ctx)
	})
}

// beLeader campaigns again and again, and decides about the range with any term it has or had.
func (h *holder) beLeader(ctx context.Context) {
	var campaigning sync.WaitGroup
	defer campaigning.Wait()
	campaigning.Go(func() {
		h.terms.campaign(ctx, h.participant, func(term int64) (call, answer any) {
			return heldCall{rangeCall: rangeCall{kind: "campaign"}}, rangeAnswer{revision: term}
		})
	})
	h.work(ctx, func() {
		term := h.terms.one(h.rng)
		if term == nil || h.look() != nil {
			return
		}
		for range 1 + h.rng.IntN(2) {
			h.decide(term)
		}
	})
}

// decide takes a random step that the belief allows.
func (h *holder) decide(term *Term) {
	var targets []Ref
	for _, w := range h.others {
		if w.Ref() != h.belief.Owner {
			targets = append(targets, w.Ref())
		}
	}
	if len(targets) == 0 {
		return
	}
	action := Action{Range: h.belief, To: targets[h.rng.IntN(len(targets))]}
	call := heldCall{term: term.Number, target: incarnationOf(action.To)}
	owner := h.belief.Owner
	switch living := h.others[owner.Worker].Ref() == owner; {
	case owner.Worker == "", !living:
		action.Kind, call.dead = Assign, incarnationOf(owner)
	case h.belief.Move == nil:
		action.Kind = Intend
	case h.rng.IntN(2) == 0:
		action.Kind, call.target = Cancel, someone{}
	default:
		action.Kind = Force
	}
	call.rangeCall = rangeCall{action.Kind.String(), h.belief.Fence, moveOf(h.belief), action.To.Worker}
	_ = h.record(call, func(ctx context.Context) (rangeAnswer, error) {
		taken, revision, err := term.Apply(ctx, []Action{action})
		if err == nil && len(taken) == 0 {
			err = ErrFenced
		}
		return rangeAnswer{revision: revision}, err
	})
}

// Through all that an etcd of three members goes through, a range changes hands only as its fence, its move, the term and the incarnations allow.
func TestOwnershipUnderFaults(t *testing.T) {
	b := newBroken(t) // not parallel to the other that does: three members are work enough
	var everybody []func(context.Context)
	for i := range holders {
		everybody = append(everybody, (&holder{participant: b.participant(i, "c")}).beWorker)
	}
	for i := range 2 {
		everybody = append(everybody, (&holder{participant: b.participant(len(holders)+i, "c")}).beLeader)
	}
	history := b.during([]string{
		"assign done", "intend done", "force done", "cancel done", "hand over done", "release done", "register", "campaign",
	}, everybody...)
	if result := porcupine.CheckOperationsTimeout(heldModel, history, time.Minute); result != porcupine.Ok {
		t.Errorf("the history is %v", result)
	}
}
