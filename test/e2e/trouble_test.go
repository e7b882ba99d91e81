package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/internal/freeport"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// A token that Discord refuses ends the coordinator with one clear line, and no shard ever connects.
func TestWrongTokenStopsAtOnce(t *testing.T) {
	t.Parallel()
	c := launch(t, func(o *devstack.Options) { o.Env = append(o.Env, "DISCORD_TOKEN=not-the-token") })
	if code := c.awaitExit(c.Coordinator()); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	const line = "bot token refused by Discord (401)"
	if n := strings.Count(c.log.String(), line); n != 1 {
		t.Errorf("%q is logged %d times, want once", line, n)
	}
	if strings.Contains(c.log.String(), "not-the-token") {
		t.Error("the token is in the log")
	}
	if stats := c.Sim.Stats(); stats.Identifies+stats.IdentifiesRefused > 0 {
		t.Errorf("%d IDENTIFYs were sent", stats.Identifies+stats.IdentifiesRefused)
	}
}

// A token that stops working halts the fleet: all sockets close, nothing is tried again, and whoever looks is told why.
func TestTokenResetHaltsTheFleet(t *testing.T) {
	t.Parallel()
	c := start(t)
	before := c.Sim.Stats().Identifies
	c.Sim.Disconnect(5, discordsim.CloseAuthenticationFailed)
	view := c.await("the halt", func(v *api.Cluster) bool { return len(v.Halted) > 0 })
	if halt := view.Halted[0]; halt.Shard != 5 || !strings.Contains(halt.Reason, "4004") {
		t.Errorf("halted because %+v, want shard 5 and code 4004", halt)
	}
	c.poll("every socket to be closed", func() bool { return c.Sim.Stats().Sockets == 0 })
	for id := range c.Workers() {
		c.poll(id+" to say that it is halted", func() bool {
			for line := range strings.Lines(c.log.String()) {
				if strings.Contains(line, "fleet halted") && strings.Contains(line, "worker="+id) {
					return true
				}
			}
			return false
		})
	}
	// The worker that raised the halt is replaced, as by a deploy with the new token; the fleet goes on where it was.
	raiser := c.Workers()[view.Halted[0].Worker]
	c.signal(raiser, syscall.SIGTERM)
	if code := c.awaitExit(raiser); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	c.await("all shards to be live again", func(v *api.Cluster) bool { return len(v.Halted) == 0 && live(v) == shards })
	if after := c.Sim.Stats().Identifies; after != before {
		t.Errorf("%d IDENTIFYs before the halt, %d after", before, after)
	}
}

// A worker whose servers are away says so, is not ready, keeps trying, and still ends on SIGTERM.
func TestWorkerWaitsForItsServers(t *testing.T) {
	t.Parallel()
	for _, server := range []struct{ name, env, says string }{
		{"etcd", "ETCD_ENDPOINTS=127.0.0.1:1", "etcd unreachable"},
		{"redis", "REDIS_URL=redis://127.0.0.1:1/0", "redis unreachable"},
	} {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			c := launch(t, func(o *devstack.Options) { o.Workers = 0 })
			log := &logBuffer{}
			address := freeAddress(t)
			worker := exec.Command(binary, "worker", "--listen", address)
			worker.Env = append(os.Environ(), "ETCD_ENDPOINTS="+c.EtcdURL, "REDIS_URL="+c.RedisURL, "DISCORD_TOKEN=any", server.env)
			worker.Stdout, worker.Stderr = log, log
			if err := worker.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { worker.Process.Kill() })
			c.poll("the worker to say what is wrong", func() bool { return strings.Contains(log.String(), server.says) })
			if status := get(t, "http://"+address+"/readyz"); status != http.StatusServiceUnavailable {
				t.Errorf("/readyz says %d, want 503", status)
			}
			if status := get(t, "http://"+address+"/healthz"); status != http.StatusOK {
				t.Errorf("/healthz says %d, want 200", status)
			}
			if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := worker.Wait(); err != nil {
				t.Errorf("after SIGTERM: %v\n%s", err, log)
			}
		})
	}
}

func get(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
