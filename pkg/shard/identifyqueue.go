package shard

import (
	"context"
	"sync"
	"time"
)

const (
	// identifyWindow is Discord's: one IDENTIFY for each bucket in 5 s (Discord: Gateway, Sharding, max_concurrency).
	identifyWindow = 5 * time.Second
	// identifyJitter is by how much two IDENTIFYs may come closer on their way to Discord.
	identifyJitter = 100 * time.Millisecond
	// identifyPeriod is how long the budget lasts (Discord: Gateway, Session Start Limit Object).
	identifyPeriod = 24 * time.Hour
	// permitValidity is how long a permit of an IdentifyQueue is good for. It is given after HELLO, so IDENTIFY follows at
	// once, unless the machine is badly starved.
	permitValidity = 2 * time.Second
)

// IdentifyLimits is the session_start_limit of GET /gateway/bot (Discord: Gateway, Session Start Limit Object).
type IdentifyLimits struct {
	MaxConcurrency int           // buckets; below 1 counts as 1
	Total          int           // IDENTIFYs in a period of the budget; 0: no budget is kept
	Remaining      int           // left of the present period
	ResetAfter     time.Duration // until the next period
}

// IdentifyQueue is an [Identifier] for all sessions of a bot that runs in one process. In each bucket the waiting shard with
// the lowest index is next, 5.1 s after the one before it wrote its IDENTIFY. When the budget is spent, everybody waits for
// its reset: one IDENTIFY more, and Discord would reset the bot's token.
type IdentifyQueue struct {
	mu      sync.Mutex
	turns   identifyTurns
	changed chan struct{} // closed, and replaced, whenever somebody's turn may have come closer
}

// NewIdentifyQueue makes a queue that nobody waits in.
func NewIdentifyQueue(limits IdentifyLimits) *IdentifyQueue {
	q := &IdentifyQueue{changed: make(chan struct{})}
	q.turns.update(limits, time.Now())
	return q
}

// Update takes in what Discord says now of the limits.
func (q *IdentifyQueue) Update(limits IdentifyLimits) {
	q.do(func(now time.Time) { q.turns.update(limits, now) })
}

// Permit implements [Identifier]. Its error is that of the context.
func (q *IdentifyQueue) Permit(ctx context.Context, id ID) (Permit, error) {
	q.do(func(time.Time) { q.turns.waiting[id]++ })
	defer q.do(func(time.Time) { q.turns.leave(id) })
	for {
		permit, at, changed := q.try(id)
		if permit != nil {
			return *permit, nil
		}
		if err := sleepUntil(ctx, at, changed); err != nil {
			return Permit{}, err
		}
	}
}

// try gives the shard its permit if it is its turn. Otherwise it says when it may be, and what to wait for besides.
func (q *IdentifyQueue) try(id ID) (permit *Permit, at time.Time, changed <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	number, at := q.turns.take(id, now)
	if number == 0 {
		return nil, at, q.changed
	}
	sent := func() { q.do(func(now time.Time) { q.turns.sent(id, number, now) }) }
	return &Permit{Deadline: now.Add(permitValidity), Sent: sent}, at, nil
}

// do changes the turns and wakes all who wait.
func (q *IdentifyQueue) do(change func(now time.Time)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change(time.Now())
	close(q.changed)
	q.changed = make(chan struct{})
}

// sleepUntil waits for a moment (the zero Time never comes) or a change, or until the context ends and then returns its error.
func sleepUntil(ctx context.Context, at time.Time, changed <-chan struct{}) error {
	var moment <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		moment = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-moment:
	case <-changed:
	}
	return nil
}

// identifyTurns decides whose turn it is. It is plain state on the times it is given.
type identifyTurns struct {
	limits  IdentifyLimits
	resetAt time.Time
	waiting map[ID]int // how many wait for a shard: two only while one is replaced by another
	buckets map[int]identifyBucket
	given   int // permits so far
}

type identifyBucket struct {
	last int       // number of the last permit
	free time.Time // when the next may be given
}

// update keeps the present spacing, whatever the new number of buckets: each of them begins with the latest of the old ones.
func (t *identifyTurns) update(limits IdentifyLimits, now time.Time) {
	limits.MaxConcurrency = max(limits.MaxConcurrency, 1)
	if t.waiting == nil {
		t.waiting = map[ID]int{}
	}
	if limits.MaxConcurrency != t.limits.MaxConcurrency {
		var free time.Time
		for _, b := range t.buckets {
			free = later(free, b.free)
		}
		t.buckets = map[int]identifyBucket{}
		for n := range limits.MaxConcurrency {
			t.buckets[n] = identifyBucket{free: free}
		}
	}
	t.limits, t.resetAt = limits, now.Add(limits.ResetAfter)
}

// take gives the shard its turn and returns the permit's number, or 0 and when it may come; never, if others come first.
func (t *identifyTurns) take(id ID, now time.Time) (number int, at time.Time) {
	n := id.Bucket(t.limits.MaxConcurrency)
	for other := range t.waiting {
		if other.Bucket(t.limits.MaxConcurrency) == n && other.Index < id.Index {
			return 0, time.Time{}
		}
	}
	if at := later(t.buckets[n].free, t.funded(now)); at.After(now) {
		return 0, at
	}
	if t.limits.Remaining == t.limits.Total { // a period begins with its first IDENTIFY
		t.resetAt = now.Add(identifyPeriod)
	}
	t.given++
	t.limits.Remaining--
	// Until it is said when IDENTIFY was written, or for ever if that is not known, it counts as late as it may be.
	t.buckets[n] = identifyBucket{last: t.given, free: now.Add(permitValidity + identifyWindow + identifyJitter)}
	return t.given, now
}

// funded is when the budget has something left: now, or at its reset.
func (t *identifyTurns) funded(now time.Time) time.Time {
	if !now.Before(t.resetAt) {
		t.limits.Remaining = t.limits.Total
	}
	if t.limits.Total > 0 && t.limits.Remaining <= 0 {
		return t.resetAt
	}
	return now
}

// sent takes note of when the IDENTIFY of a permit was written.
func (t *identifyTurns) sent(id ID, number int, now time.Time) {
	n := id.Bucket(t.limits.MaxConcurrency)
	if b, ok := t.buckets[n]; ok && b.last == number {
		b.free = now.Add(identifyWindow + identifyJitter)
		t.buckets[n] = b
	}
}

func (t *identifyTurns) leave(id ID) {
	if t.waiting[id]--; t.waiting[id] <= 0 {
		delete(t.waiting, id)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
