package worker

import (
	"context"
	"time"

	"github.com/muster-gateway/muster/pkg/stream"
)

const (
	// probeEvery is how often Redis is probed, and probeTimeout how long it has to answer.
	probeEvery   = 2 * time.Second
	probeTimeout = 2 * time.Second
)

// probe tries, while life lasts, whether Redis takes writes from here, also when there is nothing to write. The leader compares what
// workers say: if only some of them cannot, their ranges go to the others.
func (w *Worker) probe(life context.Context) error {
	for life.Err() == nil {
		ctx, cancel := context.WithTimeout(life, probeTimeout)
		err := stream.Probe(ctx, w.cfg.Redis, w.cfg.Cluster)
		cancel()
		if failing := err != nil && life.Err() == nil; failing != w.redisFailing.Swap(failing) {
			w.log.Debug("redis probed", "takes-writes", !failing, "error", err)
		}
		wait(life, probeEvery)
	}
	return nil
}
