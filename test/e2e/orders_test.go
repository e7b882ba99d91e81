package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-gateway/muster/internal/api"
)

// muster runs the command line on the cluster, and returns its exit code and what it printed.
func (c *cluster) muster(args ...string) (int, string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.ctx, binary, args...)
	cmd.Env = append(os.Environ(), "MUSTER_COORDINATOR_URL="+c.PageURL)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // its exit code says it
	return cmd.ProcessState.ExitCode(), out.String()
}

func (c *cluster) mustMuster(args ...string) string {
	c.t.Helper()
	code, out := c.muster(args...)
	if code != 0 {
		c.t.Fatalf("muster %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// A worker is drained by order, in the midst of traffic, and stays without shards until it is stopped: no IDENTIFY, nothing lost.
func TestDrainByOrder(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.awaitEvents(200)
	if out := c.mustMuster("drain", "worker-1"); !strings.Contains(out, "it can be stopped") {
		t.Errorf("it says\n%s", out)
	}
	view := c.await("a view", func(*api.Cluster) bool { return true })
	if owned(view, "worker-1") != 0 || incarnation(view, "worker-1") == 0 {
		t.Errorf("worker-1 has %d shards", owned(view, "worker-1"))
	}
	c.mustMuster("rebalance")
	c.await("the others to run all shards", func(v *api.Cluster) bool { return live(v) == shards && owned(v, "worker-1") == 0 })
	if out := c.mustMuster("status"); !strings.Contains(out, "worker-1 is drained by order") || !strings.Contains(out, "worker-1 (draining)") {
		t.Errorf("status says\n%s", out)
	}
	c.awaitEvents(200)

	worker := c.Workers()["worker-1"]
	c.signal(worker, syscall.SIGTERM)
	if code := c.awaitExit(worker); code != 0 {
		t.Errorf("the drained worker exits with %d", code)
	}
	c.await("the order to be gone with its worker", func(v *api.Cluster) bool { return len(v.Directives.Drains) == 0 })
	if code, out := c.muster("drain", "worker-1"); code != 1 || !strings.Contains(out, `no worker "worker-1" is alive`) {
		t.Errorf("a worker that is gone: exit code %d\n%s", code, out)
	}
	c.mustBeClean(shards)
}

// A drain that is taken back has the worker given its share again.
func TestCancelledDrain(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.mustMuster("drain", "worker-2")
	c.mustMuster("drain", "worker-2", "--cancel")
	c.mustMuster("rebalance")
	c.await("worker-2 to have its share", func(v *api.Cluster) bool { return live(v) == shards && owned(v, "worker-2") >= shards/workers })
	c.mustBeClean(shards)
}

// The cluster is down while its coordinator and a worker die and others start, and connects to nothing; up again, every session is
// resumed.
func TestDownAndUpByOrder(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.awaitEvents(200)
	c.mustMuster("down")
	c.poll("Discord to know of no socket", func() bool { return c.Sim.Stats().Sockets == 0 })
	before := c.Sim.Stats()
	c.signal(c.Coordinator(), syscall.SIGKILL)
	c.awaitExit(c.Coordinator())
	if err := c.RestartCoordinator(); err != nil {
		t.Fatal(err)
	}
	victim := c.Workers()["worker-1"]
	c.signal(victim, syscall.SIGKILL)
	c.awaitExit(victim)
	if _, err := c.StartWorker(); err != nil {
		t.Fatal(err)
	}
	c.await("the others to hold every shard", func(v *api.Cluster) bool {
		held := 0
		for _, s := range v.ShardStates {
			if s.State == api.StateDown && s.Worker != "worker-1" {
				held++
			}
		}
		return held == shards && v.Leader != "" && owned(v, "worker-4") > 0
	})
	if code, out := c.muster("status"); code != 3 || !strings.HasPrefix(out, "CRITICAL  down by order") {
		t.Errorf("status says, with exit code %d,\n%s", code, out)
	}
	c.awaitEvents(200)
	if after := c.Sim.Stats(); after.Sockets != 0 || after.Resumes != before.Resumes || after.Identifies != before.Identifies {
		t.Errorf("while down: %+v became %+v", before, after)
	}
	c.mustMuster("up")
	view := c.await("a view", func(*api.Cluster) bool { return true })
	if live(view) != shards {
		t.Errorf("up, %d shards are live", live(view))
	}
	c.awaitEvents(200)
	c.mustBeClean(shards)
}
