package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/freeport"
)

// TestEmbeddedEtcd runs a coordinator with an etcd of its own, twice on the same directory: the second finds the plan of the first.
func TestEmbeddedEtcd(t *testing.T) {
	clean(t)
	discord := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"url":"wss://gateway.invalid","shards":4,"session_start_limit":{"total":1000,"remaining":1000,"reset_after":60000,"max_concurrency":1}}`)
	}))
	defer discord.Close()
	page, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DISCORD_API_URL", discord.URL)
	t.Setenv("MUSTER_LISTEN", page)
	t.Setenv("MUSTER_EMBED_ETCD", t.TempDir())
	t.Setenv("MUSTER_EMBED_ETCD_LISTEN", "127.0.0.1:0")

	run := func(after int64) (led api.Cluster) {
		t.Helper()
		code, said := stderr(t, func() int {
			ended := make(chan int, 1)
			go func() { ended <- Coordinator(nil) }()
			led = awaitPlan(t, page, after, ended)
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			return <-ended
		})
		if code != 0 || !strings.Contains(said, "not highly available") {
			t.Errorf("exit code %d, log:\n%s", code, said)
		}
		return led
	}
	first := run(0)
	second := run(first.Term)
	if first.Shards != 4 || second.Shards != 4 || second.Generation != first.Generation {
		t.Errorf("the first run had generation %d of %d shards, the second %d of %d", first.Generation, first.Shards, second.Generation, second.Shards)
	}
}

// awaitPlan waits until the coordinator there leads, in a term after the given one, and has a plan.
func awaitPlan(t *testing.T, address string, after int64, ended chan int) (view api.Cluster) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && len(ended) == 0; <-time.After(20 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/v1/cluster")
		if err != nil {
			continue
		}
		err = json.NewDecoder(resp.Body).Decode(&view)
		resp.Body.Close()
		if err == nil && view.Shards > 0 && view.Leader != "" && view.Term > after {
			return view
		}
	}
	t.Error("no plan: the coordinator ended, or did not lead within a minute")
	return view
}
