package api

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func healthy() *Cluster {
	return &Cluster{
		Shards: 8, Leader: "one", Budget: Budget{Total: 1000, Remaining: 900, Reserve: 100, ResetAt: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)},
		Workers: []Worker{{ID: "a"}, {ID: "b"}},
		Ranges:  []Range{{First: 0, Last: 3, Owner: "a"}, {First: 4, Last: 7, Owner: "b"}},
	}
}

func TestTroubles(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Cluster)
		want   []string // severity and how it begins
	}{
		"none":       {func(*Cluster) {}, nil},
		"halted":     {func(c *Cluster) { c.Halted = []Halt{{Worker: "a", Reason: "4004"}} }, []string{"critical halted by a: 4004"}},
		"etcd away":  {func(c *Cluster) { c.AnsweredBy, c.UnreadSince = "two", &time.Time{} }, []string{"critical etcd has not answered two since"}},
		"no leader":  {func(c *Cluster) { c.Leader = "" }, []string{"critical there is no leader"}},
		"alarm":      {func(c *Cluster) { c.Alarm, c.Refused = "set it", []Refusal{{}} }, []string{"critical set it"}},
		"refused":    {func(c *Cluster) { c.Refused = []Refusal{{Reason: "4011"}} }, []string{"warning Discord refuses 8 shards: 4011"}},
		"no workers": {func(c *Cluster) { c.Workers, c.Ranges[0].Owner, c.Ranges[1].Owner = nil, "", "" }, []string{"critical no worker is there to run 8 shards"}},
		"all drain": {
			func(c *Cluster) { c.Ranges[0].Owner, c.Workers[0].Draining, c.Workers[1].Draining = "", true, true },
			[]string{"critical nobody runs 4 shards: all workers drain"},
		},
		"orphans":        {func(c *Cluster) { c.Ranges[0].Owner = "" }, []string{"warning nobody runs 4 of 8 shards"}},
		"redis for one":  {func(c *Cluster) { c.Workers[1].RedisFailing = true }, []string{"warning Redis takes no writes from b"}},
		"redis for all":  {func(c *Cluster) { c.Workers[0].RedisFailing, c.Workers[1].RedisFailing = true, true }, []string{"critical Redis takes no writes from any"}},
		"budget":         {func(c *Cluster) { c.Budget.Remaining = 100 }, []string{"warning the day's identify budget is down to its reserve, 100 of 1000"}},
		"shards wait":    {func(c *Cluster) { c.Budget.Remaining, c.Budget.Waiting = 100, 6 }, []string{"critical 6 shards cannot identify: 100 of the day's 1000"}},
		"down":           {func(c *Cluster) { c.Directives.Down = &Down{} }, []string{"critical down by order since"}},
		"not resharded":  {func(c *Cluster) { c.Directives.Reshard = &Reshard{Shards: 9, Refused: "no"} }, []string{"warning not resharded to 9 shards, as ordered: no"}},
		"resharding":     {func(c *Cluster) { c.Directives.Reshard = &Reshard{Shards: 9} }, nil},
		"drained":        {func(c *Cluster) { c.Directives.Drains = []Drain{{Worker: "a"}} }, []string{"note a is drained by order"}},
		"budget unknown": {func(c *Cluster) { c.Budget = Budget{} }, nil},
		"shards": {
			func(c *Cluster) {
				c.ShardStates = []Shard{{Shard: 1, Error: "no"}, {Shard: 2, Error: "other"}, {Shard: 3, Error: "no"}}
			},
			[]string{"warning shards 1, 3: no", "warning shard 2: other"},
		},
		"many shards": {
			func(c *Cluster) {
				for i := range 9 {
					c.ShardStates = append(c.ShardStates, Shard{Shard: i, Error: "no"})
				}
			},
			[]string{"warning shards 0, 1, 2, 3, 4 and 4 more: no"},
		},
		"many errors": {
			func(c *Cluster) {
				for i := range 7 {
					c.ShardStates = append(c.ShardStates, Shard{Shard: i, Error: fmt.Sprint(i)})
				}
			},
			[]string{"warning shard 0: 0", "warning shard 1", "warning shard 2", "warning shard 3", "warning shard 4", "warning 2 more kinds of errors"},
		},
		"the worst first": {
			func(c *Cluster) { c.Ranges[0].Owner, c.Leader = "", "" },
			[]string{"critical there is no leader", "warning nobody runs"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := healthy()
			c.change(v)
			got := Troubles(v)
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %q", got, c.want)
			}
			for i, trouble := range got {
				if text := string(trouble.Severity) + " " + trouble.What; !strings.HasPrefix(text, c.want[i]) {
					t.Errorf("trouble %d is %q, want %q", i, text, c.want[i])
				}
			}
		})
	}
}
