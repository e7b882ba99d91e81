//go:build unix

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"
)

// options are the benchmark's flags.
type options struct {
	workers, shards int
	concurrency     int
	replicas        int
	join, die       int
	rounds          int
	steady          time.Duration
	fsync           bool
	profiles        string
}

func main() {
	ok, err := playRole(os.Args[1:])
	if !ok {
		var o options
		if o, err = parse(os.Args[1:]); err == nil {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			err = bench(ctx, o, os.Stdout)
		}
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.IntVar(&o.workers, "workers", 1000, "workers to start with")
	flags.IntVar(&o.shards, "shards", 100_000, "shards of the bot")
	flags.IntVar(&o.concurrency, "max-concurrency", 64, "identify buckets")
	flags.IntVar(&o.replicas, "coordinators", 2, "replicas of the coordinator, of which one leads")
	flags.IntVar(&o.join, "join", 100, "workers that join later")
	flags.IntVar(&o.die, "die", 300, "workers that die at once")
	flags.IntVar(&o.rounds, "rounds", 6, "times that a shard of every bucket identifies while all the others wait; 0: none")
	flags.DurationVar(&o.steady, "steady", time.Minute, "how long to watch the cluster while nothing happens")
	flags.BoolVar(&o.fsync, "fsync", false, "have etcd wait for the disk, which then is what is measured")
	flags.StringVar(&o.profiles, "profiles", "", "directory for CPU profiles of etcd, the coordinators and the workers")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("argument %q: want flags only", flags.Arg(0))
	case o.workers < 1 || o.shards < 1 || o.concurrency < 1 || o.replicas < 1 || o.join < 0:
		err = errors.New("want at least one of workers, shards, buckets and coordinators")
	case o.die < 0 || o.die >= o.workers+o.join:
		err = fmt.Errorf("-die %d: want fewer than all workers", o.die)
	}
	return o, err
}

// bench plays every scene and prints the tables. In the first part no shard has had a session, in the second each has one.
func bench(ctx context.Context, o options, out io.Writer) error {
	began, results := time.Now(), &table{}
	for _, part := range []struct {
		sessions bool
		scenes   []func(*stage, context.Context) error
	}{
		{false, []func(*stage, context.Context) error{(*stage).assign, (*stage).identify}},
		{true, []func(*stage, context.Context) error{(*stage).assign, (*stage).stayPut, (*stage).joinMore, (*stage).loseLeader, (*stage).loseMany}},
	} {
		s := &stage{options: o, began: began, out: out, table: results, sessions: part.sessions}
		if err := s.play(ctx, part.scenes); err != nil {
			return err
		}
	}
	results.print(out)
	return nil
}

// load is how busy the machine has been in the last minute, where that can be known.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute
}
