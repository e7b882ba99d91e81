package lease

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// slotState is the slots of two buckets and the budget that they are charged to. A write says by which revisions of a slot and the
// budget it was decided.
type slotState struct {
	states    [2]SlotState
	slots     [2]int64 // revisions; 0: none yet; unknownRevision: written by a call that did not tell
	budget    int64    // the same
	remaining int
	term      int64
}

type slotCall struct {
	kind         string // "open", "void", "claim", "tell" (when it was sent) or "read"
	bucket       int
	slot, budget int64 // as the caller believes
	remaining    int   // the same
	term         int64
}

type slotAnswer struct {
	outcome  string
	revision int64
	read     slotState
}

func (s slotState) step(c slotCall, a slotAnswer) []any {
	next, allowed := s.after(c, a.revision)
	switch {
	case c.kind == "read":
		for bucket, revision := range s.slots {
			if revision != a.read.slots[bucket] && !same(revision, a.read.slots[bucket]) {
				return nil
			}
		}
		if s.states != a.read.states || s.remaining != a.read.remaining || !same(s.budget, a.read.budget) {
			return nil
		}
		a.read.term = s.term
		return []any{a.read}
	case a.outcome == "done" && allowed:
		return []any{next}
	case a.outcome == "done":
		return nil
	case a.outcome == "lost" && allowed:
		return []any{s, next}
	default:
		return []any{s}
	}
}

// after is what a write makes of the state, if it may be done. Each slot that is opened costs one of the budget; one that was never
// claimed gives it back.
func (s slotState) after(c slotCall, revision int64) (next slotState, allowed bool) {
	next = s
	next.slots[c.bucket], next.term = revision, max(s.term, c.term)
	was, state := s.states[c.bucket], &next.states[c.bucket]
	charged := same(s.budget, c.budget) && s.remaining == c.remaining && c.term >= s.term
	switch c.kind {
	case "open":
		*state, next.budget, next.remaining = SlotOpen, revision, s.remaining-1
		allowed = was != SlotOpen && charged && s.remaining > 0
	case "void":
		*state, next.budget, next.remaining = SlotVoid, revision, s.remaining+1
		allowed = was == SlotOpen && charged
	case "claim":
		*state, allowed = SlotClaimed, was == SlotOpen
	case "tell":
		*state, allowed = SlotSent, was == SlotClaimed
	}
	revision = s.slots[c.bucket]
	return next, allowed && (revision == c.slot || same(revision, c.slot))
}

const slotTotal = 10_000

var slotModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{slotState{budget: unknownRevision, remaining: slotTotal}} },
	Step: func(state, call, answer any) []any {
		return state.(slotState).step(call.(slotCall), answer.(slotAnswer))
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(call, answer any) string { return fmt.Sprintf("%+v -> %+v", call, answer) },
}).ToModel()

// permitter takes part in what happens to the slots: as a leader, with any term it has or had, or as the worker that identifies.
type permitter struct {
	*participant
	reg   *Registration
	fence int64
	terms terms
}

func (p *permitter) record(call slotCall, do func(context.Context) (slotAnswer, error)) error {
	var answer slotAnswer
	return p.participant.record(call.kind, call, func(ctx context.Context) (err error) {
		answer, err = do(ctx)
		return err
	}, func(outcome string) any {
		if answer.outcome = outcome; outcome == "lost" {
			answer.revision = unknownRevision
		}
		return answer
	})
}

func (p *permitter) look() (cluster *Cluster, err error) {
	err = p.record(slotCall{kind: "read"}, func(ctx context.Context) (a slotAnswer, err error) {
		if cluster, err = readCluster(ctx, p.store); err != nil {
			return a, err
		}
		a.read = slotState{budget: cluster.Budget.Revision, remaining: cluster.Budget.Remaining}
		for bucket, slot := range cluster.Slots {
			a.read.states[bucket], a.read.slots[bucket] = slot.State, slot.Revision
		}
		return a, nil
	})
	return cluster, err
}

// grant opens or voids slots, all on the same belief, though each makes it stale for the next.
func (p *permitter) grant() {
	term := p.terms.one(p.rng)
	if term == nil {
		return
	}
	cluster, err := p.look()
	if err != nil {
		return
	}
	budget := cluster.Budget
	for range 1 + p.rng.IntN(2) {
		for bucket := range 2 {
			slot := cluster.Slots[bucket]
			slot.Bucket = bucket
			call := slotCall{bucket: bucket, slot: slot.Revision, budget: budget.Revision, remaining: budget.Remaining, term: term.Number}
			if slot.State != SlotOpen {
				call.kind = "open"
				p.open(call, term, budget, slot, cluster.Requests)
			} else if call.kind = "void"; p.rng.IntN(3) == 0 {
				_ = p.record(call, func(ctx context.Context) (slotAnswer, error) {
					revision, err := term.VoidSlot(ctx, slot, budget)
					return slotAnswer{revision: revision}, err
				})
			}
		}
	}
}

// open gives the slot to a request of its bucket, if there is one.
func (p *permitter) open(call slotCall, term *Term, budget Budget, slot Slot, requests map[RequestID]IdentifyRequest) {
	for _, request := range requests {
		if !request.Granted && request.Shard.Shard%2 == slot.Bucket {
			_ = p.record(call, func(ctx context.Context) (slotAnswer, error) {
				revision, err := term.OpenSlots(ctx, budget, Grant{request, theRange, slot})
				return slotAnswer{revision: revision}, err
			})
			return
		}
	}
}

// identify asks for a slot, or claims it.
func (p *permitter) identify() {
	cluster, err := p.look()
	if err != nil {
		return
	}
	own := p.reg.Own(Assignment{Range: theRange, Fence: p.fence})
	shard := ShardID{1, p.rng.IntN(4)}
	request := cluster.Requests[RequestID{"a", shard}]
	ctx, cancel := context.WithTimeout(context.Background(), patienceUnderFaults)
	defer cancel()
	session, err := own.LoadSession(ctx, shard.Shard)
	switch {
	case err != nil:
		return
	case !request.Granted || p.rng.IntN(8) == 0:
		_, _ = own.RequestIdentify(ctx, shard.Shard, false) // whether it was written, the next look tells
		return
	}
	var claim Claim
	err = p.record(slotCall{kind: "claim", bucket: request.Bucket, slot: request.Revision}, func(ctx context.Context) (a slotAnswer, err error) {
		claim, err = own.ClaimSlot(ctx, request, session, 0, 16)
		return slotAnswer{revision: claim.revision}, err
	})
	if errors.Is(err, ErrFenced) { // it was voided
		_, _ = own.RequestIdentify(ctx, shard.Shard, false)
	}
	if err == nil {
		_ = p.record(slotCall{kind: "tell", bucket: request.Bucket, slot: claim.revision}, func(ctx context.Context) (slotAnswer, error) {
			return slotAnswer{revision: unknownRevision}, claim.Sent(ctx, time.Now())
		})
	}
}

// Through all that an etcd of three members goes through, a bucket has one permit at a time, and each is charged once.
func TestSlotsUnderFaults(t *testing.T) {
	b := newBroken(t) // not parallel to the other that does: three members are work enough
	s := b.store("c")
	term := lead(t, s)
	_, err := term.SetPlan(t.Context(), Plan{Generation: 1, Shards: 16, RangeSize: 4})
	must(t, err)
	_, err = term.SetBudget(t.Context(), Budget{Total: slotTotal, Remaining: slotTotal, MaxConcurrency: 2})
	must(t, err)
	reg, err := s.Register(t.Context(), Worker{ID: "a"}, 10*time.Minute) // that it outlives the faults is not the question here
	must(t, err)
	must(t, take(t, term, Action{Kind: Assign, Range: Range{ID: theRange}, To: reg.Ref()}))
	fence := state(t, s).Ranges[theRange].Fence
	term.Resign()

	var everybody []func(context.Context)
	for i := range 2 {
		p := &permitter{participant: b.participant(i, "c"), reg: reg, fence: fence}
		everybody = append(everybody, func(ctx context.Context) { p.work(ctx, p.identify) })
	}
	for i := range 2 {
		p := &permitter{participant: b.participant(2+i, "c")}
		everybody = append(everybody, func(ctx context.Context) { p.terms.campaign(ctx, p.participant, nil) }, func(ctx context.Context) { p.work(ctx, p.grant) })
	}
	history := b.during([]string{"open done", "void done", "claim done", "tell done"}, everybody...)
	if result := porcupine.CheckOperationsTimeout(slotModel, history, time.Minute); result != porcupine.Ok {
		t.Errorf("the history is %v", result)
	}
}
