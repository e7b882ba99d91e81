package model

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/internal/etcdmem"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
	"github.com/muster-gateway/muster/worker"
)

const (
	cluster = "model"
	ttl     = 10 * time.Second
)

// process is a worker or a coordinator, from its start to the end of its last goroutine. It has links of its own to all it needs,
// so that each can fail.
type process struct {
	id        string // of the worker or coordinator; another may have had it before
	name      string // of the process, unique
	etcd      *etcdmem.Link
	redis     *link // of workers
	discord   *link
	api       *discordsim.Network // of coordinators: where they take orders
	stop      context.CancelFunc  // as SIGTERM does
	ended     chan struct{}
	err       error     // why it ended; read it when ended is closed
	faults    int       // that are under way
	deafUntil time.Time // it may not know what happened before
	leaving   bool      // it was killed, or told to stop
	crashed   bool
}

// newProcess gives a process its links.
func (w *world) newProcess(id string) *process {
	w.started++
	p := &process{id: id, name: fmt.Sprintf("%s~%d", id, w.started), ended: make(chan struct{})}
	p.etcd = w.etcd.Link(p.name)
	p.discord = newLink(p.name, false, func() (net.Conn, error) { return w.gateway.dial(p.name) })
	p.discord.bare = w.bare
	p.redis = newLink(p.name, true, w.redis.Dial)
	w.processes = append(w.processes, p)
	w.witness.meet(p)
	return p
}

// store is the process's way to etcd. Its clock has a reading, and a rate, of its own.
func (w *world) store(p *process, log hclog.Logger) *lease.Store {
	began, n := time.Now(), time.Duration(w.started)
	rate := []float64{1, 0.95, 1.05}[w.started%3]
	clock := func() time.Duration { return n*time.Hour + time.Duration(float64(time.Since(began))*rate) }
	return lease.NewStore(p.etcd.Client, cluster, clock, log.Named("etcd"))
}

// run runs a process in the background.
func (p *process) run(f func(context.Context) error, clean func()) {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		defer close(p.ended)
		p.err = f(ctx)
		clean()
		p.etcd.Close()
	}()
}

func (w *world) startWorker(id string) *process {
	p := w.newProcess(id)
	log := w.logger(p.name)
	client, err := stream.Open("redis://redis.invalid:6379")
	w.must(err)
	client.AddHook(p.redis)
	run := worker.New(worker.Config{
		Worker:  lease.Worker{ID: id, UUID: p.name, Host: p.name, Capacity: 1, Started: time.Now()},
		Cluster: cluster, Token: discordsim.DefaultToken, Intents: shard.IntentsUnprivileged, Compression: shard.CompressionNone,
		LeaseTTL: ttl, Strict: w.strict, StreamMaxLen: 1 << 30, Store: w.store(p, log), Redis: client, Listener: discordsim.NewNetwork(), Logger: log,
		DialDiscord: p.discord.DialContext,
	}).Run
	p.run(run, func() { _ = client.Close() }) // it has nothing left to lose
	return p
}

func (w *world) startCoordinator(id string) *process {
	p := w.newProcess(id)
	p.api = discordsim.NewNetwork()
	log := w.logger(p.name)
	run := coordinator.New(coordinator.Config{
		ID: id, Cluster: cluster, Token: discordsim.DefaultToken, APIURL: "http://discord.invalid/api/v10", AdminToken: adminToken,
		Store: w.store(p, log), Listener: p.api, Logger: log, DialDiscord: p.discord.DialContext,
	}).Run
	p.run(run, func() {})
	return p
}

// crash ends a process as SIGKILL does: nothing that it still does reaches anybody.
func (p *process) crash() {
	p.etcd.Cut()
	p.redis.set(cut)
	p.discord.set(cut)
	p.leaving, p.crashed = true, true
	p.stop()
}

// drain ends a process as SIGTERM does.
func (p *process) drain() {
	p.leaving = true
	p.stop()
}

// pause holds all that a process says or hears, as near as can be to one that stands still. Its sockets to Discord do not outlive it.
func (p *process) pause() (undo func()) {
	p.etcd.Hold()
	redis, discord := p.redis.fail(held), p.discord.fail(held)
	return func() { p.etcd.Mend(); redis(); discord() }
}

func (p *process) isWorker() bool { return strings.HasPrefix(p.id, "worker") }

// ill reports whether something is wrong with a process, or it has not recovered from it.
func (p *process) ill() bool { return p.faults > 0 || time.Now().Before(p.deafUntil) }

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (w *world) logger(name string) hclog.Logger {
	output := io.Discard
	if *logs {
		output = w.t.Output()
	}
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Debug, Output: output, TimeFormat: "15:04:05.000"})
}
