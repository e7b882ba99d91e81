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

// A first start takes little longer than Discord's windows make it: from the first IDENTIFY to the last, as they arrive.
func TestColdStart(t *testing.T) {
	shards, buckets := *coldShards, *coldBuckets
	if shards == 0 {
		t.Skip("not run: -cold.shards says how many, and it takes five seconds for each of a bucket")
	}
	windows := (shards+buckets-1)/buckets - 1
	ideal := time.Duration(windows) * 5 * time.Second
	c := clustertest.Start(t, clustertest.Options{
		Sim:      discordsim.Options{Shards: shards, MaxConcurrency: buckets, SessionLimit: discordsim.SessionLimit{Total: 2 * shards}, Guilds: shards},
		Patience: 2*ideal + time.Minute,
	})
	defer c.Stop()
	began := time.Now()
	c.Coordinate("one", 0)
	for n := range 4 {
		c.Work(fmt.Sprintf("worker-%d", n))
	}
	c.AwaitView("live shards", clustertest.Live(shards))
	var identified []time.Time
	for _, session := range c.Sim.Sessions() {
		identified = append(identified, session.Identified)
	}
	slices.SortFunc(identified, time.Time.Compare)
	took := identified[len(identified)-1].Sub(identified[0])
	t.Logf("%d shards, %d at a time: the first after %.1f s, all after %.2f s more, %.4f of the ideal %v", shards, buckets,
		identified[0].Sub(began).Seconds(), took.Seconds(), took.Seconds()/ideal.Seconds(), ideal)
	if took > time.Duration(mostOverIdeal*float64(ideal)) {
		t.Errorf("took %v, want at most %v of %v", took, mostOverIdeal, ideal)
	}
	if v := c.Sim.Violations(); len(v) > 0 {
		t.Errorf("Discord's limits were broken: %+v", v)
	}
	if n := c.Sim.Stats().Identifies; n != shards {
		t.Errorf("%d IDENTIFYs for %d shards", n, shards)
	}
}
