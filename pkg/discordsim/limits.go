package discordsim

import "time"

// The three clocks of this file decide on the time they are given and touch nothing else. Their callers guard them.

// sendLimit and sendPeriod bound what a client sends on one connection, heartbeats included; presenceLimit and
// presencePeriod bound its presence updates, beyond which Discord does not say what happens; httpLimit and httpPeriod bound
// its requests to the REST API.
// See https://discord.com/developers/docs/events/gateway#rate-limiting.
const (
	sendLimit      = 120
	sendPeriod     = 60 * time.Second
	presenceLimit  = 5
	presencePeriod = 20 * time.Second
	httpLimit      = 50
	httpPeriod     = time.Second
)

// sendClock counts what is sent on one connection over a sliding period. Discord does not say where its periods start, so
// the simulator allows the limit in any period at all.
type sendClock struct {
	period time.Duration
	sent   []time.Time // the last sends, as many as are allowed: a ring
	next   int
}

func newSendClock(limit int, period time.Duration) sendClock {
	return sendClock{period: period, sent: make([]time.Time, limit)}
}

// allow records a send and reports whether it is within the limit.
func (c *sendClock) allow(now time.Time) bool {
	oldest := c.sent[c.next]
	c.sent[c.next] = now
	c.next = (c.next + 1) % len(c.sent)
	return oldest.IsZero() || now.Sub(oldest) >= c.period
}

// identifyClock spaces the IDENTIFYs of each bucket.
type identifyClock struct {
	window time.Duration
	last   map[int]time.Time // by bucket: when one was last admitted
}

// early reports how long after the last one of its bucket an IDENTIFY comes, and whether that is too soon.
func (c *identifyClock) early(now time.Time, bucket int) (since time.Duration, early bool) {
	last, used := c.last[bucket]
	since = now.Sub(last)
	return since, used && since < c.window
}

// take gives the bucket's slot away. One that is refused is not taken: it does not push the next slot back.
func (c *identifyClock) take(now time.Time, bucket int) { c.last[bucket] = now }

// budget is the session start limit. A period starts with its first IDENTIFY.
type budget struct {
	limit SessionLimit
	used  int
	ends  time.Time // of the running period; zero when none runs
}

func newBudget(limit SessionLimit, now time.Time) budget {
	b := budget{limit: limit, used: limit.Used}
	if b.used > 0 {
		b.ends = now.Add(limit.ResetAfter)
	}
	return b
}

func (b *budget) roll(now time.Time) {
	if !b.ends.IsZero() && !now.Before(b.ends) {
		b.used, b.ends = 0, time.Time{}
	}
}

// spend takes one IDENTIFY from the budget and reports whether there was one.
func (b *budget) spend(now time.Time) bool {
	b.roll(now)
	if b.used >= b.limit.Total {
		return false
	}
	if b.used == 0 {
		b.ends = now.Add(b.limit.ResetAfter)
	}
	b.used++
	return true
}

// remaining is what is left and how long until it is full again, 0 when it is full.
func (b *budget) remaining(now time.Time) (left int, resetAfter time.Duration) {
	b.roll(now)
	if b.used == 0 {
		return b.limit.Total, 0
	}
	return b.limit.Total - b.used, b.ends.Sub(now)
}
