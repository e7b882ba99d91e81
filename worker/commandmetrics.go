package worker

import "github.com/prometheus/client_golang/prometheus"

// commandMetrics counts what became of commands.
type commandMetrics struct {
	sent, repeated prometheus.Counter
	expired, bad   prometheus.Counter
}

func newCommandMetrics(registry *prometheus.Registry) *commandMetrics {
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_worker_commands_dropped_total", Help: "Commands that were not sent and went to their shard's dead letters, by reason.",
	}, []string{"reason"})
	m := &commandMetrics{
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_worker_commands_sent_total", Help: "Commands from Redis that were written to a socket.",
		}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_worker_commands_repeated_total", Help: "Times a command was sent again because the connection broke while it was being written.",
		}),
		expired: dropped.WithLabelValues("expired"), bad: dropped.WithLabelValues("bad"),
	}
	registry.MustRegister(m.sent, m.repeated, dropped)
	return m
}
