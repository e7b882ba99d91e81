package worker

import (
	"strings"
	"testing"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// A worker that cannot write to Redis says so, also if it runs no shards, and takes it back when it can. Another, which can, does not.
func TestRedisFailingIsReported(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	proxy := redistest.NewProxy(t, c.redis)
	c.start("a", nil)
	c.awaitLive()
	b := c.start("b", c.behindProxy(proxy, stream.Options{}))
	reported := func(failing bool) {
		t.Helper()
		c.leader.await("b's status", func(state *lease.Cluster) bool {
			status, ok := state.Status["b"]
			return ok && status.RedisFailing == failing && !state.Status["a"].RedisFailing
		})
	}
	reported(false)
	proxy.Cut()
	reported(true)
	if _, err := b.ready(); err == nil || !strings.Contains(err.Error(), "redis takes no writes") {
		t.Errorf("ready: %v", err)
	}
	proxy.Turn(c.redis)
	reported(false)
	must(t, c.client.ConfigSet(t.Context(), "maxmemory", "1").Err())
	c.leader.await("both fail", func(state *lease.Cluster) bool { // a PING would be answered
		return state.Status["a"].RedisFailing && state.Status["b"].RedisFailing
	})
	must(t, c.client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	c.leader.await("both are well", func(state *lease.Cluster) bool {
		return !state.Status["a"].RedisFailing && !state.Status["b"].RedisFailing
	})
	c.expect(c.shards, 0)
}
