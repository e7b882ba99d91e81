// Package e2e starts whole clusters of real processes, breaks them with real signals, and audits what is in the streams against what
// the simulated Discord sent.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

const (
	shards   = 16
	workers  = 3
	leaseTTL = 4 * time.Second
	// patience bounds a cluster's life, and so every wait: several times what the longest test takes on a machine that is busy, so that only
	// what never comes fails.
	patience = 8 * time.Minute
)

var binary string // muster, built with the race detector

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "muster-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "muster")
	build := exec.Command("go", "build", "-race", "-o", binary, "github.com/muster-gateway/muster/cmd/muster")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build muster: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// cluster is a running stack and what its processes logged.
type cluster struct {
	*devstack.Stack
	t   *testing.T
	ctx context.Context
	log *logBuffer
}

// start starts a cluster and waits until every shard is live, and evenly shared out: a worker that is late joins a cluster whose shards have
// their workers, and is given its share by handovers.
func start(t *testing.T, change ...func(*devstack.Options)) *cluster {
	t.Helper()
	c := launch(t, change...)
	n := len(c.Workers())
	c.await("every shard to be live", func(v *api.Cluster) bool { return sharedOut(v, n, shards/n) })
	return c
}

// sharedOut reports whether all shards are live, so many workers have so many each at least, and nothing moves. What a session catches up with is
// load as well: for a while after a shard had no socket nobody can say how many a worker has.
func sharedOut(v *api.Cluster, workers, least int) bool {
	for _, r := range v.Ranges {
		if r.Moving {
			return false
		}
	}
	for _, w := range v.Workers {
		if w.Shards < least {
			return false
		}
	}
	return live(v) == shards && len(v.Workers) == workers
}

// launch starts a cluster and waits for nothing.
func launch(t *testing.T, change ...func(*devstack.Options)) *cluster {
	t.Helper()
	opts := devstack.Options{
		Binary: binary, Workers: workers, Shards: shards, LeaseTTL: leaseTTL.String(), LogLevel: "info",
		Env: []string{"DISCORD_INTENTS=all"},
		Sim: &discordsim.Options{
			Shards: shards, MaxConcurrency: 4, Guilds: 160, Rate: 400, Privileged: discordsim.PrivilegedIntents, Record: true,
		},
	}
	for _, f := range change {
		f(&opts)
	}
	c := &cluster{t: t, log: &logBuffer{}}
	opts.Output = c.log
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	c.ctx = ctx
	stack, err := devstack.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	c.Stack = stack
	t.Cleanup(func() {
		stack.Close()
		if t.Failed() {
			t.Logf("logs of the processes:\n%s", c.log)
		}
	})
	return c
}

// await waits until the coordinator's view is as wanted, and fails if a process ends by itself meanwhile.
func (c *cluster) await(what string, wanted func(*api.Cluster) bool) (view *api.Cluster) {
	c.t.Helper()
	c.poll(what, func() bool {
		select {
		case err := <-c.Failed():
			c.t.Fatalf("waiting for %s: %v", what, err)
		default:
		}
		var err error
		view, err = c.View(c.ctx)
		return err == nil && wanted(view)
	})
	return view
}

// poll waits until the condition holds.
func (c *cluster) poll(what string, holds func() bool) {
	c.t.Helper()
	poll(c.ctx, c.t, what, holds)
}

func poll(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, ctx.Err())
		}
	}
}

// awaitEvents waits until Discord has sent some more, so that what was just done is done in the midst of traffic.
func (c *cluster) awaitEvents(n int64) {
	c.t.Helper()
	until := c.Sim.Stats().Dispatched + n
	c.poll(fmt.Sprintf("%d events", n), func() bool { return c.Sim.Stats().Dispatched >= until })
}

// mustBeClean settles and audits, and fails unless every promise was kept with the given number of IDENTIFYs.
func (c *cluster) mustBeClean(identifies int) devstack.Account {
	c.t.Helper()
	return c.mustBeCleanBut(identifies, 0)
}

// mustBeCleanBut is mustBeClean where so many sessions were lost by Discord's doing.
func (c *cluster) mustBeCleanBut(identifies, gaps int) devstack.Account {
	c.t.Helper()
	if err := c.Settle(c.ctx); err != nil {
		c.t.Error(err)
	}
	account, err := c.Audit(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	if !account.Clean() || account.Identifies != identifies || account.Gaps != gaps || gaps == 0 && account.Found != account.Sent {
		c.t.Errorf("account with %d IDENTIFYs and %d gaps wanted: %+v\nviolations: %+v", identifies, gaps, account, c.Sim.Violations())
	}
	c.t.Logf("%d events, %d RESUMEs", account.Sent, account.Resumes)
	return account
}

func (c *cluster) signal(p *devstack.Process, signal syscall.Signal) {
	c.t.Helper()
	if err := p.Signal(signal); err != nil {
		c.t.Fatal(err)
	}
}

// awaitExit waits for a process's end and returns its exit code.
func (c *cluster) awaitExit(p *devstack.Process) int {
	c.t.Helper()
	select {
	case <-p.Done():
		return p.ExitCode()
	case <-c.ctx.Done():
		c.t.Fatalf("%s does not end", p.Name)
		return -1
	}
}

func live(v *api.Cluster) (n int) {
	for _, s := range v.ShardStates {
		if s.State == "live" {
			n++
		}
	}
	return n
}

// owned is how many shards a worker has.
func owned(v *api.Cluster, id string) int {
	for _, w := range v.Workers {
		if w.ID == id {
			return w.Shards
		}
	}
	return 0
}

func incarnation(v *api.Cluster, id string) int64 {
	for _, w := range v.Workers {
		if w.ID == id {
			return w.Incarnation
		}
	}
	return 0
}

// logBuffer collects what several processes log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
