package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-gateway/muster/pkg/shard"
)

// moveMetrics are how long moves take, in the two parts that a single worker can measure by its own clock. What lies between the two is
// etcd's: the time from its answer to the source until it tells the target, next to nothing. So their sum is the gap in the events.
type moveMetrics struct{ source, target prometheus.Observer }

func newMoveMetrics(registry *prometheus.Registry) moveMetrics {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "muster_worker_move_seconds",
		Help: "How long moves take. Source: from when a range's sockets begin to be closed until it is handed over. " +
			"Target: from when a range was given to this worker until a shard of it has resumed.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // to 8 s
	}, []string{"part"})
	registry.MustRegister(seconds)
	return moveMetrics{source: seconds.WithLabelValues("source"), target: seconds.WithLabelValues("target")}
}

// observeMove notes how long a shard that was given to this worker took to go on, if that is what it just began to do.
func (a *attempt) observeMove(now shard.Status) {
	if now.State != shard.StateLive || a.given.IsZero() {
		return
	}
	if now.Resumes > 0 {
		a.in.worker.metrics.moves.target.Observe(time.Since(a.given).Seconds())
	}
	a.given = time.Time{}
}
