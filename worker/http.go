package worker

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/muster-gateway/muster/internal/serve"
	"github.com/muster-gateway/muster/pkg/stream"
)

func (w *Worker) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", serve.Health(serve.Alive))
	mux.Handle("GET /readyz", serve.Health(w.ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(w.metrics.registry, promhttp.HandlerOpts{}))
	serve.Profile(mux, serve.NewAdmin(w.cfg.AdminToken))
	return mux
}

// ready says whether this worker does its job: registered, allowed to connect, Redis taking entries, no shard deaf for long. One that
// has no sockets because the cluster is down by order does it too, and says so: it must not be replaced for that.
func (w *Worker) ready() (word string, err error) {
	in := w.current.Load()
	if in == nil {
		return "", errors.New("not registered: etcd or redis does not answer, or another worker has this id")
	}
	if !in.reg.Trusted() {
		return "", errors.New("registration not renewed: etcd does not answer")
	}
	if in.halted.Load() {
		return "", errors.New("the fleet is halted")
	}
	if s := w.writer.Stats(); !s.FailingSince.IsZero() {
		return "", fmt.Errorf("redis takes no entries since %s; %d shards have closed their sockets, to be resumed when it does",
			s.FailingSince.UTC().Format(time.RFC3339), in.board.parked())
	}
	if w.redisFailing.Load() {
		return "", errors.New("redis takes no writes")
	}
	if _, _, deaf := in.board.shards(in.plan.get(), time.Now()); deaf > 0 {
		return "", fmt.Errorf("%d shards have had no session for over %v", deaf, deafAfter)
	}
	if in.down.Load() {
		return "ready, and down by order: no sockets", nil
	}
	return "", nil
}

// Metrics is what /metrics serves; see docs/metrics.md.
func (w *Worker) Metrics() *prometheus.Registry { return w.metrics.registry }

// metrics are what this process counts. Reports and Prometheus read the same numbers.
type metrics struct {
	registry      *prometheus.Registry
	events, bytes atomic.Uint64
	identifies    atomic.Uint64
	resumes       atomic.Uint64
	connects      atomic.Uint64
	gaps          atomic.Uint64
	filtered      atomic.Uint64
	muted         atomic.Uint64
	lag           *consumerLag
	interruptions atomic.Uint64
	refusals      *prometheus.CounterVec // by code
	commands      *commandMetrics
	moves         moveMetrics
}

func (m *metrics) received(bytes int) {
	m.events.Add(1)
	m.bytes.Add(uint64(bytes))
}

func newMetrics(w *Worker) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), lag: newConsumerLag(w), refusals: newRefusals()}
	m.commands = newCommandMetrics(m.registry)
	m.moves = newMoveMetrics(m.registry)
	from := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
	}
	own := func(name, help string, counter *atomic.Uint64) {
		from(name, help, func() float64 { return float64(counter.Load()) })
	}
	own("muster_worker_events_received_total", "Events received from Discord.", &m.events)
	own("muster_worker_event_bytes_received_total", "Bytes of their payloads.", &m.bytes)
	own("muster_worker_events_filtered_total", "Events received that the filter left out of the streams.", &m.filtered)
	own("muster_worker_events_muted_total", "Events received by shards of a number that is being prepared, which are in the streams of others.", &m.muted)
	own("muster_worker_identifies_total", "IDENTIFYs sent.", &m.identifies)
	own("muster_worker_resumes_total", "Sessions resumed.", &m.resumes)
	own("muster_worker_connects_total", "Sockets opened to Discord.", &m.connects)
	own("muster_worker_gaps_total", "Gap markers written: sessions that Discord could not replay.", &m.gaps)
	own("muster_worker_interruptions_total", "Times a shard had to go on from its stream's end after a failure.", &m.interruptions)
	stats := func(name, help string, value func(stream.Stats) float64) {
		from(name, help, func() float64 { return value(w.writer.Stats()) })
	}
	stats("muster_worker_entries_appended_total", "Entries appended to Redis.", func(s stream.Stats) float64 { return float64(s.Entries) })
	stats("muster_worker_batches_appended_total", "Batches they were appended in.", func(s stream.Stats) float64 { return float64(s.Batches) })
	stats("muster_worker_batches_refused_total", "Batches refused because the stream ended elsewhere.", func(s stream.Stats) float64 { return float64(s.Refused) })
	stats("muster_worker_streams_rewound_total", "Times Redis had lost entries of a stream that it had confirmed, and they were appended again.", func(s stream.Stats) float64 { return float64(s.Rewinds) })
	stats("muster_worker_batches_repeated_total", "Batches sent again because their outcome was unknown.", func(s stream.Stats) float64 { return float64(s.Retries) })
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newShardMetrics(w),
		m.refusals,
		m.lag,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "muster_worker_buffered_bytes", Help: "Bytes received and not yet in Redis."},
			func() float64 { return float64(w.writer.Stats().Buffered) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "muster_worker_ready", Help: "1 if /readyz says yes."}, func() float64 {
			if _, err := w.ready(); err != nil {
				return 0
			}
			return 1
		}),
	)
	return m
}
