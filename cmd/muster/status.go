package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
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
		err = printStatus(os.Stdout, cluster, screenOf(os.Stdout))
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
	ticker := time.NewTicker(c.Watch)
	defer ticker.Stop()
	for {
		var page strings.Builder
		cluster, err := api.Get(ctx, c.Coordinator)
		if err == nil {
			err = printStatus(&page, cluster, screenOf(os.Stdout)) // it may be another size by now
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			page.Reset()
			fmt.Fprintln(&page, err)
		}
		text := page.String()
		if colourful(os.Stdout) {
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

// colours of severities, as parameters of an escape sequence.
var colours = map[api.Severity]string{api.Critical: "1;31", api.Warning: "33", api.Note: "36"}

// indent is where texts begin: behind the words that say what they are.
const indent = 10

// printStatus writes what is wrong first, with the cure; then how the cluster is.
func printStatus(w io.Writer, c *api.Cluster, s screen) error {
	say := func(colour, what, text string) {
		fmt.Fprintf(w, "%s%s\n", s.paint(colour, fmt.Sprintf("%-*s", indent, what)), s.wrap(indent, text))
	}
	for _, t := range c.Troubles {
		say(colours[t.Severity], strings.ToUpper(string(t.Severity)), t.What)
		switch {
		case t.Cure == "":
		case t.Severity == api.Note:
			say("", "", t.Cure)
		default:
			say("", "", "to do: "+t.Cure)
		}
	}
	if len(c.Troubles) == 0 {
		say("32", "OK", "nothing is wrong")
	}
	fmt.Fprintln(w)
	say("1", "cluster", fmt.Sprintf("%s, generation %d", c.Cluster, c.Generation))
	say("1", "leader", fmt.Sprintf("%s, term %d", cmp.Or(c.Leader, "none"), c.Term))
	say("1", "shards", fmt.Sprintf("%d: %s", c.Shards, shardsByState(c)))
	if n := c.Next; n != nil {
		say("1", "next", fmt.Sprintf("generation %d with %d shards is being prepared: %d are ready", n.Generation, n.Shards, n.Ready))
	}
	if c.Finishing > 0 {
		say("1", "former", plural(c.Finishing, "range")+" of the former generation are being brought to their ends")
	}
	for _, order := range orders(c) {
		say("1", "ordered", order)
	}
	say("1", "budget", fmt.Sprintf("%d of %d IDENTIFYs left, %d at a time; reset in %s (%s)",
		c.Budget.Remaining, c.Budget.Total, c.Budget.MaxConcurrency, untilReset(c), c.Budget.ResetAt.UTC().Format("15:04 MST")))
	fmt.Fprintln(w)
	return printWorkers(w, c.Workers, s)
}

// untilReset is how long it is, by the coordinator's clock, until Discord resets the budget.
func untilReset(c *api.Cluster) string {
	left := c.Budget.ResetAt.Sub(c.At).Round(time.Minute)
	if left <= 0 {
		return "less than a minute"
	}
	return strings.TrimSuffix(left.String(), "0s")
}

// orders is what operators want, that is not done. Drains are among the troubles.
func orders(c *api.Cluster) (all []string) {
	if r := c.Directives.Reshard; r != nil && r.Refused == "" {
		what := fmt.Sprintf("to change to %d shards", r.Shards)
		if r.Abort {
			what = "not " + what + " after all"
		}
		all = append(all, what+", since "+r.At.Format(time.RFC3339))
	}
	if r := c.Directives.Rebalance; r != nil {
		all = append(all, "to even out load, since "+r.At.Format(time.RFC3339))
	}
	return all
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
