package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/muster-gateway/muster/internal/etcdmem"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

const (
	mostWorkers  = 4
	coordinators = 2
	// settling is how long a cluster may take, once nothing is wrong any more, until every shard is live and all is written.
	settling = 15*time.Minute + budgetPeriod
	// adoption is for how long a range may be without a living owner while nothing is wrong: a worker's TTL, an election, and some.
	adoption = 30 * time.Second
)

// world is a cluster of real coordinators and workers, and all that is around them in memory.
type world struct {
	t       *testing.T
	strict  bool // what workers do while etcd is away
	bare    bool // nothing befalls the network to Discord
	etcd    *etcdmem.Server
	redis   *miniredis.Miniredis
	client  stream.Client // the model's own, which nothing befalls
	sim     *discordsim.Server
	gateway *exchange
	witness *witness

	processes []*process
	started   int
	asked     int       // how often a coordinator was
	outages   int       // of etcd's quorum, that are under way
	illAt     time.Time // when something was last wrong
	ownedAt   time.Time // when every range was last known to have a living owner, or something was wrong

	stop     context.CancelFunc
	running  sync.WaitGroup
	operator sync.WaitGroup
}

// setup is what a run begins with.
type setup struct {
	Shards, Concurrency, Workers int
	Budget                       int  // IDENTIFYs in budgetPeriod
	Strict                       bool // workers close their sockets while etcd is away
	Bare                         bool // the network to Discord is none that could fail, so that there is room for many shards
}

// budgetPeriod is the model's day, as far as Discord counts IDENTIFYs.
const budgetPeriod = 30 * time.Minute

func newWorld(t *testing.T, s setup) *world {
	w := &world{t: t, strict: s.Strict, bare: s.Bare, etcd: etcdmem.New(), redis: miniredis.NewMiniRedis(), gateway: newExchange(), witness: newWitness()}
	w.witness.strict = s.Strict
	w.etcd.Observe(w.witness.observe)
	w.redis.ClockTTL(true)
	var err error
	w.sim, err = discordsim.New(discordsim.Options{
		Shards: s.Shards, MaxConcurrency: s.Concurrency, Guilds: 2 * s.Shards, Rate: 1, Record: true,
		SessionLimit: discordsim.SessionLimit{Total: s.Budget, ResetAfter: budgetPeriod},
		// What a network that fails has clients do, and what a takeover from a living worker must do.
		Allow: []discordsim.Rule{discordsim.RuleHeartbeatSilence, discordsim.RuleResumeLive},
	})
	w.must(err)
	w.sim.OnMessage(w.witness.overhear)
	w.client, err = stream.Open("redis://redis.invalid:6379")
	w.must(err)
	w.client.AddHook(newLink("model", true, w.redis.Dial))
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.running.Go(func() { w.etcd.Run(ctx) })
	w.running.Go(func() { w.must(w.sim.Serve(ctx, w.gateway)) })
	for n := range coordinators {
		w.startCoordinator(fmt.Sprintf("coordinator-%d", n+1))
	}
	for range s.Workers {
		w.join()
	}
	w.ownedAt = time.Now()
	return w
}

func (w *world) must(err error) {
	if err != nil {
		panic(err)
	}
}

// workers are those that run, and were not told to stop.
func (w *world) workers() []*process {
	return w.alive((*process).isWorker)
}

func (w *world) alive(of func(*process) bool) (out []*process) {
	for _, p := range w.processes {
		if of(p) && !p.leaving && !p.over() {
			out = append(out, p)
		}
	}
	return out
}

// join starts the first worker that does not run.
func (w *world) join() {
	for n := range mostWorkers {
		id := workerID(n)
		if !slices.ContainsFunc(w.workers(), func(p *process) bool { return p.id == id }) {
			w.startWorker(id)
			return
		}
	}
}

func workerID(n int) string { return fmt.Sprintf("worker-%d", n+1) }

// leader is the coordinator that leads; nil if none does.
func (w *world) leader() *process {
	name := w.witness.leader()
	for _, p := range w.alive(func(p *process) bool { return p.name == name }) {
		return p
	}
	return nil
}

// pass lets time pass, and looks now and then whether everything is owned that should be.
func (w *world) pass(d time.Duration) {
	const often = 5 * time.Second
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(often, time.Until(end)))
		w.look()
	}
}

// look holds the cluster to what it owes: it never believes in more IDENTIFYs than Discord has left; and while nothing is wrong,
// every range has a living owner.
func (w *world) look() {
	now := time.Now()
	if believed, left := w.witness.budget(), w.sim.Stats().BudgetRemaining; believed > left {
		w.accuse("Discord has %d IDENTIFYs left, and etcd %d", left, believed)
	}
	if w.ill() {
		w.illAt = now
	}
	w.lookForSockets(now)
	if w.ill() || w.witness.takers() == 0 || w.witness.plan().Generation > 0 && len(w.witness.unowned()) == 0 {
		w.ownedAt = now
		return
	}
	if now.Sub(w.ownedAt) > adoption {
		w.accuse("nothing is wrong, and after %v there are ranges without a living owner: %v", adoption, w.witness.unowned())
		w.ownedAt = now.Add(settling) // that will do
	}
}

// closing is for how long there may be sockets when the cluster is down, while nothing is wrong.
const closing = 10 * time.Second

// lookForSockets: there are none while the cluster is down by order.
func (w *world) lookForSockets(now time.Time) {
	down, since := w.witness.down()
	if !down || now.Sub(since) < closing || now.Sub(w.illAt) < closing {
		return
	}
	for _, p := range w.alive((*process).isWorker) {
		if n := p.discord.open(); n > 0 {
			w.accuse("the cluster is down for %v, and %s has %d sockets", now.Sub(since), p.name, n)
		}
	}
}

// ill reports whether something is wrong now.
func (w *world) ill() bool {
	return w.outages > 0 || len(w.alive((*process).ill)) > 0
}

func (w *world) accuse(format string, args ...any) {
	w.witness.mu.Lock()
	defer w.witness.mu.Unlock()
	w.witness.accuse(format, args...)
}

// settle waits until nothing is wrong, stops the traffic, and waits until everything that was sent is in the streams.
func (w *world) settle() {
	for w.ill() {
		w.pass(time.Second)
	}
	w.operator.Wait()
	w.help()
	w.pass(2 * ttl) // whoever was killed just now is missed
	if down, _ := w.witness.down(); down {
		w.insist("up")
	}
	w.await("orders that are done", w.witness.unfinished)
	w.await("shards that are live", func() string { return w.unready() })
	w.sim.Pause()
	ctx := context.Background()
	w.await("streams that are whole", func() string { return w.unsettled(ctx) })
	w.pass(time.Minute) // nothing more comes
	account, err := w.account(ctx)
	w.must(err)
	if why := w.unsettled(ctx); why != "" {
		w.accuse("settled no more: %s", why)
	}
	if !account.Clean() {
		w.accuse("streams against Discord: %+v; violations: %+v", account, w.violations())
	}
	plan := w.witness.plan()
	if told, err := stream.ReadCluster(ctx, w.client, cluster); err != nil || told.Shards != plan.Shards || told.Generation != uint64(plan.Generation) {
		w.accuse("consumers are told %+v (%v), and the plan is %+v", told, err, plan)
	}
}

// help has people do what the alarm asks for when there is nobody to run ranges: start workers, or let those have some that were to be drained.
func (w *world) help() {
	switch {
	case w.witness.takers() > 0 && len(w.workers()) > 0:
	case len(w.workers()) < mostWorkers:
		w.join()
	default:
		for n := range mostWorkers {
			order("cancel drain")(w, step{Who: n})
		}
	}
}

// await waits for why to be nothing.
func (w *world) await(what string, why func() string) {
	for deadline := time.Now().Add(settling); why() != ""; w.pass(time.Second) {
		w.help()
		if time.Now().After(deadline) {
			w.accuse("no %s within %v: %s", what, settling, why())
			return
		}
	}
}

// end stops every process as an operator would, and then all around them.
func (w *world) end() {
	for _, p := range slices.Backward(w.processes) { // coordinators, which started first, last
		p.stop()
		<-p.ended
		// A registration that etcd armed anew may outlive the patience of a successor, whom Kubernetes would start again.
		if p.err != nil && !errors.Is(p.err, lease.ErrIDInUse) {
			w.accuse("%s ended with %v", p.name, p.err)
		}
	}
	_ = w.client.Close()
	w.stop()
	w.running.Wait()
	w.redis.Close()
}
