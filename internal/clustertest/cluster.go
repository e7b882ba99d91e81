// Package clustertest runs a whole cluster in one process, for tests of what only a whole cluster shows: coordinators and workers as
// they are, on a real etcd and a real Redis, against the simulated Discord.
package clustertest

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
	"github.com/muster-gateway/muster/worker"
)

const (
	// Name is the cluster's.
	Name = "test"
	// leaseTTL is the workers', and patience bounds every wait for something that has to come about, once Options has not said otherwise.
	leaseTTL = 10 * time.Second
	patience = 2 * time.Minute
	// pollEvery is how often Await looks.
	pollEvery = 20 * time.Millisecond
)

// Options say what to start.
type Options struct {
	Sim      discordsim.Options // of which Record is always set
	Patience time.Duration      // how long Await waits; 0: two minutes
	Level    hclog.Level        // of the log; 0: info

	// API stands between the coordinators and Discord's REST API, whose base it is given, and returns its own base. Nil: nothing does.
	API func(discord string) string
	// Unreadable says that there will be records that cannot be read; otherwise one is a failure of the test.
	Unreadable bool
	// Worker changes the configuration of each worker. Nil: nothing is changed.
	Worker func(*worker.Config)
}

// Cluster is all that a cluster needs, and what runs of it. It ends with its test. Its methods are for the test's goroutine, but where
// they say otherwise.
type Cluster struct {
	Sim   *discordsim.Server
	Etcd  *etcdtest.Server
	Redis stream.Client
	Log   *Log // of all coordinators and workers

	tb      testing.TB
	options Options
	redis   *redistest.Server
	api     string // base of Discord's REST API
	page    string // of the coordinator that was started last
	ledger  *ledger
	workers map[string]*Worker // those that run
}

// Start starts etcd, Redis and Discord, but neither coordinators nor workers.
func Start(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	c := &Cluster{
		Log: &Log{}, tb: tb, Etcd: etcdtest.Start(tb), redis: redistest.Start(tb), workers: map[string]*Worker{},
	}
	o.Patience, o.Level, o.Sim.Record = cmp.Or(o.Patience, patience), cmp.Or(o.Level, hclog.Info), true
	c.options = o
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(c.Log.String())
		}
	})
	c.Redis = c.openRedis()
	sim, err := discordsim.New(o.Sim)
	c.must(err)
	c.Sim = sim
	listener := c.listen()
	c.api = "http://" + listener.Addr().String() + "/api/v10"
	c.background(func(ctx context.Context) error { return sim.Serve(ctx, listener) })
	if o.API != nil {
		c.api = o.API(c.api)
	}
	c.ledger = &ledger{lenient: o.Unreadable, owners: map[lease.RangeID]lease.Ref{}}
	store := c.OpenStore()
	c.background(func(ctx context.Context) error { return store.FollowCluster(ctx, c.ledger.apply) })
	return c
}

// Coordinate starts a coordinator with MUSTER_SHARDS (0: what Discord recommends). stop resigns and ends it.
func (c *Cluster) Coordinate(id string, shards int) (stop func()) {
	c.tb.Helper()
	return c.CoordinateOn(id, shards, c.OpenStore())
}

// CoordinateOn starts a coordinator that has its own way to etcd.
func (c *Cluster) CoordinateOn(id string, shards int, store *lease.Store) (stop func()) {
	c.tb.Helper()
	listener := c.listen()
	c.page = "http://" + listener.Addr().String()
	return c.background(coordinator.New(coordinator.Config{
		ID: id, Cluster: Name, Token: discordsim.DefaultToken, APIURL: c.api, Shards: shards, Store: store, Listener: listener, Logger: c.logger(id),
	}).Run)
}

// Worker is a worker that runs.
type Worker struct {
	URL  string // of its HTTP server
	stop func()
}

// Work starts a worker.
func (c *Cluster) Work(id string) *Worker {
	c.tb.Helper()
	return c.WorkOn(id, c.OpenStore())
}

// WorkOn starts a worker that has its own way to etcd.
func (c *Cluster) WorkOn(id string, store *lease.Store) *Worker {
	c.tb.Helper()
	listener := c.listen()
	w := &Worker{URL: "http://" + listener.Addr().String()}
	cfg := worker.Config{
		Worker: lease.Worker{ID: id, UUID: id, Host: "test", Capacity: 1}, Cluster: Name, Token: discordsim.DefaultToken,
		Intents: shard.IntentsUnprivileged, Compression: shard.CompressionNone, LeaseTTL: leaseTTL, StreamMaxLen: 1 << 20,
		Store: store, Redis: c.openRedis(), Listener: listener, Logger: c.logger(id),
	}
	if c.options.Worker != nil {
		c.options.Worker(&cfg)
	}
	w.stop = c.background(worker.New(cfg).Run)
	c.workers[id] = w
	return w
}

// Stop stops workers together, as SIGTERM does, and returns when all have ended. Those that nobody is named for are all that run.
func (c *Cluster) Stop(ids ...string) {
	if len(ids) == 0 {
		for id := range c.workers {
			ids = append(ids, id)
		}
	}
	var ending sync.WaitGroup
	for _, id := range ids {
		ending.Go(c.workers[id].stop)
	}
	ending.Wait()
	for _, id := range ids {
		delete(c.workers, id)
	}
}

// Ready reports whether the worker's readiness probe succeeds.
func (w *Worker) Ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := noKeepAlive.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// noKeepAlive leaves no connection behind for a leak test to find.
var noKeepAlive = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// Get is the answer of the coordinator that was started last at a path, such as /metrics.
func (c *Cluster) Get(path string) string { return c.get(c.page + path) }

// Get is the worker's answer at a path.
func (w *Worker) Get(c *Cluster, path string) string { return c.get(w.URL + path) }

func (c *Cluster) get(url string) string {
	c.tb.Helper()
	req, err := http.NewRequestWithContext(c.tb.Context(), http.MethodGet, url, nil)
	c.must(err)
	resp, err := noKeepAlive.Do(req)
	c.must(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	c.must(err)
	return string(body)
}

// AwaitView waits until the coordinator that was started last sees the cluster as wanted.
func (c *Cluster) AwaitView(what string, wanted func(*api.Cluster) bool) *api.Cluster {
	c.tb.Helper()
	var view *api.Cluster
	c.Await(what, func() bool {
		var err error
		view, err = api.Get(c.tb.Context(), c.page)
		return err == nil && wanted(view)
	})
	return view
}

// View is how the coordinator that was started last sees the cluster.
func (c *Cluster) View() *api.Cluster {
	c.tb.Helper()
	view, err := api.Get(c.tb.Context(), c.page)
	c.must(err)
	return view
}

// Await waits until it is so.
func (c *Cluster) Await(what string, so func() bool) {
	c.tb.Helper()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	late := time.After(c.options.Patience)
	for !so() {
		select {
		case <-ticker.C:
		case <-late:
			c.tb.Fatalf("never came about: %s", what)
		}
	}
}

// Live says that so many shards are, all there are, and that none is being moved.
func Live(shards int) func(*api.Cluster) bool {
	return func(v *api.Cluster) bool {
		for _, s := range v.ShardStates {
			if s.State != string(shard.StateLive) {
				return false
			}
		}
		for _, r := range v.Ranges {
			if r.Moving {
				return false
			}
		}
		return len(v.ShardStates) == shards
	}
}

// background runs until the test ends or stop is called, which waits for its end.
func (c *Cluster) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.tb.Error(err)
		}
	})
	c.tb.Cleanup(stop)
	return stop
}

// OpenStore is a connection to etcd of its own, which ends with the test.
func (c *Cluster) OpenStore() *lease.Store {
	c.tb.Helper()
	s, err := lease.Open(lease.Config{Endpoints: c.Etcd.Endpoints(), Cluster: Name})
	c.must(err)
	c.tb.Cleanup(func() { _ = s.Close() })
	return s
}

func (c *Cluster) openRedis() stream.Client {
	c.tb.Helper()
	client, err := stream.Open(c.redis.URL())
	c.must(err)
	c.tb.Cleanup(func() { _ = client.Close() })
	return client
}

func (c *Cluster) listen() net.Listener {
	c.tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	c.must(err)
	return l
}

func (c *Cluster) logger(id string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: id, Level: c.options.Level, Output: c.Log})
}

func (c *Cluster) must(err error) {
	c.tb.Helper()
	if err != nil {
		c.tb.Fatal(err)
	}
}

// Log is what all have logged. Any goroutine may use it.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
