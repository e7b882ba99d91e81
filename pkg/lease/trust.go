package lease

import "time"

// trustMargin is how long before etcd may expire a lease its holder stops trusting it. It covers a clock that runs
// slower than etcd's by 5 % at the default TTL, and the time from a check to the act it allowed.
const trustMargin = time.Second

// trust is how long a worker may believe that its registration exists. It counts from when a renewal was sent, not
// from when its answer came: etcd may have renewed at any moment between, and an answer may be late. Times are of a
// clock that goes on while the machine is suspended (see sinceBoot).
type trust struct {
	ttl   time.Duration
	until time.Duration
	over  bool
}

// renewed takes note of a successful renewal that was sent at the given time. An older one changes nothing.
func (t *trust) renewed(sent time.Duration) {
	t.until = max(t.until, sent+t.ttl-trustMargin)
}

// holds reports whether the registration can be relied on at the given time.
func (t *trust) holds(now time.Duration) bool { return t.left(now) > 0 }

// left is for how long it still can be, if it is not renewed; 0 or less if it cannot.
func (t *trust) left(now time.Duration) time.Duration {
	if t.over {
		return 0
	}
	return t.until - now
}

// end takes note that the registration is gone, or about to be. A renewal that is still on its way changes nothing.
func (t *trust) end() { t.over = true }
