package devstack

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/embedetcd"
	"github.com/muster-gateway/muster/internal/freeport"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Options say what to start.
type Options struct {
	Binary   string   // the muster binary, which is every process
	Cluster  string   // its name; empty: one that none had before
	Workers  int      // how many to start with
	Shards   int      // 0: as many as Discord recommends
	Listen   string   // of the coordinator; empty: a free port of loopback
	EtcdURL  string   // ETCD_ENDPOINTS; empty: start one
	RedisURL string   // empty: start one
	LeaseTTL string   // how long a dead worker is believed alive, such as "5s"
	MaxLen   int64    // entries kept in each stream; 0: the default
	LogLevel string   // of the processes
	Env      []string // for them, besides ours; later ones win

	// Sim is the simulated Discord. Nil: Discord itself, with the DISCORD_ variables of our environment.
	Sim *discordsim.Options

	Output io.Writer // the processes' logs, until Close begins
}

// Stack is a running cluster. Its methods may be called from any goroutine.
type Stack struct {
	Cluster  string             // its name
	Sim      *discordsim.Server // nil with Discord itself
	SimURL   string             // base of the simulator's REST API
	EtcdURL  string
	RedisURL string
	Redis    string // what it is, in words
	PageURL  string // of the coordinator

	opts    Options
	output  *muting
	env     []string
	spawner *spawner
	client  stream.Client
	closers []func() // last first
	failed  chan error

	mu          sync.Mutex
	coordinator *Process
	workers     map[string]*Process
	started     int
	closing     bool
}

// Start starts everything, and returns when every process was started; the cluster then still has to come up.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	s := &Stack{opts: opts, spawner: newSpawner(), workers: map[string]*Process{}, failed: make(chan error, 1)}
	s.output = &muting{out: opts.Output}
	s.onClose(s.spawner.close)
	s.Cluster = cmp.Or(opts.Cluster, "dev")
	if opts.Cluster == "" && opts.RedisURL != "" { // where an earlier run may have left streams of that name
		s.Cluster = fmt.Sprintf("dev-%d", time.Now().Unix())
	}
	if err := s.start(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "muster-dev-")
	if err != nil {
		return fmt.Errorf("make a directory for etcd: %w", err)
	}
	s.onClose(func() { os.RemoveAll(dir) })
	s.env = append(s.env, "MUSTER_STATE_DIR="+filepath.Join(dir, "state"))
	if s.EtcdURL = s.opts.EtcdURL; s.EtcdURL == "" {
		etcd, err := embedetcd.Start(ctx, embedetcd.Options{Dir: dir, Listen: "127.0.0.1:0", Volatile: true})
		if err != nil {
			return err
		}
		s.onClose(etcd.Close)
		s.EtcdURL = etcd.Endpoint()
	}

	redis, err := startRedis(ctx, s.opts.RedisURL, s.spawner, dir)
	if err != nil {
		return err
	}
	s.onClose(redis.close)
	s.RedisURL, s.Redis = redis.url, redis.kind
	if s.client, err = stream.Open(redis.url); err != nil {
		return err
	}
	s.onClose(func() { s.client.Close() })

	if s.opts.Sim != nil {
		if err := s.startSim(*s.opts.Sim); err != nil {
			return err
		}
	}
	if err := s.startCoordinator(); err != nil {
		return err
	}
	for range s.opts.Workers {
		if _, err := s.StartWorker(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) startSim(opts discordsim.Options) error {
	sim, err := discordsim.New(opts)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("simulated discord: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sim.Serve(ctx, listener) }()
	s.onClose(func() {
		cancel()
		<-ended
	})
	s.Sim, s.SimURL = sim, "http://"+listener.Addr().String()+"/api/v10"
	s.env = append(s.env, "DISCORD_API_URL="+s.SimURL, "DISCORD_TOKEN="+discordsim.DefaultToken, "DISCORD_TOKEN_FILE=",
		"MUSTER_EVENTS=") // the audit expects every event
	return nil
}

func (s *Stack) startCoordinator() error {
	listen := s.opts.Listen
	if listen == "" {
		var err error
		if listen, err = freeport.Addr(); err != nil {
			return err
		}
	}
	s.PageURL = "http://" + listen
	s.env = append(s.env,
		"ETCD_ENDPOINTS="+s.EtcdURL, "MUSTER_EMBED_ETCD=", "REDIS_URL="+s.RedisURL, "MUSTER_CLUSTER="+s.Cluster, "MUSTER_LOG_LEVEL="+s.opts.LogLevel)
	if s.opts.LeaseTTL != "" {
		s.env = append(s.env, "MUSTER_LEASE_TTL="+s.opts.LeaseTTL)
	}
	if s.opts.MaxLen > 0 {
		s.env = append(s.env, fmt.Sprintf("MUSTER_STREAM_MAXLEN=%d", s.opts.MaxLen))
	}
	s.env = append(s.env, s.opts.Env...)
	return s.RestartCoordinator()
}

// RestartCoordinator starts a coordinator, with the address of the one before, which must have ended.
func (s *Stack) RestartCoordinator() error {
	p, err := s.launch("coordinator", []string{"coordinator"},
		"MUSTER_LISTEN="+strings.TrimPrefix(s.PageURL, "http://"), fmt.Sprintf("MUSTER_SHARDS=%d", s.opts.Shards))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.coordinator = p
	return nil
}

// StartReplica starts one more coordinator, and returns its process and the address of its page.
func (s *Stack) StartReplica() (p *Process, pageURL string, err error) {
	listen, err := freeport.Addr()
	if err != nil {
		return nil, "", err
	}
	p, err = s.launch("coordinator-replica", []string{"coordinator"}, "MUSTER_LISTEN="+listen, fmt.Sprintf("MUSTER_SHARDS=%d", s.opts.Shards))
	if err == nil {
		s.onClose(func() { p.Stop(10 * time.Second) })
	}
	return p, "http://" + listen, err
}

// StartWorker starts one more worker, with an id that none had before unless env says otherwise, and returns its process.
func (s *Stack) StartWorker(env ...string) (*Process, error) {
	s.mu.Lock()
	s.started++
	id := fmt.Sprintf("worker-%d", s.started)
	s.mu.Unlock()
	return s.RestartWorker(id, env...)
}

// RestartWorker starts a worker with an id that another had before.
func (s *Stack) RestartWorker(id string, env ...string) (*Process, error) {
	p, err := s.launch(id, []string{"worker"}, append([]string{"MUSTER_LISTEN=127.0.0.1:0", "MUSTER_WORKER_ID=" + id}, env...)...)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers[id] = p
	return p, nil
}

// Coordinator is the coordinator's process.
func (s *Stack) Coordinator() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.coordinator
}

// Workers are the workers' processes that run, by id.
func (s *Stack) Workers() map[string]*Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := map[string]*Process{}
	for id, p := range s.workers {
		running[id] = p
	}
	return running
}

// launch starts a process of the binary, and watches for its end.
func (s *Stack) launch(name string, args []string, env ...string) (*Process, error) {
	p, err := s.spawner.spawn(name, s.opts.Binary, args, append(append([]string{}, s.env...), env...), s.output)
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.Done()
		s.mu.Lock()
		if s.workers[name] == p { // another may have its name by now
			delete(s.workers, name)
		}
		closing := s.closing
		s.mu.Unlock()
		if !closing && !p.wanted() {
			select {
			case s.failed <- fmt.Errorf("%s ended by itself with code %d", name, p.ExitCode()):
			default: // one reason is enough
			}
		}
	}()
	return p, nil
}

// Failed tells of a process that ended without having been told to.
func (s *Stack) Failed() <-chan error { return s.failed }

// View asks the coordinator how the cluster is.
func (s *Stack) View(ctx context.Context) (*api.Cluster, error) { return api.Get(ctx, s.PageURL) }

// Close ends everything: the workers together, by SIGTERM, then the coordinator, then the servers.
func (s *Stack) Close() {
	s.output.mute() // that a cluster without workers runs no shards is true then, but no news
	s.mu.Lock()
	s.closing = true
	workers := s.workers
	s.workers = map[string]*Process{}
	s.mu.Unlock()
	var ending sync.WaitGroup
	for _, p := range workers {
		ending.Go(func() { p.Stop(30 * time.Second) })
	}
	ending.Wait()
	if c := s.Coordinator(); c != nil {
		c.Stop(10 * time.Second)
	}
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

func (s *Stack) onClose(f func()) { s.closers = append(s.closers, f) }

// muting is a writer that can be made silent.
type muting struct {
	mu    sync.Mutex
	out   io.Writer
	muted bool
}

func (m *muting) mute() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.muted = true
}

// Write passes p on.
func (m *muting) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.muted {
		return len(p), nil
	}
	return m.out.Write(p)
}
