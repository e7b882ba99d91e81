package deploy

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneMachine runs what docs/operations.md says for a single machine: the images' programs, a Redis, and the coordinator's own etcd. The
// coordinator is replaced under running shards, and nothing is identified again.
func TestOneMachine(t *testing.T) {
	server, _ := redis(t)
	redisAt, etcdAt, discordAt, page := freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)
	_, port, _ := strings.Cut(redisAt, ":")
	start(t, server, []string{"--port", port, "--bind", "127.0.0.1", "--appendonly", "yes", "--dir", t.TempDir()})
	muster := programOf(t, "muster").path
	discord := start(t, muster, []string{"sim", "--listen", discordAt, "--shards", "4", "--max-concurrency", "4", "--rate", "50"})
	discord.await(t, "the simulated Discord", func() (bool, string) {
		out, err := exec.Command(muster, "sim", "--listen", discordAt, "--check").CombinedOutput()
		return err == nil, string(out)
	})
	both := []string{"DISCORD_TOKEN=simulated-token", "DISCORD_API_URL=http://" + discordAt + "/api/v10"}
	dir := filepath.Join(t.TempDir(), "etcd")
	run := func() *process {
		c := start(t, programOf(t, "coordinator").path, []string{"--embed-etcd", dir, "--embed-etcd-listen", etcdAt}, append(both, "MUSTER_LISTEN="+page)...)
		c.awaitHealth(t, "coordinator", page)
		return c
	}
	coordinator := run()
	var workers []*process
	for i := range 2 {
		listen := freeAddress(t)
		w := start(t, programOf(t, "worker").path, nil, append(both, "MUSTER_LISTEN="+listen, "ETCD_ENDPOINTS="+etcdAt,
			"REDIS_URL=redis://"+redisAt+"/0", fmt.Sprintf("MUSTER_WORKER_ID=worker-%d", i), "MUSTER_ZONE=here", "MUSTER_CAPACITY=250")...)
		w.awaitHealth(t, "worker", listen)
		workers = append(workers, w)
	}
	before := coordinator.awaitLive(t, page, 0)
	for _, w := range before.Workers {
		if w.Zone != "here" || w.Capacity != 250 {
			t.Errorf("%s is in zone %q with capacity %d", w.ID, w.Zone, w.Capacity)
		}
	}
	coordinator.terminate(t, patience)
	coordinator = run()
	after := coordinator.awaitLive(t, page, before.Term)
	for i, r := range after.Ranges {
		if r.Owner != before.Ranges[i].Owner {
			t.Errorf("range %d moved from %s to %s", r.Range, before.Ranges[i].Owner, r.Owner)
		}
	}
	identifies := 0
	for _, w := range after.Workers {
		identifies += w.Identifies
	}
	if identifies != 4 {
		t.Errorf("%d IDENTIFYs for 4 shards", identifies)
	}
	for _, w := range workers {
		w.terminate(t, stopTimeout(t))
	}
	coordinator.terminate(t, patience)
}

// cluster is what the test reads of /v1/cluster.
type cluster struct {
	Term    int64 `json:"term"`
	Workers []struct {
		ID         string `json:"id"`
		Zone       string `json:"zone"`
		Capacity   int    `json:"capacity"`
		Identifies int    `json:"identifies"`
	} `json:"workers"`
	Ranges []struct {
		Range  int    `json:"range"`
		Owner  string `json:"owner"`
		Moving bool   `json:"moving"`
	} `json:"ranges"`
	ShardStates []struct {
		State string `json:"state"`
	} `json:"shard_states"`
}

// awaitHealth asks as a container's health check does.
func (p *process) awaitHealth(t *testing.T, name, listen string) {
	t.Helper()
	check := programOf(t, name).path
	p.await(t, name+" to be ready", func() (bool, string) {
		command := exec.Command(check, "--check", "readyz")
		command.Env = []string{"MUSTER_LISTEN=" + listen}
		out, err := command.CombinedOutput()
		return err == nil, string(out)
	})
}

// awaitLive waits until a leader of a later term sees all shards live, some on each worker, and none moving: to the second, which joined when the
// first may have had all of them.
func (p *process) awaitLive(t *testing.T, page string, after int64) (view cluster) {
	t.Helper()
	p.await(t, "all shards to be live", func() (bool, string) {
		status, body := get("http://" + page + "/v1/cluster")
		view = cluster{}
		if status != 200 || json.Unmarshal([]byte(body), &view) != nil || view.Term <= after {
			return false, body
		}
		live := 0
		for _, s := range view.ShardStates {
			if s.State == "live" {
				live++
			}
		}
		owners, moving := map[string]bool{}, false
		for _, r := range view.Ranges {
			owners[r.Owner] = true
			moving = moving || r.Moving
		}
		return live == 4 && len(view.Workers) == 2 && len(owners) == 2 && !moving, body
	})
	return view
}
