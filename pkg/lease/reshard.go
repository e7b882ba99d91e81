package lease

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Prepare begins to prepare a generation beside the plan's, by order of a directive, and returns the plan as it is then. Like Flip and
// Abort it is refused (ErrFenced) if the plan is not what it was, or if there is another directive by now; nil stands for none.
func (t *Term) Prepare(ctx context.Context, plan Plan, next Cut, by *Reshard) (Plan, error) {
	plan.Next, plan.Last = next, next.Generation
	return t.reshard(ctx, fmt.Sprintf("prepare generation %d", next.Generation), plan, by)
}

// Flip puts the generation that was being prepared in force, and takes the directive away that asked for it.
func (t *Term) Flip(ctx context.Context, plan Plan, by *Reshard) (Plan, error) {
	var ops []clientv3.Op
	if by != nil && by.Shards == plan.Next.Shards && by.Refused == "" {
		ops = append(ops, clientv3.OpDelete(t.store.keys.directive(nameReshard)))
	}
	return t.reshard(ctx, fmt.Sprintf("put generation %d in force", plan.Next.Generation), plan.flipped(), by, ops...)
}

// Abort gives the generation that is being prepared up. The directive is taken away if that is what it asked for (why is empty), or
// else says why.
func (t *Term) Abort(ctx context.Context, plan Plan, by *Reshard, why string) (Plan, error) {
	key := t.store.keys.directive(nameReshard)
	op := clientv3.OpDelete(key)
	if why != "" {
		op = put(key, Reshard{Shards: plan.Next.Shards, Refused: why, At: time.Now().UTC()})
	}
	what := fmt.Sprintf("give up generation %d", plan.Next.Generation)
	plan.Next = Cut{}
	return t.reshard(ctx, what, plan, by, op)
}

func (t *Term) reshard(ctx context.Context, what string, plan Plan, by *Reshard, more ...clientv3.Op) (Plan, error) {
	k := t.store.keys
	var directive int64 // 0: there is none
	if by != nil {
		directive = by.Revision
	}
	revision, err := t.store.commit(ctx, what,
		t.guard(modified(k.plan(), plan.Revision), modified(k.directive(nameReshard), directive)),
		append([]clientv3.Op{put(k.plan(), plan)}, more...)...)
	plan.Revision = revision
	return plan, err
}

// DirectReshard writes a directive down in the leader's own name, unless another has come meanwhile (ErrFenced). before is the one
// that stands, nil for none.
func (t *Term) DirectReshard(ctx context.Context, before *Reshard, r Reshard) error {
	key := t.store.keys.directive(nameReshard)
	var revision int64
	if before != nil {
		revision = before.Revision
	}
	_, err := t.store.commit(ctx, "direct "+nameReshard, t.guard(modified(key, revision)), put(key, r))
	return err
}

// Plan reads the plan from a quorum: what it says was so at some moment after the call. Generation 0: there is none.
func (s *Store) Plan(ctx context.Context) (plan Plan, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, s.keys.plan())
	if err != nil {
		return Plan{}, fmt.Errorf("read plan: %w", err)
	}
	for _, kv := range resp.Kvs {
		err = decodePlan(s.record(kv), &plan)
	}
	return plan, err
}

// formerOf is the range of the former generation that a shard was in. It is false if there was no such shard.
func (p Plan) formerOf(shard int) (RangeID, bool) {
	if shard >= p.Former.Shards {
		return RangeID{}, false
	}
	return RangeID{p.Former.Generation, shard / p.Former.RangeSize}, true
}

// Succeeded reports whether the former generation's ranges that the given shards were in are gone: their shards have been brought to
// their ends.
func (s *Store) Succeeded(ctx context.Context, plan Plan, shards []int) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var gone []clientv3.Cmp
	var last RangeID
	for _, shard := range shards { // ascending, so that a range comes once
		if id, ok := plan.formerOf(shard); ok && id != last {
			gone, last = append(gone, created(s.keys.owner(id), 0)), id
		}
	}
	resp, err := s.client.Txn(ctx).If(gone...).Commit()
	if err != nil {
		return false, fmt.Errorf("look for ranges of generation %d: %w", plan.Former.Generation, err)
	}
	return resp.Succeeded, nil
}

// Unmute lets a shard that was prepared write to its stream, with a session that goes on from a sequence number (0: it cannot, and a
// new one is to be begun), under an epoch above all that the stream, the former generation and the muted session had. It is refused
// (ErrFenced) while a range of the former generation may still be written for by its owner. muted is the shard's record as it was
// last read, former that of the shard of the same number in the former generation.
func (o Ownership) Unmute(ctx context.Context, plan Plan, shard int, muted, former Session, streamEpoch uint64, from int64) (Session, error) {
	k := o.keys()
	key, before := k.session(ShardID{o.Range.Generation, shard}), k.session(ShardID{plan.Former.Generation, shard})
	session := Session{Epoch: max(muted.Epoch, former.Epoch, streamEpoch) + 1, Shards: plan.Shards}
	if from > 0 {
		session.ID, session.ResumeURL, session.From = muted.ID, muted.ResumeURL, from
	}
	cmps := o.guard(modified(key, muted.Revision), modified(before, former.Revision))
	if id, ok := plan.formerOf(shard); ok {
		cmps = append(cmps, created(k.owner(id), 0))
	}
	revision, err := o.reg.store.commit(ctx, fmt.Sprintf("unmute shard %d", shard), cmps, put(key, session), clientv3.OpDelete(before))
	session.Revision = revision
	return session, err
}

// Mute is the ownership of a range of the generation that is being prepared: sessions that it claims slots for are recorded as muted.
func (o Ownership) Mute() Ownership {
	o.muted = true
	return o
}

// Retire removes a range of the former generation. The caller must have brought its shards to their ends, with all of it in Redis:
// nobody will look after them any more.
func (o Ownership) Retire(ctx context.Context) error {
	k := o.keys()
	_, err := o.reg.store.commit(ctx, "retire "+o.String(), o.guard(),
		clientv3.OpDelete(k.owner(o.Range)),
		clientv3.OpDelete(k.assignment(o.reg.ref.Worker, o.Range)),
		clientv3.OpDelete(k.move(o.Range)),
	)
	return err
}

// EndSession records that a shard's session is no more, as of a new epoch above the stream's, which only a gap marker is to open.
func (o Ownership) EndSession(ctx context.Context, shard int, before Session, streamEpoch uint64) (Session, error) {
	key := o.keys().session(ShardID{o.Range.Generation, shard})
	ended := Session{Epoch: max(before.Epoch, streamEpoch) + 1}
	revision, err := o.reg.store.commit(ctx, fmt.Sprintf("end session of shard %d", shard), o.guard(modified(key, before.Revision)), put(key, ended))
	ended.Revision = revision
	return ended, err
}
