package lease

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Grant is a leader's decision that a request may have the next IDENTIFY of a bucket.
type Grant struct {
	Request IdentifyRequest
	Range   RangeID // that the request's shard is in
	Slot    Slot    // the bucket's last, as the leader knows it; only Bucket is set if there was none
}

// MaxGrants is how many slots can be opened at once: each takes four of the 128 comparisons that etcd allows in a transaction
// (etcd --max-txn-ops), and three are for the era, the term and the budget.
const MaxGrants = 30

// OpenSlots grants requests, at most MaxGrants and one for a bucket, and charges budget, as the leader last knew it, for each: all of them or,
// if anything was overtaken (ErrFenced), none. It returns the revision that slots, requests and budget have now.
func (t *Term) OpenSlots(ctx context.Context, budget Budget, grants ...Grant) (int64, error) {
	k := t.store.keys
	guard := t.guard(modified(k.budget(), budget.Revision))
	budget.Remaining -= len(grants)
	ops := []clientv3.Op{put(k.budget(), budget)}
	for _, grant := range grants {
		cmps, puts := grant.txn(k)
		guard, ops = append(guard, cmps...), append(ops, puts...)
	}
	return t.store.commit(ctx, fmt.Sprintf("open %d identify slots", len(grants)), guard, ops...)
}

func (g Grant) txn(k keys) ([]clientv3.Cmp, []clientv3.Op) {
	worker := Ref{g.Request.Worker, g.Request.Incarnation}
	granted := g.Request
	granted.Granted, granted.Bucket = true, g.Slot.Bucket
	slot, request := k.slot(g.Slot.Bucket), k.request(g.Request.Worker, g.Request.Shard)
	return []clientv3.Cmp{
			modified(slot, g.Slot.Revision),
			owned(k, g.Range, g.Request.Fence),
			alive(k, worker),
			modified(request, g.Request.Revision),
		}, []clientv3.Op{
			put(slot, Slot{State: SlotOpen, Shard: g.Request.Shard, Worker: worker}),
			// The put would free the request of its worker's lease; a dead worker's must go.
			put(request, granted, clientv3.WithIgnoreLease()),
		}
}

// VoidSlot takes an open slot back and refunds the budget. A slot claimed meanwhile is not touched: ErrFenced. The
// request keeps a grant that is worth nothing now: its worker, refused when it claims, asks again.
func (t *Term) VoidSlot(ctx context.Context, slot Slot, budget Budget) (int64, error) {
	k := t.store.keys
	budget.Remaining++
	voided := slot
	voided.State = SlotVoid
	return t.store.commit(ctx, fmt.Sprintf("void identify slot of bucket %d", slot.Bucket),
		t.guard(modified(k.slot(slot.Bucket), slot.Revision), modified(k.budget(), budget.Revision)),
		put(k.slot(slot.Bucket), voided),
		put(k.budget(), budget),
	)
}
