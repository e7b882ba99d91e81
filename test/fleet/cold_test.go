package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/clustertest"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// mostOverIdeal is how much longer than Discord's windows make it a first start may take.
const mostOverIdeal = 1.05

// A first start takes little longer than Discord's windows make it.
func TestColdStart(t *testing.T) {
	shards, buckets := *coldShards, *coldBuckets
	if shards == 0 {
		t.Skip("not run: -cold.shards says how many, and it takes five seconds for each of a bucket")
	}
	c := clustertest.Start(t, clustertest.Options{
		Sim:      discordsim.Options{Shards: shards, MaxConcurrency: buckets, SessionLimit: discordsim.SessionLimit{Total: 2 * shards}, Guilds: shards},
		Patience: 2*windows(shards, buckets) + time.Minute,
	})
	defer c.Stop()
	c.Coordinate("one", 0)
	for n := range 4 {
		c.Work(fmt.Sprintf("worker-%d", n))
	}
	c.AwaitView("live shards", clustertest.Live(shards))
	if took, ideal := firstStart(t, c, buckets); took > time.Duration(mostOverIdeal*float64(ideal)) {
		t.Errorf("took %v, want at most %v of %v", took, mostOverIdeal, ideal)
	}
	if v := c.Sim.Violations(); len(v) > 0 {
		t.Errorf("Discord's limits were broken: %+v", v)
	}
	if n := c.Sim.Stats().Identifies; n != shards {
		t.Errorf("%d IDENTIFYs for %d shards", n, shards)
	}
}

// windows is how long Discord makes shards take from the first IDENTIFY to the last: each bucket has one in five seconds.
func windows(shards, buckets int) time.Duration {
	return time.Duration((shards+buckets-1)/buckets-1) * 5 * time.Second
}

// firstStart tells how long all shards took from the first IDENTIFY to the last, as they arrived.
func firstStart(t *testing.T, c *clustertest.Cluster, buckets int) (took, ideal time.Duration) {
	t.Helper()
	var identified []time.Time
	for _, session := range c.Sim.Sessions() {
		identified = append(identified, session.Identified)
	}
	slices.SortFunc(identified, time.Time.Compare)
	took, ideal = identified[len(identified)-1].Sub(identified[0]), windows(len(identified), buckets)
	t.Logf("%d shards, %d at a time, identified in %.2f s, where Discord's windows take %.0f s: %.4f", len(identified), buckets,
		took.Seconds(), ideal.Seconds(), took.Seconds()/ideal.Seconds())
	return took, ideal
}
