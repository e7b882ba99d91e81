package lease

import (
	"context"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ActionKind is what a leader can do to a range.
type ActionKind int

// The kinds of Action.
const (
	// Assign gives a range to To. Its owner must be nobody, or dead.
	Assign ActionKind = iota + 1
	// Intend tells the owner, who is alive, to hand over to To (nobody: to release).
	Intend
	// Force gives a range to the target of a move whose owner, though alive, did not hand over in time.
	Force
	// Cancel withdraws a move.
	Cancel
	// Retire removes a range of an earlier generation, whoever owns it, and with it the right to write about it.
	Retire
)

func (k ActionKind) String() string {
	return [...]string{Assign: "assign", Intend: "intend", Force: "force", Cancel: "cancel", Retire: "retire"}[k]
}

// Action is one step that a leader decided on. Range is what it decided by: the step is taken only if that is still so.
type Action struct {
	Kind  ActionKind
	Range Range
	To    Ref
}

func (a Action) String() string {
	return fmt.Sprintf("%v range %v to %q", a.Kind, a.Range.ID, a.To.Worker)
}

// maxActionsPerTxn keeps a transaction below etcd's limit of 128 operations and comparisons, which nested
// transactions share with the one around them (etcd --max-txn-ops).
const maxActionsPerTxn = 48

// Apply takes the given steps, at most one for a range, and returns those that were taken and the last revision it
// made, 0 if none. Steps are batched; each is taken or not by itself. ErrFenced means that the term is over; after
// another error steps that are not returned may have been taken too.
func (t *Term) Apply(ctx context.Context, actions []Action) (taken []Action, revision int64, err error) {
	for batch := range slices.Chunk(actions, maxActionsPerTxn) {
		some, rev, err := t.applyBatch(ctx, batch)
		if err != nil {
			return taken, revision, err
		}
		if len(some) > 0 { // else rev is somebody else's, and may be of a key that no follower of this cluster sees
			taken, revision = append(taken, some...), rev
		}
	}
	return taken, revision, nil
}

func (t *Term) applyBatch(ctx context.Context, batch []Action) (taken []Action, revision int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	steps := make([]clientv3.Op, len(batch))
	for i, action := range batch {
		cmps, ops := action.txn(t.store.keys)
		steps[i] = clientv3.OpTxn(cmps, ops, nil)
	}
	resp, err := t.store.client.Txn(ctx).If(t.guard()...).Then(steps...).Commit()
	if err != nil {
		return nil, 0, fmt.Errorf("apply %d actions: %w", len(batch), err)
	}
	if !resp.Succeeded {
		return nil, 0, fmt.Errorf("apply %d actions: %w", len(batch), ErrFenced)
	}
	for i, action := range batch {
		if resp.Responses[i].GetResponseTxn().Succeeded {
			taken = append(taken, action)
		}
	}
	return taken, resp.Header.Revision, nil
}

// txn is the transaction of an action. See the package documentation for what each key is.
func (a Action) txn(k keys) ([]clientv3.Cmp, []clientv3.Op) {
	r := a.Range
	unchanged := modified(k.owner(r.ID), r.Fence)
	sameMove := modified(k.move(r.ID), 0)
	if r.Move != nil {
		sameMove = modified(k.move(r.ID), r.Move.Revision)
	}
	targetAlive := alive(k, a.To)
	switch a.Kind {
	case Assign:
		cmps := []clientv3.Cmp{unchanged, sameMove, targetAlive}
		if r.Owner.Worker != "" {
			cmps = append(cmps, dead(k, r.Owner))
		}
		return cmps, a.give(k)
	case Force:
		return []clientv3.Cmp{unchanged, sameMove, targetAlive}, a.give(k)
	case Intend:
		cmps := []clientv3.Cmp{unchanged, sameMove, alive(k, r.Owner)}
		ops := []clientv3.Op{
			put(k.move(r.ID), Move{To: a.To}),
			put(k.assignment(r.Owner.Worker, r.ID), Assignment{Incarnation: r.Owner.Incarnation, Fence: r.Fence, HandOver: true, To: a.To}),
		}
		if a.To.Worker != "" {
			cmps = append(cmps, targetAlive)
		}
		if a.To.Worker != "" && a.To.Worker != r.Owner.Worker {
			ops = append(ops, put(k.assignment(a.To.Worker, r.ID),
				Notice{Incarnation: a.To.Incarnation, Prepare: true, Owner: r.Owner, OwnerFence: r.Fence}))
		}
		return cmps, ops
	case Cancel:
		return []clientv3.Cmp{unchanged, sameMove}, append(a.forget(k, r.Owner.Worker),
			clientv3.OpDelete(k.move(r.ID)),
			put(k.assignment(r.Owner.Worker, r.ID), Assignment{Incarnation: r.Owner.Incarnation, Fence: r.Fence}),
		)
	case Retire:
		return []clientv3.Cmp{unchanged, sameMove}, append(a.forget(k, ""), clientv3.OpDelete(k.owner(r.ID)), clientv3.OpDelete(k.move(r.ID)))
	default:
		panic(fmt.Sprintf("lease: action of kind %d", a.Kind))
	}
}

// give makes To the owner, whoever was before.
func (a Action) give(k keys) []clientv3.Op {
	r := a.Range
	return append(a.forget(k, a.To.Worker),
		put(k.owner(r.ID), a.To),
		put(k.assignment(a.To.Worker, r.ID), Assignment{Incarnation: a.To.Incarnation}),
		clientv3.OpDelete(k.move(r.ID)),
	)
}

// forget deletes what the range's owner and the target of its move were told about it, except for one of them: whose key is written, and
// a key may occur once in a transaction.
func (a Action) forget(k keys, except string) (ops []clientv3.Op) {
	told := []string{a.Range.Owner.Worker}
	if a.Range.Move != nil && a.Range.Move.To.Worker != a.Range.Owner.Worker {
		told = append(told, a.Range.Move.To.Worker)
	}
	for _, worker := range told {
		if worker != "" && worker != except {
			ops = append(ops, clientv3.OpDelete(k.assignment(worker, a.Range.ID)))
		}
	}
	return ops
}
