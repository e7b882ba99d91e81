package worker

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
)

// refusalsTold follows what is written of a worker's refusals from now on: a generation for each write.
func (c *cluster) refusalsTold(id string) func() []lease.Refusal {
	c.t.Helper()
	var mu sync.Mutex
	var told []lease.Refusal
	var state lease.Cluster
	read := make(chan struct{}) // closed when what was written before is
	begin := sync.OnceFunc(func() { close(read) })
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		_ = c.store.FollowCluster(ctx, func(u lease.Update) error { // it ends with ctx, without an error
			mu.Lock()
			defer mu.Unlock()
			defer begin()
			state.Apply(u)
			for _, r := range u.Puts {
				for of, refusal := range state.Refusals {
					if of.Worker == id && r.Key == "refused/"+of.String() && !u.Reset {
						told = append(told, refusal)
					}
				}
			}
			return nil
		})
	})
	c.t.Cleanup(func() { stop(); following.Wait() })
	select {
	case <-read:
	case <-time.After(patience):
		c.t.Fatal("the cluster is not read")
	}
	return func() []lease.Refusal {
		mu.Lock()
		defer mu.Unlock()
		return append([]lease.Refusal(nil), told...)
	}
}

// identified says that Discord took so many IDENTIFYs, and every shard has a socket.
func (c *cluster) identified(n int) {
	c.t.Helper()
	c.await(func() string {
		if c.sim.Stats().Identifies < n {
			return "all shards have identified"
		}
		for shard := range c.shards {
			if !c.attached(shard) {
				return "every shard has a socket"
			}
		}
		return ""
	})
}

// A shard is one of the plan of its range, though another is in force by the time it starts.
func TestShardIsOfThePlanOfItsRange(t *testing.T) {
	in := &incarnation{log: hclog.NewNullLogger(), plan: newPlanView()}
	in.plan.set(lease.Plan{Generation: 2, Shards: 8})
	if r := newRunner(&rangeRun{in: in, own: lease.Ownership{Range: one}, total: 4}, 3); r.total != 4 || r.id != (lease.ShardID{Generation: 1, Shard: 3}) {
		t.Errorf("it is shard %v of %d", r.id, r.total)
	}
}

// A worker tells once for each generation that its number is refused. Refused shards hold still, and the ranges of a former
// generation are released, closed first.
func TestRefusedNumberIsToldOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	told := c.refusalsTold("a")
	a := c.start("a", nil)
	c.identified(c.shards)
	for generation := 1; generation <= 2; generation++ {
		c.sim.Disconnect(discordsim.AllShards, discordsim.CloseShardingRequired)
		c.await(func() string {
			if c.out.count("shard stopped for good") < generation*c.shards || len(told()) < generation {
				return "the refusals are told"
			}
			return ""
		})
		if stats := c.sim.Stats(); stats.Sockets != 0 || stats.Identifies != generation*c.shards {
			t.Errorf("refused shards have %d sockets after %d IDENTIFYs", stats.Sockets, stats.Identifies)
		}
		plan := c.leader.await("a state", func(s *lease.Cluster) bool { return s.Plan.Generation == generation }).Plan
		plan.Generation++
		_, err := c.leader.term.SetPlan(t.Context(), plan)
		must(t, err)
		c.identified((generation + 1) * c.shards)
		state := c.leader.await("the former ranges released", func(s *lease.Cluster) bool {
			for id, r := range s.Ranges {
				if id.Generation == generation && r.Owner.Worker != "" {
					return false
				}
			}
			return true
		})
		if _, told := state.Refusals[lease.RefusalID{Worker: "a", Generation: generation}]; !told {
			t.Errorf("in generation %d the refusals are %+v", generation, state.Refusals)
		}
	}
	got := told()
	if len(got) != 2 {
		t.Fatalf("told were %+v", got)
	}
	for i, r := range got {
		if r.Generation != i+1 || r.Code != 4011 || r.At.IsZero() || !strings.Contains(r.Reason, "more than 2500 guilds") {
			t.Errorf("told was %+v", r)
		}
	}
	if _, body := a.get("/metrics"); !strings.Contains(body, `muster_worker_refusals_total{code="4011"} 8`) {
		t.Error("the metrics do not count 8 refusals")
	}
}
