package fleet

import (
	"fmt"
	"testing"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/clustertest"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// A cluster of three workers becomes one of thirty, and then of one: few ranges move that need not, and no session is lost.
func TestThreeThirtyOne(t *testing.T) {
	const shards = 96 // as many ranges
	c := clustertest.Start(t, clustertest.Options{
		Sim: discordsim.Options{Shards: shards, MaxConcurrency: shards, SessionLimit: discordsim.SessionLimit{Total: 2 * shards}, Guilds: 2 * shards, Rate: 500},
	})
	defer c.Stop()
	c.Coordinate("one", 0)
	id := func(n int) string { return fmt.Sprintf("worker-%02d", n) }
	for n := range 3 {
		c.Work(id(n))
	}
	first := c.AwaitView("live shards", clustertest.Live(shards))

	for n := 3; n < 30; n++ {
		c.Work(id(n))
	}
	c.AwaitView("thirty workers, evened out", func(v *api.Cluster) bool { return len(v.Workers) == 30 && clustertest.Live(shards)(v) && even(v) })
	most := (shards + 29) / 30
	least := 0
	for _, w := range first.Workers {
		least += max(0, w.Shards-most)
	}
	expectMoves(t, c, "3 to 30", 0, least)

	before := c.Moves()
	stays := 0
	for _, w := range c.View().Workers {
		if w.ID == id(0) {
			stays = w.Shards
		}
	}
	var leaving []string
	for n := 1; n < 30; n++ {
		leaving = append(leaving, id(n))
	}
	c.Stop(leaving...)
	c.AwaitView("everything live on the last", func(v *api.Cluster) bool { return len(v.Workers) == 1 && clustertest.Live(shards)(v) })
	expectMoves(t, c, "30 to 1", before, shards-stays)

	if account := c.Settle(); !account.Clean() || account.Identifies != shards {
		t.Errorf("the account is %+v", account)
	}
}

// expectMoves allows for twice the moves that are needed: workers do not all come and go at one moment, least of all on a busy machine, and
// what the first to go hands over to the next is handed over again. One that moved ranges to and fro would be far above.
func expectMoves(t *testing.T, c *clustertest.Cluster, what string, before, least int) {
	t.Helper()
	moves := c.Moves() - before
	t.Logf("%s: %d moves, of which %d were needed", what, moves, least)
	if moves < least || moves > 2*least {
		t.Errorf("%s: %d moves, want %d or few more", what, moves, least)
	}
}
