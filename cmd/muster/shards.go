package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/muster-gateway/muster/internal/api"
)

type shardsCmd struct {
	Coordinator string `env:"MUSTER_COORDINATOR_URL" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Address of any coordinator replica (${default})."`
	State       string `placeholder:"STATE" help:"Only shards in this state, as live or resuming; with - before it (--state=-live), only those in any other."`
	Worker      string `placeholder:"ID" help:"Only shards of this worker."`
	JSON        bool   `help:"One JSON object a line."`
}

// Run prints the shards that are asked for. Its exit code is 1 if there are none.
func (c *shardsCmd) Run(ctx context.Context) error {
	cluster, err := api.Get(ctx, c.Coordinator)
	if err != nil {
		return err
	}
	shards := slices.DeleteFunc(cluster.ShardStates, func(s api.Shard) bool { return !c.wants(s) })
	if err := c.print(os.Stdout, shards); err != nil {
		return err
	}
	if len(shards) == 0 {
		fmt.Fprintln(os.Stderr, "no such shard")
		return errUnclean
	}
	return nil
}

func (c *shardsCmd) wants(s api.Shard) bool {
	if c.Worker != "" && s.Worker != c.Worker {
		return false
	}
	if len(c.State) > 1 && c.State[0] == '-' {
		return s.State != c.State[1:]
	}
	return c.State == "" || s.State == c.State
}

func (c *shardsCmd) print(w io.Writer, shards []api.Shard) error {
	if c.JSON {
		out := json.NewEncoder(w)
		for _, s := range shards {
			if err := out.Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(shards) > 0 {
		fmt.Fprintln(table, "shard\tstate\tworker\tepoch\tlatency ms\t")
	}
	for _, s := range shards {
		fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%.1f\t%s\n", s.Shard, s.State, s.Worker, s.Epoch, s.LatencyMS, s.Error)
	}
	return table.Flush()
}
