package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/clustertest"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// Replacing every worker, one after the other, while traffic flows, costs no IDENTIFY, and loses and repeats nothing.
func TestRollingRestart(t *testing.T) {
	shards, workers, buckets := *rollShards, *rollWorkers, *rollBuckets
	if buckets == 0 {
		buckets = shards // so that the test begins soon: what it is about needs no IDENTIFY
	}
	c := clustertest.Start(t, clustertest.Options{
		Sim:      discordsim.Options{Shards: shards, MaxConcurrency: buckets, SessionLimit: discordsim.SessionLimit{Total: 2 * shards}, Guilds: 2 * shards, Rate: 1000},
		Patience: 2*windows(shards, buckets) + 2*time.Minute,
	})
	defer c.Stop()
	c.Coordinate("one", 0)
	var ids []string
	for n := range workers {
		ids = append(ids, fmt.Sprintf("worker-%02d", n))
		c.Work(ids[n])
	}
	c.AwaitView("live shards", clustertest.Live(shards))
	if buckets < shards {
		firstStart(t, c, buckets)
	}

	delays := c.WatchDelays()
	resumes := c.Sim.Stats().Resumes
	began := time.Now()
	var took []time.Duration
	for _, id := range ids {
		start := time.Now()
		c.Stop(id)
		w := c.Work(id)
		c.Await(id+" to be ready again", func() bool { return w.Ready(t.Context()) })
		took = append(took, time.Since(start))
	}
	all := time.Since(began)
	c.AwaitView("live shards, evened out", func(v *api.Cluster) bool { return clustertest.Live(shards)(v) && even(v) })
	slices.Sort(took)
	t.Logf("all %d workers were replaced after %.1f s, each within %.2f s (median %.2f s); even again after %.1f s", workers, all.Seconds(),
		took[len(took)-1].Seconds(), took[len(took)/2].Seconds(), time.Since(began).Seconds())
	t.Logf("events late by %v", delays.Stop())

	account := c.Settle()
	t.Logf("%d ranges changed hands, %d sessions were resumed; %+v", c.Moves(), c.Sim.Stats().Resumes-resumes, account)
	if !account.Clean() {
		t.Errorf("the account is %+v", account)
	}
	// A gap marker may begin a stream, where a permit ran out unused on a busy machine; later ones would need another session.
	if account.Identifies != shards || account.Sessions != shards {
		t.Errorf("%d IDENTIFYs and %d sessions for %d shards", account.Identifies, account.Sessions, shards)
	}
}

// even reports whether no worker is further from the mean than balance leaves it: a tenth, or one range.
func even(v *api.Cluster) bool {
	least, most := v.Shards, 0
	for _, w := range v.Workers {
		least, most = min(least, w.Shards), max(most, w.Shards)
	}
	mean := float64(v.Shards) / float64(max(len(v.Workers), 1))
	slack := max(mean/10, float64(v.RangeSize))
	return float64(most) <= mean+slack && float64(least) >= mean-slack
}
