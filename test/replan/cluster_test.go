// Package replan is about other numbers of shards: such as Discord refuses, and such as operators want.
package replan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/clustertest"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/worker"
)

// patience bounds every wait of a test for something that has to come about.
const patience = 4 * time.Minute

// cluster is one whose Discord can be made to recommend another number of shards.
type cluster struct {
	*clustertest.Cluster
	t       *testing.T
	discord string       // base of the simulator's REST API
	advice  atomic.Int32 // how many shards Discord recommends; 0: what the simulator does
	asked   atomic.Int32 // how often it was asked
	intents shard.Intents
}

func newCluster(t *testing.T, o discordsim.Options) *cluster {
	t.Helper()
	c := &cluster{t: t, intents: shard.IntentsUnprivileged}
	c.Cluster = clustertest.Start(t, clustertest.Options{
		Sim: o, Patience: patience, Level: hclog.Debug,
		API: func(discord string) string {
			c.discord = discord
			front := httptest.NewServer(http.HandlerFunc(c.gatewayBot))
			t.Cleanup(front.Close)
			return front.URL
		},
		Worker: func(cfg *worker.Config) { cfg.Intents, cfg.Compression = c.intents, shard.CompressionZstd },
	})
	return c
}

// gatewayBot is the simulator's answer, but for the advice.
func (c *cluster) gatewayBot(w http.ResponseWriter, r *http.Request) {
	c.asked.Add(1)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, c.discord+"/gateway/bot", nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	req.Header = r.Header
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	answer := map[string]any{}
	if err = errors.Join(err, json.Unmarshal(body, &answer)); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if n := c.advice.Load(); n > 0 {
		answer["shards"] = n
	}
	_ = json.NewEncoder(w).Encode(answer) // who hung up does not hear us
}

// live says that so many shards are, of that generation.
func live(generation, shards int) func(*api.Cluster) bool {
	return func(v *api.Cluster) bool {
		n := 0
		for _, s := range v.ShardStates {
			if s.State == api.StateLive {
				n++
			}
		}
		return v.Generation == generation && v.Shards == shards && n == shards
	}
}

// settle stops the traffic, waits until all of it is in the streams of so many shards, and audits these. It returns all streams.
func (c *cluster) settle(shards int) (map[int][]devstack.Entry, devstack.Account) {
	c.t.Helper()
	c.Sim.Pause()
	c.AwaitWritten(shards)
	streams := c.Read(c.Streams())
	audited := maps.Clone(streams)
	maps.DeleteFunc(audited, func(n int, _ []devstack.Entry) bool { return n >= shards })
	sessions := slices.DeleteFunc(c.Sim.Sessions(), func(s discordsim.SessionLog) bool { return s.Shard >= shards })
	return streams, devstack.Audit(sessions, audited)
}

// expectNothingOf checks that etcd has nothing of a generation.
func (c *cluster) expectNothingOf(generation int) {
	c.t.Helper()
	for _, key := range c.keysOf(generation) {
		c.t.Errorf("%s is left", key)
	}
}

// anythingOf reports whether etcd has something of a generation.
func (c *cluster) anythingOf(generation int) bool { return len(c.keysOf(generation)) > 0 }

func (c *cluster) keysOf(generation int) (keys []string) {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Etcd.Endpoints(), DialTimeout: patience, Logger: zap.NewNop()})
	must(c.t, err)
	defer client.Close()
	resp, err := client.Get(c.t.Context(), "/muster/"+clustertest.Name+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	must(c.t, err)
	part := fmt.Sprintf("/%d/", generation)
	for _, kv := range resp.Kvs {
		if key := string(kv.Key); strings.Contains(key, part) {
			keys = append(keys, key)
		}
	}
	return keys
}

// expectWithinLimits checks that no IDENTIFY came too soon, and that Discord was annoyed by refused numbers at most.
func (c *cluster) expectWithinLimits() {
	c.t.Helper()
	for _, v := range c.Sim.Violations() {
		if v.Rule != discordsim.RuleBadIdentify {
			c.t.Errorf("violation: %+v", v)
		}
	}
}

var errSeen = errors.New("it is so")

// awaitState waits until etcd has what is wanted, and returns it.
func (c *cluster) awaitState(what string, wanted func(*lease.Cluster) bool) *lease.Cluster {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var state lease.Cluster
	err := c.OpenStore().FollowCluster(ctx, func(u lease.Update) error {
		if errs := state.Apply(u); len(errs) > 0 {
			return errors.Join(errs...)
		}
		if wanted(&state) {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		c.t.Fatalf("never came about: %s (%v); the cluster is %+v", what, err, state)
	}
	return &state
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
