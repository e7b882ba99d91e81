package worker

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/muster-gateway/muster/internal/hostlock"
	"github.com/muster-gateway/muster/internal/serve"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Config is what a worker needs.
type Config struct {
	Worker         lease.Worker // its id, host, zone and capacity
	Cluster        string
	Token          string // of the bot
	Intents        shard.Intents
	Presence       *shard.Presence // nil: none
	LargeThreshold int             // of IDENTIFY; 0: Discord's default
	Capabilities   int64           // of IDENTIFY; 0: none
	Compression    shard.Compression
	LeaseTTL       time.Duration
	Strict         bool // close the sockets while the registration is not trusted, instead of letting them go on
	StreamMaxLen   int64
	StreamMaxAge   time.Duration // 0: none
	Events         Filter        // which events go into the streams
	StateDir       string        // of this host, for locks that say which of its workers live; empty: none
	Store          *lease.Store
	Redis          stream.Client
	AdminToken     string       // of who may see profiles; "": who asks from this machine
	Listener       net.Listener // where to serve HTTP; closed by Run
	Logger         hclog.Logger
	// DialDiscord opens connections to Discord, as net.Dialer.DialContext does, which is the default.
	DialDiscord func(ctx context.Context, network, addr string) (net.Conn, error)
}

// StopTimeout is how long Run may take to return once its context has ended, even if neither etcd nor Redis answers. Whoever kills a worker
// that was told to stop has to wait for longer than that (Kubernetes: terminationGracePeriodSeconds).
const StopTimeout = 30 * time.Second

// timings bound the waits of a worker that stops. Together with the last request to etcd (5 s) they stay within StopTimeout.
type timings struct {
	drain   time.Duration // for ranges to be handed over, before what is left is released
	release time.Duration // for that, before the process leaves it to the leader to notice that the worker is gone
	flush   time.Duration // for a shard's last entries and its session record to be written, once its socket is closed

	prepare time.Duration // for the connections of a range that is to be ours, before its owner is told not to wait for more
	ready   time.Duration // for the target of a move to say that it is prepared; longer than prepare, for what lies between

	// standby is for how long connections are kept for a range that is to be ours. A move is over long before, one way or the other; if not
	// they are dropped, and the shards will dial.
	standby time.Duration

	// predecessor is how much longer than etcd says a registration with our id may take to end, until it must be that of somebody who lives.
	predecessor time.Duration
}

var defaultTimings = timings{
	drain: 15 * time.Second, release: 5 * time.Second, flush: 5 * time.Second, prepare: 2 * time.Second, ready: 3 * time.Second,
	standby: time.Minute, predecessor: 5 * time.Second,
}

// Worker runs shards.
type Worker struct {
	cfg     Config
	log     hclog.Logger
	writer  *stream.Writer
	metrics *metrics
	timings timings                     // defaultTimings, but in tests
	current atomic.Pointer[incarnation] // nil while not registered

	commands     *stream.CommandReader
	redisFailing atomic.Bool // Redis takes no writes

	lock        *hostlock.Lock // says that this process lives; nil if it has none
	lockTrouble string         // why not, as it was last logged
}

// New makes a Worker.
func New(cfg Config) *Worker {
	w := &Worker{
		cfg: cfg, log: cfg.Logger, timings: defaultTimings,
		writer: stream.NewWriter(cfg.Redis, stream.Options{
			Cluster: cfg.Cluster, MaxLen: cfg.StreamMaxLen, MaxAge: cfg.StreamMaxAge, Logger: cfg.Logger.Named("stream"),
		}),
		commands: stream.NewCommandReader(cfg.Redis, stream.CommandReaderOptions{Cluster: cfg.Cluster, Logger: cfg.Logger.Named("commands")}),
	}
	w.metrics = newMetrics(w)
	return w
}

// Run works until ctx ends; then it hands over all it owns and returns nil. It returns an error only for what trying again
// cannot mend: its id is another worker's, a *lease.SchemaError, or, when it starts, a *lease.DeniedError or *stream.DeniedError.
func (w *Worker) Run(ctx context.Context) error {
	// The writer, the reader of commands and the HTTP server outlive ctx, until the last range is handed over.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	g, life := errgroup.WithContext(life)
	// Should one of them fail, nothing is waited for.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	context.AfterFunc(life, stop)
	g.Go(func() error { return w.writer.Run(life) })
	g.Go(func() error { return w.commands.Run(life) })
	g.Go(func() error { return serve.HTTP(life, w.cfg.Listener, w.handler()) })
	g.Go(func() error {
		defer end()
		return w.work(ctx, life)
	})
	return g.Wait()
}

// work registers and runs what it is assigned, as one incarnation after another, until ctx ends.
func (w *Worker) work(ctx, life context.Context) error {
	defer func() { w.lock.Release() }()
	if err := w.awaitServers(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for ctx.Err() == nil {
		reg, err := w.register(ctx)
		if err != nil {
			return err
		}
		if reg == nil {
			return nil
		}
		in := newIncarnation(w, reg)
		w.current.Store(in)
		err = in.run(ctx, life)
		w.current.Store(nil)
		if !errors.Is(err, lease.ErrLost) {
			return err
		}
		w.log.Warn("registration lost, registering anew; all sockets are closed until then", "error", err)
	}
	return nil
}

// awaitServers blocks until etcd and Redis can be used. Its errors are those of Run, or say that ctx has ended.
func (w *Worker) awaitServers(ctx context.Context) error {
	if err := w.cfg.Store.AwaitReady(ctx); err != nil {
		return err
	}
	var denied *stream.DeniedError
	err := w.persist(ctx, "redis unreachable; trying again", func(ctx context.Context) error {
		err := stream.Access(ctx, w.cfg.Redis, w.cfg.Cluster)
		if errors.As(err, &denied) {
			return nil
		}
		return err
	})
	if err == nil && denied != nil {
		return denied
	}
	return err
}

// persist calls try until it succeeds, and logs the first failure and then one a minute, or until ctx ends.
func (w *Worker) persist(ctx context.Context, trouble string, try func(context.Context) error) error {
	retry := newRetry()
	var told time.Time
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := try(attempt)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(told) > time.Minute {
			w.log.Error(trouble, "error", err)
			told = time.Now()
		}
		wait(ctx, retry.NextBackOff())
	}
}

// newRetry is exponential backoff with jitter, up to 5 s.
func newRetry() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 200 * time.Millisecond
	b.MaxInterval = 5 * time.Second
	return b
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
