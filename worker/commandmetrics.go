package worker

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// commandMetrics counts what became of commands.
type commandMetrics struct {
	sent, repeated atomic.Uint64
	expired, bad   atomic.Uint64
}

func newCommandMetrics(registry *prometheus.Registry) *commandMetrics {
	m := new(commandMetrics)
	register := func(counter *atomic.Uint64, opts prometheus.CounterOpts) {
		registry.MustRegister(prometheus.NewCounterFunc(opts, func() float64 { return float64(counter.Load()) }))
	}
	register(&m.sent, prometheus.CounterOpts{
		Name: "muster_worker_commands_sent_total", Help: "Commands from Redis that were written to a socket.",
	})
	register(&m.repeated, prometheus.CounterOpts{
		Name: "muster_worker_commands_repeated_total", Help: "Times a command was sent again because the connection broke while it was being written.",
	})
	for reason, counter := range map[string]*atomic.Uint64{"expired": &m.expired, "bad": &m.bad} {
		register(counter, prometheus.CounterOpts{
			Name: "muster_worker_commands_dropped_total", Help: "Commands that were not sent and went to their shard's dead letters, by reason.",
			ConstLabels: prometheus.Labels{"reason": reason},
		})
	}
	return m
}
