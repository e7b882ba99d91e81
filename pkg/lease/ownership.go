package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Ownership is one incarnation's right to one range, and the only way a worker writes about it: every transaction compares the
// range's fence and the worker's incarnation. It is a plain value; that it exists says nothing about whether it still holds.
type Ownership struct {
	Range RangeID
	Fence int64
	reg   *Registration
	muted bool // see Mute

	move int64 // revision of the range's move, as far as the assignment knows; 0: none
	to   Ref   // whom that is to
}

// Own is the ownership that an assignment to this incarnation speaks of.
func (r *Registration) Own(a Assignment) Ownership {
	return Ownership{Range: a.Range, Fence: a.Fence, reg: r, move: a.Move, to: a.To}
}

func (o Ownership) String() string {
	return fmt.Sprintf("range %v of worker %s", o.Range, o.reg.ref.Worker)
}

func (o Ownership) keys() keys { return o.reg.store.keys }

func (o Ownership) guard(more ...clientv3.Cmp) []clientv3.Cmp {
	cmps := append(o.reg.alive(), owned(o.keys(), o.Range, o.Fence))
	return append(cmps, more...)
}

// HandOver gives the range to the worker that the leader's move names. The caller must have closed every socket of the
// range and have all its entries in Redis. No leader is needed. If the move names nobody, or nobody is there to take it,
// use Release.
func (o Ownership) HandOver(ctx context.Context, a Assignment) error {
	k, self := o.keys(), o.reg.ref.Worker
	_, err := o.reg.store.commit(ctx, "hand over "+o.String(),
		o.guard(alive(k, a.To), modified(k.move(o.Range), a.Move)),
		put(k.owner(o.Range), a.To),
		put(k.assignment(a.To.Worker, o.Range), Assignment{Incarnation: a.To.Incarnation}),
		clientv3.OpDelete(k.assignment(self, o.Range)),
		clientv3.OpDelete(k.move(o.Range)),
	)
	return err
}

// Release gives the range up to nobody; the leader will find it an owner. ErrFenced also means that a move has begun or ended that
// the assignment does not know of. The caller must have done what HandOver asks for.
func (o Ownership) Release(ctx context.Context) error {
	k := o.keys()
	ops := []clientv3.Op{
		put(k.owner(o.Range), Ref{}),
		clientv3.OpDelete(k.assignment(o.reg.ref.Worker, o.Range)),
		clientv3.OpDelete(k.move(o.Range)),
	}
	if o.to.Worker != "" {
		ops = append(ops, clientv3.OpDelete(k.assignment(o.to.Worker, o.Range))) // its notice
	}
	_, err := o.reg.store.commit(ctx, "release "+o.String(), o.guard(modified(k.move(o.Range), o.move)), ops...)
	return err
}

// Confirm asks whether the range is still ours: nil if so, ErrFenced if not.
func (o Ownership) Confirm(ctx context.Context) error {
	_, err := o.reg.store.commitInTurn(ctx, "confirm "+o.String(), o.guard())
	return err
}

// LoadSession reads the shard's session record; the zero Session if there is none. A record that cannot be read counts as none,
// and is reported in the log: the shard then identifies, which repairs it.
func (o Ownership) LoadSession(ctx context.Context, shard int) (Session, error) {
	return o.loadSession(ctx, ShardID{o.Range.Generation, shard})
}

// LoadFormer is LoadSession for the shard of the same number in the former generation.
func (o Ownership) LoadFormer(ctx context.Context, plan Plan, shard int) (Session, error) {
	return o.loadSession(ctx, ShardID{plan.Former.Generation, shard})
}

func (o Ownership) loadSession(ctx context.Context, of ShardID) (Session, error) {
	shard := of.Shard
	resp, err := o.reg.store.getInTurn(ctx, o.keys().session(of))
	if err != nil {
		return Session{}, fmt.Errorf("load session of shard %d: %w", shard, err)
	}
	if len(resp.Kvs) == 0 {
		return Session{}, nil
	}
	var session Session
	if err := json.Unmarshal(resp.Kvs[0].Value, &session); err != nil {
		o.reg.log.Error("session record is not JSON of its form; the shard will identify anew", "shard", shard)
		session = Session{}
	}
	session.Revision = resp.Kvs[0].ModRevision
	return session, nil
}

// LoadSession reads a shard's session record, as its owner would: anybody may read it, but only the owner may go by it.
func (r *Registration) LoadSession(ctx context.Context, id ShardID) (Session, error) {
	return r.Own(Assignment{Range: RangeID{Generation: id.Generation}}).LoadSession(ctx, id.Shard)
}

// EndSessions takes note that Discord was told to end the sessions of these shards: nobody is to resume them. Their epochs stay. A
// record that is written meanwhile stays as well: whoever tries to resume from it is told by Discord. After an error some may be ended.
func (o Ownership) EndSessions(ctx context.Context, shards []int) error {
	for some := range slices.Chunk(shards, maxActionsPerTxn) {
		if err := o.endSessions(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (o Ownership) endSessions(ctx context.Context, shards []int) error {
	what := "end sessions of " + o.String()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	reads := make([]clientv3.Op, len(shards))
	for i, shard := range shards {
		reads[i] = clientv3.OpGet(o.keys().session(ShardID{o.Range.Generation, shard}))
	}
	resp, err := o.reg.store.client.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var steps []clientv3.Op
	for _, read := range resp.Responses {
		for _, kv := range read.GetResponseRange().Kvs {
			steps = append(steps, endSession(kv)...)
		}
	}
	_, err = o.reg.store.commit(ctx, what, o.guard(), steps...)
	return err
}

// endSession takes the session out of its record, if there is one, and if the record is not written meanwhile.
func endSession(kv *mvccpb.KeyValue) []clientv3.Op {
	var session Session
	if json.Unmarshal(kv.Value, &session) != nil || session.ID == "" { // no session to its owner either
		return nil
	}
	key := string(kv.Key)
	session.ID, session.ResumeURL, session.From = "", "", 0
	return []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{modified(key, kv.ModRevision)}, []clientv3.Op{put(key, session)}, nil)}
}

// RequestIdentify asks the leader for an identify slot. The answer is the request's record becoming Granted, which the worker
// sees by following [Registration.Requests]. The returned revision tells a grant of this request from an older one's.
// repair says that the shard had a session before.
func (o Ownership) RequestIdentify(ctx context.Context, shard int, repair bool) (int64, error) {
	key := o.keys().request(o.reg.ref.Worker, ShardID{o.Range.Generation, shard})
	return o.reg.store.commitInTurn(ctx, fmt.Sprintf("request identify slot for shard %d", shard), o.guard(),
		put(key, IdentifyRequest{Incarnation: o.reg.ref.Incarnation, Fence: o.Fence, Repair: repair}, clientv3.WithLease(o.reg.lease)))
}

// WithdrawIdentify takes a request back, and with it a slot that was granted but not claimed.
func (o Ownership) WithdrawIdentify(ctx context.Context, shard int) error {
	key := o.keys().request(o.reg.ref.Worker, ShardID{o.Range.Generation, shard})
	_, err := o.reg.store.commit(ctx, fmt.Sprintf("withdraw identify request of shard %d", shard), o.guard(), clientv3.OpDelete(key))
	return err
}

// SlotValidity is how long after claiming a slot IDENTIFY may be written. The leader counts on it when the worker does
// not confirm (V in its arithmetic).
const SlotValidity = 2 * time.Second

// Claim is the permission to IDENTIFY once, as epoch Epoch, before Deadline.
type Claim struct {
	Epoch    uint64
	Deadline time.Time // IDENTIFY must be written before it, or not at all

	own      Ownership
	bucket   int
	revision int64
	start    time.Time
	began    time.Duration // the same moment by the registration's clock, which goes on while the machine is suspended
	slot     Slot
	session  Session
}

// slept is for how long the machine was suspended since the claim began, of which Go's clock knows nothing.
func (c Claim) slept() time.Duration {
	elapsed := c.own.reg.clock() - c.began // looked at before Go's, and began after start: not above that, but for a suspension
	return max(0, elapsed-time.Since(c.start))
}

// ClaimSlot uses up a granted slot: it marks it claimed and the shard's session record as belonging to the new epoch, whose session is
// not known yet. previous is the record as it was last read. The new epoch is above both its own and the stream's (streamEpoch).
// ErrFenced means that the slot was voided or the range lost; then ask again, if still the owner.
func (o Ownership) ClaimSlot(ctx context.Context, grant IdentifyRequest, previous Session, streamEpoch uint64, shards int) (Claim, error) {
	if !grant.Granted {
		return Claim{}, fmt.Errorf("claim identify slot for shard %d: not granted: %w", grant.Shard.Shard, ErrFenced)
	}
	k := o.keys()
	epoch := max(previous.Epoch, streamEpoch) + 1
	claim := Claim{
		Epoch: epoch, own: o, bucket: grant.Bucket, start: time.Now(),
		slot:    Slot{State: SlotClaimed, Shard: grant.Shard, Worker: o.reg.ref},
		session: Session{Epoch: epoch, Shards: shards, Muted: o.muted},
	}
	claim.began = o.reg.clock()
	session := k.session(grant.Shard)
	revision, err := o.reg.store.commit(ctx, fmt.Sprintf("claim identify slot for shard %d", grant.Shard.Shard),
		o.guard(modified(k.slot(grant.Bucket), grant.Revision), modified(session, previous.Revision)),
		put(k.slot(grant.Bucket), claim.slot),
		put(session, claim.session),
		clientv3.OpDelete(k.request(o.reg.ref.Worker, grant.Shard)),
	)
	if err != nil {
		return Claim{}, err
	}
	claim.revision = revision
	claim.Deadline = claim.start.Add(SlotValidity - claim.slept())
	return claim, nil
}

// Sent tells the leader when the IDENTIFY of a claim was written, so that the bucket's next may follow five seconds
// after it instead of after the latest moment it could have been. Not telling costs time, not safety.
func (c Claim) Sent(ctx context.Context, at time.Time) error {
	k := c.own.keys()
	slot := c.slot
	slot.State, slot.Delta = SlotSent, at.Sub(c.start)+c.slept()
	_, err := c.own.reg.store.commit(ctx, fmt.Sprintf("confirm identify of shard %d", slot.Shard.Shard),
		[]clientv3.Cmp{c.own.reg.tenure.holds(k), modified(k.slot(c.bucket), c.revision)}, put(k.slot(c.bucket), slot))
	return err
}

// SaveSession records the session that the claim's IDENTIFY began, so that a next owner can resume it. It is refused
// (ErrFenced) if this is not the owner any more, and if the record was written since the claim: by this very call, whose answer
// was lost, or for a later epoch.
func (c Claim) SaveSession(ctx context.Context, id, resumeURL string) error {
	session := c.session
	session.ID, session.ResumeURL = id, resumeURL
	key := c.own.keys().session(c.slot.Shard)
	_, err := c.own.reg.store.commit(ctx, fmt.Sprintf("save session of shard %d", c.slot.Shard.Shard),
		c.own.guard(modified(key, c.revision)), put(key, session))
	return err
}
