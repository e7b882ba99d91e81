package coordinator

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

const (
	// identifyWindow is Discord's: one IDENTIFY for each rate_limit_key (shard_id % max_concurrency) in 5 s
	// (Gateway, "Sharding for bots" and "Rate limiting").
	identifyWindow = 5 * time.Second
	// identifyJitter is by how much two IDENTIFYs may come closer on their way to Discord.
	identifyJitter = 100 * time.Millisecond
	// identifyValidity is how long after its claim a worker may still send, if it does not say when it did. It is what
	// a lease.Claim's deadline allows.
	identifyValidity = lease.SlotValidity
	// voidAfter is how long a granted slot may stay unclaimed.
	voidAfter = 10 * time.Second
	// budgetReserve is the part of Discord's daily limit that only shards which had a session before may use.
	budgetReserve = 0.1
)

// identifyClock knows when each bucket may identify next. It is plain state, told what happened by observe, and reads no
// clock of its own.
//
// A worker claims a slot in etcd and then sends IDENTIFY. We see the claim at L, which is not before its commit, so not
// before the moment t0 the worker noted ahead of it. If the worker reports that it sent δ after t0, it sent no
// later than L+δ; if it reports nothing, it sent no later than L+V, since it drops a claim older than V. So the bucket is
// free at L+δ+5 s or L+V+5 s, plus jitter, and no two clocks were compared.
type identifyClock struct {
	maxConcurrency int // maps shards to buckets; 0: not known, so nothing is granted
	buckets        map[int]*bucket
}

type bucket struct {
	slot     lease.Slot
	opened   time.Time // when we saw it opened, if it is open
	claimed  time.Time // when we saw the claim
	notUntil time.Time
}

// observe takes note of a slot as it is in etcd now. Seeing the same slot again changes nothing.
func (c *identifyClock) observe(slot lease.Slot, now time.Time) {
	if c.buckets == nil {
		c.buckets = map[int]*bucket{}
	}
	b := c.buckets[slot.Bucket]
	if b == nil {
		b = &bucket{}
		c.buckets[slot.Bucket] = b
	}
	if slot.Revision <= b.slot.Revision {
		return
	}
	// After notUntil the claim we saw may have been followed by another slot, of which we missed all but this.
	sawClaim := b.slot.State == lease.SlotClaimed && now.Before(b.notUntil)
	b.slot = slot
	switch slot.State {
	case lease.SlotOpen:
		b.opened = now
	case lease.SlotClaimed:
		b.claimed = now
		b.notUntil = now.Add(identifyValidity + identifyWindow + identifyJitter)
	case lease.SlotSent:
		if !sawClaim {
			b.claimed = now
		}
		delta := min(max(slot.Delta, 0), identifyValidity)
		b.notUntil = b.claimed.Add(delta + identifyWindow + identifyJitter)
	}
}

// grant is a request that may have the next slot of a bucket.
type grant struct {
	request lease.IdentifyRequest
	slot    lease.Slot // the bucket's last; only Bucket is set if there was none
}

// grants picks, for every bucket that is free, the request with the lowest shard of the generation in force, as Discord wants them started, and no
// more than the budget allows. again is when a bucket with a request that has to wait becomes free, or sooner; zero if none.
func (c *identifyClock) grants(requests map[lease.RequestID]lease.IdentifyRequest, budget lease.Budget, now time.Time) (out []grant, again time.Time) {
	if c.maxConcurrency < 1 || len(requests) == 0 {
		return nil, time.Time{}
	}
	remapped, ok := c.remapped()
	if !ok {
		return nil, time.Time{}
	}
	if free, next := c.free(remapped, now); !free { // there can be a request for every shard of a large bot: look at them only if that is of use
		return nil, next
	}
	remaining := budget.Remaining
	allowed := func(r lease.IdentifyRequest) bool { return remaining > 0 && (r.Repair || remaining > reserve(budget)) }
	next := map[int]lease.IdentifyRequest{}
	for _, request := range requests {
		bucket := request.Shard.Shard % c.maxConcurrency
		if first, ok := next[bucket]; !request.Granted && allowed(request) && (!ok || lower(request, first)) {
			next[bucket] = request
		}
	}
	for _, number := range slices.Sorted(maps.Keys(next)) {
		request, b := next[number], c.bucket(number)
		switch free := latest(b.notUntil, remapped); {
		case b.slot.State == lease.SlotOpen: // its claim, or its end, will be observed
		case now.Before(free):
			again = earliest(again, free)
		case allowed(request):
			remaining--
			out = append(out, grant{request, b.slot})
		}
	}
	return out, again
}

// free reports whether any bucket is, or else when the first will be, as far as that is known.
func (c *identifyClock) free(remapped, now time.Time) (free bool, next time.Time) {
	for number := range c.maxConcurrency {
		b := c.bucket(number)
		if b.slot.State == lease.SlotOpen {
			continue
		}
		at := latest(b.notUntil, remapped)
		if !now.Before(at) {
			return true, time.Time{}
		}
		next = earliest(next, at)
	}
	return false, next
}

// remapped is when the last slot that was opened under another max_concurrency is surely over. Its shard is in another
// bucket now, so until then every bucket waits. While such a slot is open nobody knows when that is, and ok is false.
// This is seen from the slots alone, so that a new leader sees it too.
func (c *identifyClock) remapped() (at time.Time, ok bool) {
	for _, b := range c.buckets {
		if b.slot.Shard.Shard%c.maxConcurrency == b.slot.Bucket {
			continue
		}
		if b.slot.State == lease.SlotOpen {
			return time.Time{}, false
		}
		at = latest(at, b.notUntil)
	}
	return at, true
}

// bucket is what is known of a bucket; of one that never had a slot, only its number.
func (c *identifyClock) bucket(number int) bucket {
	if b := c.buckets[number]; b != nil {
		return *b
	}
	return bucket{slot: lease.Slot{Bucket: number}}
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// lower orders requests by generation, so that the one in force comes before the one that is being prepared, and then by shard; of two
// for one shard, of an old and a new owner, the newer is first.
func lower(a, b lease.IdentifyRequest) bool {
	return cmp.Or(a.Shard.Generation-b.Shard.Generation, a.Shard.Shard-b.Shard.Shard, int(b.Revision-a.Revision)) < 0
}

func reserve(b lease.Budget) int { return int(budgetReserve * float64(b.Total)) }

// stale lists open slots that will not be claimed: their request is gone, or too old. again is when the next may be.
func (c *identifyClock) stale(requests map[lease.RequestID]lease.IdentifyRequest, now time.Time) (out []lease.Slot, again time.Time) {
	for _, b := range c.buckets {
		if b.slot.State != lease.SlotOpen {
			continue
		}
		due := b.opened.Add(voidAfter)
		request, ok := requests[lease.RequestID{Worker: b.slot.Worker.Worker, Shard: b.slot.Shard}]
		switch {
		case !ok, request.Revision != b.slot.Revision, !now.Before(due):
			out = append(out, b.slot)
		default:
			again = earliest(again, due)
		}
	}
	slices.SortFunc(out, func(a, b lease.Slot) int { return a.Bucket - b.Bucket })
	return out, again
}

// remaining is what is left of the budget when Discord, asked at that moment, answered so. It leaves out what Discord may not
// have counted. That is known only of the last slot of each bucket, so ok is false for an answer older than the window.
func (c *identifyClock) remaining(answer int, asked, now time.Time) (left int, ok bool) {
	return max(answer-c.outstanding(now), 0), now.Sub(asked) < identifyWindow
}

// outstanding counts slots whose IDENTIFY Discord may not have counted when it was asked for what remains.
func (c *identifyClock) outstanding(now time.Time) (n int) {
	for _, b := range c.buckets {
		switch b.slot.State {
		case lease.SlotOpen:
			n++
		case lease.SlotClaimed, lease.SlotSent:
			if now.Before(b.notUntil) {
				n++
			}
		}
	}
	return n
}
