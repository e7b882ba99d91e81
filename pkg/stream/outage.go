package stream

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// outage says once when Redis stops answering, and once when it answers again.
type outage struct {
	logger hclog.Logger

	mu    sync.Mutex
	since time.Time
}

func (o *outage) begin(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
		o.logger.Warn("redis does not answer, trying again", "error", err)
	}
}

func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		o.logger.Info("redis answers again", "after", time.Since(o.since))
		o.since = time.Time{}
	}
}
