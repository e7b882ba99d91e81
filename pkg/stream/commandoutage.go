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
// it begins and ends.
type outage struct {
	logger hclog.Logger
	what   string

	mu     sync.Mutex
	since  time.Time // when it began, zero if all is well
	logged time.Time // when it was told of last
	told   bool      // of the present one
}

func (o *outage) note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.since.IsZero() {
		o.since = now
	}
	if now.Sub(o.logged) > outageSilence {
		o.logged, o.told = now, true
		o.logger.Warn(o.what+", trying again", "error", err)
	}
}

func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told {
		o.logger.Info("redis answers for commands again", "after", time.Since(o.since))
	}
	o.since, o.told = time.Time{}, false
}
