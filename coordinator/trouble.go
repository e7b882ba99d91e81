package coordinator

import "time"

// sayAgain is how often a trouble that lasts is said.
const sayAgain = time.Minute

// trouble is that something fails again and again: it is said when it begins, then once in sayAgain, and when it is over.
type trouble struct {
	since, said time.Time // zero: there is none
}

// fails takes note of a failure, and reports whether it is to be said.
func (t *trouble) fails(now time.Time) (say bool) {
	if t.since.IsZero() {
		t.since = now
	}
	if now.Sub(t.said) < sayAgain {
		return false
	}
	t.said = now
	return true
}

// succeeds takes note that it does not fail any more, and reports whether that is to be said, and how long it did.
func (t *trouble) succeeds(now time.Time) (lasted time.Duration, say bool) {
	if t.since.IsZero() {
		return 0, false
	}
	lasted = now.Sub(t.since)
	*t = trouble{}
	return lasted, true
}
