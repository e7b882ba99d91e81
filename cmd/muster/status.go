package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/muster-gateway/muster/internal/api"
)

type statusCmd struct {
	coordinatorFlags
	JSON  bool          `xor:"form" help:"The answer of /v1/cluster as it is."`
	Watch time.Duration `xor:"form" placeholder:"EVERY" help:"Show it again and again, so often, until Ctrl-C."`
}

// errTrouble is exit code 3 of muster status: it was told, and something is critical.
var errTrouble = errors.New("trouble")

// Run prints the cluster's state, what is wrong first. The exit code is 0 if nothing critical is wrong, 3 if it is, and 1 if nobody answers.
func (c *statusCmd) Run(ctx context.Context) error {
	if c.Watch != 0 {
		return c.watch(ctx)
	}
	cluster, err := api.Get(ctx, c.Coordinator)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		err = out.Encode(cluster)
	} else {
		err = printStatus(os.Stdout, cluster, colourful(os.Stdout))
	}
	if err == nil && slices.ContainsFunc(cluster.Troubles, func(t api.Trouble) bool { return t.Severity == api.Critical }) {
		err = errTrouble
	}
	return err
}

// watch shows it in place on a terminal, and one below the other elsewhere, until ctx ends.
func (c *statusCmd) watch(ctx context.Context) error {
	if c.Watch < 100*time.Millisecond {
		return badInput{fmt.Errorf("--watch %v: want at least 100ms", c.Watch)}
	}
	colours := colourful(os.Stdout)
	ticker := time.NewTicker(c.Watch)
	defer ticker.Stop()
	for {
		var page strings.Builder
		cluster, err := api.Get(ctx, c.Coordinator)
		if err == nil {
			err = printStatus(&page, cluster, colours)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			page.Reset()
			fmt.Fprintln(&page, err)
		}
		text := page.String()
		if colours {
			text = "\x1b[H\x1b[2J" + text // from the top of an empty screen
		}
		if _, err := io.WriteString(os.Stdout, text); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// paint is the colour of a severity, for those who see colours.
func paint(s api.Severity, text string, colours bool) string {
	if !colours {
		return text
	}
	return map[api.Severity]string{api.Critical: "\x1b[1;31m", api.Warning: "\x1b[33m", api.Note: "\x1b[36m"}[s] + text + "\x1b[0m"
}

// printStatus writes what is wrong first, with the cure.
func printStatus(w io.Writer, c *api.Cluster, colours bool) error {
	for _, t := range c.Troubles {
		fmt.Fprintf(w, "%s %s\n", paint(t.Severity, fmt.Sprintf("%-9s", strings.ToUpper(string(t.Severity))), colours), t.What)
		if t.Cure != "" {
			fmt.Fprintf(w, "%-9s to do: %s\n", "", t.Cure)
		}
	}
	if len(c.Troubles) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "cluster %s, generation %d: %d shards, %s\n", c.Cluster, c.Generation, c.Shards, shardsByState(c))
	if n := c.Next; n != nil {
		fmt.Fprintf(w, "generation %d with %d shards is being prepared: %d are ready\n", n.Generation, n.Shards, n.Ready)
	}
	if c.Finishing > 0 {
		fmt.Fprintf(w, "%d ranges of the former generation are being brought to their ends\n", c.Finishing)
	}
	printOrders(w, c)
	fmt.Fprintf(w, "leader %s, term %d; identify budget %d of %d, %d at a time, resets %s\n\n",
		c.Leader, c.Term, c.Budget.Remaining, c.Budget.Total, c.Budget.MaxConcurrency, c.Budget.ResetAt.Format(time.RFC3339))
	return printWorkers(w, c.Workers)
}

func printWorkers(w io.Writer, workers []api.Worker) error {
	zones := slices.ContainsFunc(workers, func(worker api.Worker) bool { return worker.Zone != "" })
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "worker\tshards\tevents/s\tKB/s\tbuffered KB\tresumes\tidentifies\tgaps\t"
	if zones {
		head = "worker\tzone\t" + strings.TrimPrefix(head, "worker\t")
	}
	fmt.Fprintln(table, head)
	for _, worker := range workers {
		name := worker.ID
		if worker.Draining {
			name += " (draining)"
		}
		if zones {
			name += "\t" + worker.Zone
		}
		fmt.Fprintf(table, "%s\t%d\t%.0f\t%.0f\t%d\t%d\t%d\t%d\t\n", name, worker.Shards, worker.EventsPerSecond,
			worker.BytesPerSecond/1024, worker.BufferedBytes/1024, worker.Resumes, worker.Identifies, worker.Gaps)
	}
	return table.Flush()
}

// printOrders writes what operators want, that is not done. Drains are among the troubles.
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
}

func since(at time.Time) string { return at.Format(time.RFC3339) }

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
