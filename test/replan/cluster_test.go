// Package replan runs coordinators and workers in one process, on a real etcd and a real Redis, against a simulated Discord that refuses
// their number of shards.
package replan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
	"github.com/muster-gateway/muster/worker"
)

const (
	name = "replan"
	// patience bounds every wait of a test for something that has to come about.
	patience = 4 * time.Minute
)

// cluster is all that a cluster needs, and what runs of it.
type cluster struct {
	t       *testing.T
	etcd    *etcdtest.Server
	redis   *redistest.Server
	client  stream.Client
	sim     *discordsim.Server
	simURL  string
	api     string       // base of Discord's REST API
	advice  atomic.Int32 // how many shards Discord recommends; 0: what the simulator does
	asked   atomic.Int32 // how often it was asked
	page    string       // of the coordinator that was started last
	out     safeBuffer
	intents shard.Intents
	workers []func() // stop them
}

func newCluster(t *testing.T, o discordsim.Options) *cluster {
	t.Helper()
	c := &cluster{t: t, etcd: etcdtest.Start(t), redis: redistest.Start(t), intents: shard.IntentsUnprivileged}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.out.String())
		}
	})
	var err error
	c.client, err = stream.Open(c.redis.URL())
	must(t, err)
	t.Cleanup(func() { _ = c.client.Close() })
	o.Record = true
	c.sim, err = discordsim.New(o)
	must(t, err)
	listener := listen(t)
	c.simURL = "http://" + listener.Addr().String() + "/api/v10"
	c.background(func(ctx context.Context) error { return c.sim.Serve(ctx, listener) })
	front := httptest.NewServer(http.HandlerFunc(c.gatewayBot))
	t.Cleanup(front.Close)
	c.api = front.URL
	return c
}

// gatewayBot is the simulator's answer, but for the advice.
func (c *cluster) gatewayBot(w http.ResponseWriter, r *http.Request) {
	c.asked.Add(1)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, c.simURL+"/gateway/bot", nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	req.Header = r.Header
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	answer := map[string]any{}
	if err = errors.Join(err, json.Unmarshal(body, &answer)); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if n := c.advice.Load(); n > 0 {
		answer["shards"] = n
	}
	_ = json.NewEncoder(w).Encode(answer) // who hung up does not hear us
}

// background runs until the test ends or stop is called, which waits for its end.
func (c *cluster) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Error(err)
		}
	})
	c.t.Cleanup(stop)
	return stop
}

func (c *cluster) store() *lease.Store {
	c.t.Helper()
	s, err := lease.Open(lease.Config{Endpoints: c.etcd.Endpoints(), Cluster: name})
	must(c.t, err)
	c.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (c *cluster) logger(id string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: id, Level: hclog.Debug, Output: &c.out})
}

// coordinate starts a coordinator with MUSTER_SHARDS.
func (c *cluster) coordinate(id string, shards int) (stop func()) {
	c.t.Helper()
	listener := listen(c.t)
	c.page = "http://" + listener.Addr().String()
	return c.background(coordinator.New(coordinator.Config{
		ID: id, Cluster: name, Token: discordsim.DefaultToken, APIURL: c.api, Shards: shards, Store: c.store(), Listener: listener, Logger: c.logger(id),
	}).Run)
}

// work starts a worker and returns the address of its HTTP server.
func (c *cluster) work(id string) (address string) {
	c.t.Helper()
	return c.workOn(id, c.store())
}

// workOn starts a worker that has its own way to etcd.
func (c *cluster) workOn(id string, store *lease.Store) (address string) {
	c.t.Helper()
	redis, err := stream.Open(c.redis.URL())
	must(c.t, err)
	c.t.Cleanup(func() { _ = redis.Close() })
	listener := listen(c.t)
	stop := c.background(worker.New(worker.Config{
		Worker: lease.Worker{ID: id, UUID: id, Host: "test", Capacity: 1}, Cluster: name, Token: discordsim.DefaultToken,
		Intents: c.intents, Compression: shard.CompressionZstd, LeaseTTL: 10 * time.Second, StreamMaxLen: 1 << 20,
		Store: store, Redis: redis, Listener: listener, Logger: c.logger(id),
	}).Run)
	c.workers = append(c.workers, stop)
	return "http://" + listener.Addr().String()
}

// end stops the workers, together, while a coordinator is there to tell them that nobody takes over.
func (c *cluster) end() {
	var ending sync.WaitGroup
	for _, stop := range c.workers {
		ending.Go(stop)
	}
	ending.Wait()
}

// await waits until the coordinator's view is as wanted.
func (c *cluster) await(what string, wanted func(*api.Cluster) bool) *api.Cluster {
	c.t.Helper()
	var view *api.Cluster
	c.poll(what, func() bool {
		var err error
		view, err = api.Get(c.t.Context(), c.page)
		return err == nil && wanted(view)
	})
	return view
}

func (c *cluster) poll(what string, so func() bool) {
	c.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(patience)
	for !so() {
		select {
		case <-ticker.C:
		case <-late:
			c.t.Fatalf("never came about: %s", what)
		}
	}
}

// live says that so many shards are, of that generation.
func live(generation, shards int) func(*api.Cluster) bool {
	return func(v *api.Cluster) bool {
		n := 0
		for _, s := range v.ShardStates {
			if s.State == "live" {
				n++
			}
		}
		return v.Generation == generation && v.Shards == shards && n == shards
	}
}

// settle stops the traffic, waits until all of it is in the streams of so many shards, and audits these. It returns all streams.
func (c *cluster) settle(shards int) (map[int][]devstack.Entry, devstack.Account) {
	c.t.Helper()
	c.sim.Pause()
	c.poll("everything to be in the streams", func() bool {
		for n, session := range c.newest() {
			tail, err := stream.Tail(c.t.Context(), c.client, name, n)
			if n < shards && (err != nil || !session.Attached || tail.Seq != session.Last) {
				return false
			}
		}
		return true
	})
	streams := c.read(len(c.newest()))
	audited := maps.Clone(streams)
	maps.DeleteFunc(audited, func(n int, _ []devstack.Entry) bool { return n >= shards })
	sessions := slices.DeleteFunc(c.sim.Sessions(), func(s discordsim.SessionLog) bool { return s.Shard >= shards })
	return streams, devstack.Audit(sessions, audited)
}

func (c *cluster) newest() map[int]discordsim.SessionLog {
	newest := map[int]discordsim.SessionLog{}
	for _, session := range c.sim.Sessions() {
		newest[session.Shard] = session
	}
	return newest
}

var errRead = errors.New("all is read")

// read reads the streams of so many shards to their ends.
func (c *cluster) read(shards int) map[int][]devstack.Entry {
	c.t.Helper()
	ends, all := map[int]stream.ID{}, make([]int, shards)
	for n := range shards {
		tail, err := stream.Tail(c.t.Context(), c.client, name, n)
		must(c.t, err)
		all[n], ends[n] = n, tail
	}
	reader, err := stream.NewReader(c.client, stream.ReaderOptions{Cluster: name, From: "0", Shards: all})
	must(c.t, err)
	streams := map[int][]devstack.Entry{}
	err = reader.Run(c.t.Context(), func(_ context.Context, m stream.Message) error {
		e := devstack.Entry{ID: m.ID, Type: m.Type, Sum: discordsim.Sum(m.Data)}
		var ready struct {
			Trace []string `json:"_trace"`
		}
		if m.Type == "READY" && json.Unmarshal(m.Data, &ready) == nil && len(ready.Trace) > 0 {
			e.Trace = ready.Trace[0]
		}
		var reshard stream.Reshard
		if m.Type == stream.ReshardType && json.Unmarshal(m.Data, &reshard) == nil {
			e.Total = reshard.Shards
		}
		streams[m.Shard] = append(streams[m.Shard], e)
		if m.ID == ends[m.Shard] {
			delete(ends, m.Shard)
		}
		if len(ends) == 0 {
			return errRead
		}
		return nil
	})
	if !errors.Is(err, errRead) {
		c.t.Fatalf("read streams: %v, not read: %v", err, ends)
	}
	return streams
}

// expectNothingOf checks that etcd has nothing of a generation.
func (c *cluster) expectNothingOf(generation int) {
	c.t.Helper()
	for _, key := range c.keysOf(generation) {
		c.t.Errorf("%s is left", key)
	}
}

// anythingOf reports whether etcd has something of a generation.
func (c *cluster) anythingOf(generation int) bool { return len(c.keysOf(generation)) > 0 }

func (c *cluster) keysOf(generation int) (keys []string) {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.etcd.Endpoints(), DialTimeout: patience, Logger: zap.NewNop()})
	must(c.t, err)
	defer client.Close()
	resp, err := client.Get(c.t.Context(), "/muster/"+name+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	must(c.t, err)
	part := fmt.Sprintf("/%d/", generation)
	for _, kv := range resp.Kvs {
		if key := string(kv.Key); strings.Contains(key, part) {
			keys = append(keys, key)
		}
	}
	return keys
}

// expectWithinLimits checks that no IDENTIFY came too soon, and that Discord was annoyed by refused numbers at most.
func (c *cluster) expectWithinLimits() {
	c.t.Helper()
	for _, v := range c.sim.Violations() {
		if v.Rule != discordsim.RuleBadIdentify {
			c.t.Errorf("violation: %+v", v)
		}
	}
}

// awaitState waits until etcd has what is wanted, and returns it.
func (c *cluster) awaitState(what string, wanted func(*lease.Cluster) bool) *lease.Cluster {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var state lease.Cluster
	err := c.store().FollowCluster(ctx, func(u lease.Update) error {
		if errs := state.Apply(u); len(errs) > 0 {
			return errors.Join(errs...)
		}
		if wanted(&state) {
			return errRead
		}
		return nil
	})
	if !errors.Is(err, errRead) {
		c.t.Fatalf("never came about: %s (%v); the cluster is %+v", what, err, state)
	}
	return &state
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(url)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(body)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return l
}

// safeBuffer is a buffer that several may write to.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
