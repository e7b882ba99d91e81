package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/muster-gateway/muster/internal/api"
)

type statusCmd struct {
	coordinatorFlags
	JSON bool `help:"The answer of /v1/cluster as it is."`
}

// Run prints the cluster's state once.
func (c *statusCmd) Run(ctx context.Context) error {
	cluster, err := api.Get(ctx, c.Coordinator)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(cluster)
	}
	return printStatus(os.Stdout, cluster)
}

// printStatus writes what is wrong first.
func printStatus(w io.Writer, c *api.Cluster) error {
	printTrouble(w, c)
	printOrders(w, c)
	fmt.Fprintf(w, "cluster %s, generation %d: %d shards, %s\n", c.Cluster, c.Generation, c.Shards, shardsByState(c))
	if n := c.Next; n != nil {
		fmt.Fprintf(w, "generation %d with %d shards is being prepared: %d are ready\n", n.Generation, n.Shards, n.Ready)
	}
	if c.Finishing > 0 {
		fmt.Fprintf(w, "%d ranges of the former generation are being brought to their ends\n", c.Finishing)
	}
	fmt.Fprintf(w, "leader %s, term %d; identify budget %d of %d, %d at a time, resets %s\n\n",
		c.Leader, c.Term, c.Budget.Remaining, c.Budget.Total, c.Budget.MaxConcurrency, c.Budget.ResetAt.Format(time.RFC3339))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "worker\tshards\tevents/s\tKB/s\tbuffered KB\tresumes\tidentifies\tgaps\t")
	for _, worker := range c.Workers {
		name := worker.ID
		if worker.Draining {
			name += " (draining)"
		}
		fmt.Fprintf(table, "%s\t%d\t%.0f\t%.0f\t%d\t%d\t%d\t%d\t\n", name, worker.Shards, worker.EventsPerSecond,
			worker.BytesPerSecond/1024, worker.BufferedBytes/1024, worker.Resumes, worker.Identifies, worker.Gaps)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range c.ShardStates {
		if s.Error != "" {
			fmt.Fprintf(w, "shard %d is %s: %s\n", s.Shard, s.State, s.Error)
		}
	}
	return nil
}

// printOrders writes what operators want, that is not done.
func printOrders(w io.Writer, c *api.Cluster) {
	if r := c.Directives.Reshard; r != nil && r.Refused == "" {
		what := fmt.Sprintf("to change to %d shards", r.Shards)
		if r.Abort {
			what = "not " + what + " after all"
		}
		fmt.Fprintf(w, "ordered %s: %s\n", since(r.At), what)
	}
	if r := c.Directives.Rebalance; r != nil {
		fmt.Fprintf(w, "ordered %s: to even out load\n", since(r.At))
	}
	for _, d := range c.Directives.Drains {
		fmt.Fprintf(w, "ordered %s: to drain %s; muster drain --cancel %s takes it back\n", since(d.At), d.Worker, d.Worker)
	}
}

func since(at time.Time) string { return at.Format(time.RFC3339) }

// printTrouble writes what stops the whole cluster, and what has to be done.
func printTrouble(w io.Writer, c *api.Cluster) {
	if d := c.Directives.Down; d != nil {
		how := "sessions are kept for as long as Discord does"
		if d.EndSessions {
			how = "sessions are ended"
		}
		fmt.Fprintf(w, "DOWN by order %s, %s; muster up ends it\n", since(d.At), how)
	}
	for _, halt := range c.Halted {
		fmt.Fprintf(w, "HALTED by %s: %s; then restart %s, and the others go on\n", halt.Worker, halt.Reason, halt.Worker)
	}
	for _, r := range c.Refused {
		fmt.Fprintf(w, "REFUSED to %s: %s\n", r.Worker, r.Reason)
	}
	switch {
	case c.Alarm != "":
		fmt.Fprintf(w, "ALARM: %s\n", c.Alarm)
	case len(c.Refused) > 0 && c.Leader != "":
		fmt.Fprintln(w, "the leader asks Discord for another number of shards: nothing has to be done")
	}
	if r := c.Directives.Reshard; r != nil && r.Refused != "" {
		fmt.Fprintf(w, "NOT RESHARDED to %d shards: %s\n", r.Shards, r.Refused)
	}
	if c.Leader == "" {
		fmt.Fprintln(w, "NO LEADER: nothing is repaired and no shard can identify; start a coordinator")
	}
}

// shardsByState is, for instance, "15 live, 1 resuming".
func shardsByState(c *api.Cluster) string {
	counts := map[string]int{}
	for _, s := range c.ShardStates {
		counts[s.State]++
	}
	text := ""
	for i, state := range slices.Sorted(maps.Keys(counts)) {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d %s", counts[state], state)
	}
	return text
}
