package coordinator

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/serve"
)

var errNotRead = errors.New("etcd was not read yet")

func (c *Coordinator) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", serve.Health(serve.Alive))
	mux.Handle("GET /readyz", serve.Health(c.ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.metrics.registry, promhttp.HandlerOpts{}))
	reads := serve.NewLimit(readsPerSecond, 2*readsPerSecond)
	mux.Handle("GET /v1/cluster", reads.Each(http.HandlerFunc(c.serveCluster)))
	mux.Handle("GET /v1/shards/{shard}", reads.Each(http.HandlerFunc(c.serveShard)))
	mux.Handle("GET /v1/live", &live{view: &c.view, chronicle: &c.chronicle})
	servePage(mux)
	admin := serve.NewAdmin(c.cfg.AdminToken)
	serve.Profile(mux, admin)
	c.takeOrders(mux, admin)
	return mux
}

// readsPerSecond bounds how often one client may read the whole cluster.
const readsPerSecond = 50

func (c *Coordinator) serveCluster(w http.ResponseWriter, _ *http.Request) {
	view := c.view.Load()
	if view == nil {
		serve.Refuse(w, errNotRead)
		return
	}
	serve.JSON(w, view)
}

// ready says whether this replica can answer: it need not lead.
func (c *Coordinator) ready() (string, error) {
	if c.view.Load() == nil {
		return "", errNotRead
	}
	return "", nil
}

// Metrics is what /metrics serves; see docs/metrics.md.
func (c *Coordinator) Metrics() *prometheus.Registry { return c.metrics.registry }

// durations are from those of a handful of workers to those of a thousand whose etcd is slow.
var durations = prometheus.ExponentialBuckets(0.0001, 2, 16)

// metrics are what this replica counts itself; the cluster's state is read from the view when it is asked for.
type metrics struct {
	registry *prometheus.Registry
	actions  *prometheus.CounterVec
	slots    prometheus.Counter
	decided  prometheus.Histogram
	planned  prometheus.Histogram
}

func newMetrics(c *Coordinator) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_coordinator_range_actions_total", Help: "Steps this replica took on ranges while it led, by kind.",
		}, []string{"kind"}),
		slots: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "muster_coordinator_identify_slots_opened_total", Help: "Identify slots this replica granted while it led.",
		}),
		decided: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_coordinator_decision_seconds", Help: "Time this replica took to decide and to write that to etcd, while it led.", Buckets: durations,
		}),
		planned: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "muster_coordinator_plan_seconds", Help: "The part of a decision that was spent on which worker has which range.", Buckets: durations,
		}),
	}
	m.registry.MustRegister(m.actions, m.slots, m.decided, m.planned,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	gauge := func(name, help string, value func(*api.Cluster) float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if view := c.view.Load(); view != nil {
				return value(view)
			}
			return 0
		}))
	}
	gauge("muster_coordinator_leading", "1 if this replica leads.", func(*api.Cluster) float64 {
		if c.leading.Load() {
			return 1
		}
		return 0
	})
	gauge("muster_cluster_workers", "Workers that are alive.", func(v *api.Cluster) float64 { return float64(len(v.Workers)) })
	gauge("muster_cluster_shards", "Shards of the plan in force.", func(v *api.Cluster) float64 { return float64(v.Shards) })
	gauge("muster_cluster_shards_live", "Shards whose session is live.", func(v *api.Cluster) float64 { return count(v, api.StateLive) })
	gauge("muster_cluster_shards_unassigned", "Shards that no living worker owns.", func(v *api.Cluster) float64 { return count(v, api.StateUnassigned) })
	gauge("muster_cluster_halts", "Reasons why the fleet must not connect.", func(v *api.Cluster) float64 { return float64(len(v.Halted)) })
	gauge("muster_cluster_alarms", "Troubles of the plan that only a person can mend.", func(v *api.Cluster) float64 {
		if v.Alarm == "" {
			return 0
		}
		return 1
	})
	gauge("muster_cluster_down", "1 if the cluster is down by order.", func(v *api.Cluster) float64 {
		if v.Directives.Down == nil {
			return 0
		}
		return 1
	})
	gauge("muster_identify_budget_remaining", "IDENTIFYs left of Discord's session start limit.", func(v *api.Cluster) float64 { return float64(v.Budget.Remaining) })
	gauge("muster_identify_budget_limit", "Discord's session start limit.", func(v *api.Cluster) float64 { return float64(v.Budget.Total) })
	gauge("muster_identify_budget_waiting_shards", "Shards that cannot identify before the session start limit is reset.", func(v *api.Cluster) float64 { return float64(v.Budget.Waiting) })
	return m
}

func count(v *api.Cluster, state string) (n float64) {
	for _, s := range v.ShardStates {
		if s.State == state {
			n++
		}
	}
	return n
}
