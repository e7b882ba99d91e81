package worker

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// get asks the worker's HTTP server.
func (p *process) get(path string) (int, string) {
	p.c.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(p.url + path)
	must(p.c.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(p.c.t, err)
	return resp.StatusCode, string(body)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.redis.Kill()
	a := c.start("a", nil)
	c.await(func() string {
		if c.out.count("redis unreachable") == 0 {
			return "the worker says that it has no redis"
		}
		return ""
	})
	if code, body := a.get("/readyz"); code != 503 || !strings.Contains(body, "not registered") {
		t.Errorf("readyz before redis answers: %d %s", code, body)
	}
	if code, _ := a.get("/healthz"); code != 200 {
		t.Errorf("healthz before redis answers: %d", code)
	}
	c.redis.Start()
	c.awaitLive()
	if code, body := a.get("/readyz"); code != 200 || body != "ok\n" {
		t.Errorf("readyz: %d %s", code, body)
	}

	c.sim.Beat(discordsim.AllShards)
	c.await(func() string {
		if _, body := a.get("/metrics"); !strings.Contains(body, `muster_worker_heartbeat_latency_seconds{over_shards="max"}`) {
			return "heartbeats are answered"
		}
		return ""
	})
	c.settled()
	c.await(func() string { // Redis has an entry a moment before its worker knows
		if _, body := a.get("/metrics"); !strings.Contains(body, "muster_worker_buffered_bytes 0") {
			return "nothing is buffered"
		}
		return ""
	})
	code, body := a.get("/metrics")
	for _, want := range []string{
		"muster_worker_identifies_total 4", "muster_worker_connects_total 4", "muster_worker_resumes_total 0",
		"muster_worker_gaps_total 0", "muster_worker_interruptions_total 0", "muster_worker_batches_refused_total 0",
		"muster_worker_buffered_bytes 0", "muster_worker_ready 1", "muster_worker_events_received_total",
		`muster_worker_shards{state="live"} 4`, `muster_worker_shards{state="failed"} 0`,
		`muster_worker_heartbeat_latency_average_seconds{over_shards="mean"}`,
	} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("metrics: %d, without %q", code, want)
		}
	}
	if strings.Contains(body, token) {
		t.Error("the token is in the metrics")
	}
	for n := range c.shards {
		if strings.Contains(body, c.record(n).ID) {
			t.Error("a session id is in the metrics")
		}
	}
	c.expect(c.shards, 0)
}

// Of two runs of a shard, of which the one of an earlier generation is being closed, the later counts.
func TestShardOfTwoGenerations(t *testing.T) {
	b := newBoard()
	for _, generation := range []int{2, 1, 3, 2} {
		b.add(&runner{id: lease.ShardID{Generation: generation, Shard: 5}})
	}
	for range 10 { // the order of a map's elements varies
		if states, _, _ := b.shards(lease.Plan{}, time.Now()); len(states) != 1 || states[5].Generation != 3 {
			t.Fatalf("states are %+v", states)
		}
	}
}

// A shard that stays without a session makes the worker not ready; one that only reconnects does not.
func TestDeafShard(t *testing.T) {
	b := newBoard()
	r := &runner{}
	now := time.Now()
	b.add(r)
	if _, _, deaf := b.shards(lease.Plan{}, now.Add(deafAfter)); deaf != 0 {
		t.Error("it was not given its time")
	}
	if _, _, deaf := b.shards(lease.Plan{}, now.Add(deafAfter+time.Minute)); deaf != 1 {
		t.Error("it is not noticed")
	}
	b.remove(r)
	if _, _, deaf := b.shards(lease.Plan{}, now.Add(deafAfter+time.Minute)); deaf != 0 {
		t.Error("a shard that is gone is no longer ours to worry about")
	}
}

// A worker's server shows; it changes nothing, and profiles are for who has the admin token.
func TestHTTPIsForReading(t *testing.T) {
	redis, err := stream.Open("redis://127.0.0.1:1")
	must(t, err)
	t.Cleanup(func() { _ = redis.Close() })
	h := New(Config{Redis: redis, Logger: hclog.NewNullLogger(), AdminToken: "an-admin-token-of-some-length"}).handler()
	ask := func(method, path, authorization string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		r.Header.Set("Origin", "http://evil.example")
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
			r.Header.Del("Origin")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/heap"} {
		profile := strings.HasPrefix(path, "/debug/")
		if w := ask("GET", path, ""); (w.Code == 401) != profile || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d, %v", path, w.Code, w.Header())
		}
		if w := ask("GET", path, "Bearer an-admin-token-of-some-length"); w.Code != 200 && path != "/readyz" {
			t.Errorf("%s with the token: %d", path, w.Code)
		}
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			if w := ask(method, path, "Bearer an-admin-token-of-some-length"); w.Code != 405 || w.Header().Get("Access-Control-Allow-Methods") != "" {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
}
