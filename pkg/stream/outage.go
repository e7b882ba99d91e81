package stream

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// outageSilence is how long after a line about an outage there is no other, for
// servers that come and go.
const outageSilence = time.Minute

// outage keeps track of trouble with Redis, for several goroutines, and logs when
// it begins and when it is over.
type outage struct {
	logger  hclog.Logger
	trouble string // what is wrong, such as "redis does not answer"
	relief  string // what is right again

	mu     sync.Mutex
	since  time.Time // when it began, zero if all is well
	logged time.Time // when it was told of last
	told   bool      // of the present one
}

// note takes note of a failure.
func (o *outage) note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.since.IsZero() {
		o.since = now
	}
	if now.Sub(o.logged) > outageSilence {
		o.logged, o.told = now, true
		o.logger.Warn(o.trouble+", trying again", "error", err)
	}
}

// over takes note of a success.
func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told {
		o.logger.Info(o.relief, "after", time.Since(o.since))
	}
	o.since, o.told = time.Time{}, false
}
