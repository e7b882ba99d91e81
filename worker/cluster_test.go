package worker

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

const (
	// patience bounds every wait of a test for something that has to come about.
	patience = time.Minute
	testTTL  = time.Minute // longer than a loaded machine keeps a renewal waiting; see shortTTL
	auditor  = "auditor"
	token    = "Secret-Bot-Token.of-this.test"
)

// cluster is all that workers need around them: the simulated Discord, an etcd, a Redis, and a leader that the test plays.
type cluster struct {
	t         testing.TB
	name      string
	shards    int
	rangeSize int
	etcd      *etcdtest.Server
	store     *lease.Store // the leader's
	redis     *redistest.Server
	client    stream.Client // the test's
	sim       *discordsim.Server
	gateway   string
	leader    *leader
	auditor   *lease.Registration // through which the test reads session records; the leader gives it nothing
	workers   []*process          // all that were started
	out       safeBuffer          // all workers' logs
}

var clusters atomic.Int64

// options change a cluster before it starts.
type options struct {
	etcd      *etcdtest.Server // default: the shared one
	redisArgs []string
	sim       discordsim.Options
	shards    int           // default: 4, in ranges of 2; else in ranges of 1
	distance  time.Duration // of Discord: there and back
}

// newCluster starts everything but workers. Its streams are audited when the test ends, after the workers ended.
func newCluster(t testing.TB, o options) *cluster {
	t.Helper()
	c := &cluster{t: t, name: fmt.Sprintf("c%d", clusters.Add(1)), shards: 4, rangeSize: 2, etcd: etcd, redis: redistest.Start(t, o.redisArgs...)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.out.String())
		}
	})
	if o.etcd != nil {
		c.etcd = o.etcd
	}
	if o.shards > 0 {
		c.shards, c.rangeSize = o.shards, 1
	}
	var err error
	c.client, err = stream.Open(c.redis.URL())
	must(t, err)
	t.Cleanup(func() { _ = c.client.Close() })
	c.startSim(o.sim, o.distance)
	c.store = c.openStore(c.etcd.Endpoints())
	c.auditor, err = c.store.Register(t.Context(), lease.Worker{ID: auditor}, time.Hour)
	must(t, err)
	c.lead()
	return c
}

func (c *cluster) startSim(o discordsim.Options, distance time.Duration) {
	c.t.Helper()
	o.Token, o.Shards, o.MaxConcurrency, o.IdentifyWindow, o.Record, o.Guilds = token, c.shards, c.shards, time.Millisecond, true, 20
	if o.Rate == 0 {
		o.Rate = 200
	}
	sim, err := discordsim.New(o)
	must(c.t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(c.t, err)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- sim.Serve(ctx, &distantListener{listener, distance}) }()
	c.t.Cleanup(func() {
		stop()
		must(c.t, <-served)
	})
	c.sim, c.gateway = sim, "ws://"+listener.Addr().String()+"/"
}

func (c *cluster) openStore(endpoints []string) *lease.Store {
	c.t.Helper()
	store, err := lease.Open(lease.Config{Endpoints: endpoints, Cluster: c.name})
	must(c.t, err)
	c.t.Cleanup(func() { _ = store.Close() })
	return store
}

// process is a worker that runs.
type process struct {
	*Worker
	c    *cluster
	url  string
	stop context.CancelFunc // like SIGTERM
	done chan struct{}
	err  error // once done
}

// start runs a worker until its stop is called or the test ends. change, if not nil, changes it before. When it stops
// it does not wait long for somebody to take over, but for patientDrain.
func (c *cluster) start(id string, change func(*Worker)) *process {
	c.t.Helper()
	return c.startAt(id, c.etcd.Endpoints(), change)
}

// shortTTL is for workers whose registration is to expire.
func shortTTL(w *Worker) { w.cfg.LeaseTTL = lease.MinTTL }

func patientDrain(w *Worker) { w.timings.drain = patience }

// startAt is start for a worker with a way to etcd of its own.
func (c *cluster) startAt(id string, endpoints []string, change func(*Worker)) *process {
	c.t.Helper()
	redis, err := stream.Open(c.redis.URL())
	must(c.t, err)
	c.t.Cleanup(func() { _ = redis.Close() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(c.t, err)
	w := New(Config{
		Worker:  lease.Worker{ID: id, UUID: id, Host: "test", Capacity: 1},
		Cluster: c.name, Token: token, Intents: shard.IntentsUnprivileged, Compression: shard.CompressionZstd,
		LeaseTTL: testTTL, Store: c.openStore(endpoints), Redis: redis, Listener: listener,
		Logger: hclog.New(&hclog.LoggerOptions{Name: id, Level: hclog.Trace, Output: &c.out}),
	})
	w.timings = timings{
		drain: 50 * time.Millisecond, release: time.Second, flush: time.Second, prepare: patience, ready: patience, standby: time.Hour,
		predecessor: 0,
	}
	if change != nil {
		change(w)
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &process{Worker: w, c: c, url: "http://" + listener.Addr().String(), stop: stop, done: make(chan struct{})}
	c.workers = append(c.workers, p)
	go func() {
		defer close(p.done)
		p.err = w.Run(ctx)
	}()
	c.t.Cleanup(func() {
		stop()
		<-p.done
	})
	return p
}

// end stops the worker as SIGTERM does, and waits for it.
func (p *process) end() {
	p.c.t.Helper()
	p.stop()
	select {
	case <-p.done:
		must(p.c.t, p.err)
	case <-time.After(patience):
		p.c.t.Fatal("the worker does not end")
	}
}

// await polls until so says "", which otherwise says what is still missing.
func (c *cluster) await(so func() string) {
	c.t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(patience)
	for {
		missing := so()
		if missing == "" {
			return
		}
		select {
		case <-ticker.C:
		case <-late:
			c.t.Fatalf("never came about: %s", missing)
		}
	}
}

// record is a shard's session record.
func (c *cluster) record(n int) lease.Session {
	c.t.Helper()
	anyRange := c.auditor.Own(lease.Assignment{Range: lease.RangeID{Generation: 1}})
	var record lease.Session
	c.await(func() string { // a loaded machine keeps etcd from answering in time
		var err error
		if record, err = anyRange.LoadSession(c.t.Context(), n); err != nil {
			return err.Error()
		}
		return ""
	})
	return record
}

// awaitLive waits until every shard has a session with a socket and a record, and an entry in its stream.
func (c *cluster) awaitLive() {
	c.t.Helper()
	c.await(func() string {
		for n := range c.shards {
			if !c.attached(n) {
				return fmt.Sprintf("shard %d has no socket", n)
			}
			if tail, err := stream.Tail(c.t.Context(), c.client, c.name, n); err != nil || tail.Seq == 0 {
				return fmt.Sprintf("shard %d's stream ends with %v, %v", n, tail, err)
			}
			if c.record(n).ID == "" {
				return fmt.Sprintf("shard %d has no session record", n)
			}
		}
		return ""
	})
}

// attached reports whether the shard's newest session has a socket.
func (c *cluster) attached(n int) bool { return c.newest()[n].Attached }

func (c *cluster) newest() map[int]discordsim.SessionLog {
	newest := map[int]discordsim.SessionLog{}
	for _, session := range c.sim.Sessions() {
		newest[session.Shard] = session
	}
	return newest
}

// unplugged waits until no socket is open: a worker hears that its close is answered a moment before Discord has taken the socket off its books.
func (c *cluster) unplugged() {
	c.t.Helper()
	c.await(func() string {
		if n := c.sim.Stats().Sockets; n > 0 {
			return fmt.Sprintf("%d sockets are closed", n)
		}
		return ""
	})
}

// runs reports whether a worker has a live session of the shard. Of one that was handed over it says so only when the new owner has resumed:
// until Discord has noticed that the former owner's socket is closed, the session still seems to have one.
func (c *cluster) runs(n int) bool {
	return slices.ContainsFunc(c.workers, func(p *process) bool {
		in := p.current.Load()
		if in == nil {
			return false
		}
		states, _, _ := in.board.shards(in.plan.get(), time.Now())
		return states[n].State == string(shard.StateLive)
	})
}

// settled stops the traffic and waits until all that was sent is in the streams, and nothing more will be.
func (c *cluster) settled() {
	c.t.Helper()
	c.sim.Pause()
	c.await(func() string {
		for n := range c.shards {
			if !c.runs(n) {
				return fmt.Sprintf("shard %d is not live", n)
			}
		}
		for n, session := range c.newest() {
			tail, err := stream.Tail(c.t.Context(), c.client, c.name, n)
			if err != nil || !session.Attached || session.Pending > 0 || tail.Seq != session.Last {
				return fmt.Sprintf("shard %d's stream ends with %v, its session with %d and %d guilds to come (socket %v), %v",
					n, tail, session.Last, session.Pending, session.Attached, err)
			}
		}
		return ""
	})
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

// count is how many lines have the text.
func (b *safeBuffer) count(text string) int { return strings.Count(b.String(), text) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
