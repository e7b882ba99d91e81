//go:build unix

package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// disgoShare is how many times fewer events disgo has, so that its runs do not take longer than the others'.
	disgoShare = 5
	// pacedRate is how many events a second each shard has in the runs for the latency, and pacedLimit bounds all of them together.
	pacedRate, pacedLimit = 1250, 20_000
)

// options are the benchmark's flags.
type options struct {
	rounds     int
	events     int
	shards     []int
	transports []string
	clients    []string
	pace       time.Duration // how long paced runs take
	profiles   string
}

// Main runs the benchmark, or the part of it that another process of it is, and returns the process's exit code: 2 for bad input.
func Main(args []string) int {
	ok, err := playRole(args)
	if !ok {
		o, bad := parse(args)
		switch {
		case errors.Is(bad, flag.ErrHelp):
			return 0
		case bad != nil:
			fmt.Fprintln(os.Stderr, "muster bench:", bad)
			return 2
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		err = bench(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "muster bench:", err)
		return 1
	}
	return 0
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("muster bench", flag.ContinueOnError)
	rounds := flags.String("rounds", "3", "rounds, in each of which every client runs once in every setting")
	events := flags.Int("events", 200_000, "events of a run, all shards together (disgo: a fifth)")
	shards := flags.String("shards", "1,16,64", "numbers of shards")
	transports := flags.String("transport", "zstd,zlib", "transport compressions")
	names := flags.String("clients", "muster,ideal,disgo,raw", "who runs; ratios are to ideal")
	flags.DurationVar(&o.pace, "paced", 1500*time.Millisecond, "how long the runs for the latency take, 0 for none")
	flags.StringVar(&o.profiles, "profiles", "", "directory for a CPU profile of every run")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("argument %q: want flags only", flags.Arg(0))
	}
	if o.rounds, err = strconv.Atoi(*rounds); err != nil || o.rounds < 1 {
		return o, fmt.Errorf("-rounds %q: want a positive number", *rounds)
	}
	for s := range strings.SplitSeq(*shards, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || *events/n < disgoShare {
			return o, fmt.Errorf("-shards %q: want positive numbers with commas, and events for each", *shards)
		}
		o.shards = append(o.shards, n)
	}
	for t := range strings.SplitSeq(*transports, ",") {
		if t != "zstd" && t != "zlib" {
			return o, fmt.Errorf("-transport %q: want zstd, zlib or both with a comma", *transports)
		}
		o.transports = append(o.transports, t+"-stream")
	}
	for name := range strings.SplitSeq(*names, ",") {
		if clients[name] == nil {
			return o, fmt.Errorf("-clients %q: want some of muster, ideal, disgo and raw with commas", *names)
		}
		o.clients = append(o.clients, name)
	}
	o.events = *events
	return o, nil
}

// saturated returns the runs of a round in which events come as fast as they are taken. Each round begins with another client.
func (o options) saturated(round int) (runs []spec) {
	for _, transport := range o.transports {
		for _, shards := range o.shards {
			for i := range o.clients {
				s := spec{Client: o.clients[(i+round)%len(o.clients)], Shards: shards, Transport: transport, Events: o.events / shards}
				switch {
				case s.Client == "disgo":
					s.Events /= disgoShare
				case s.Client == "raw" && transport != o.transports[0]:
					continue // it knows no transport
				}
				runs = append(runs, s)
			}
		}
	}
	return runs
}

// paced returns the runs of a round in which events come as they do from Discord, one by one. What they cost hardly depends on the
// transport, so there is one.
func (o options) paced(round int) (runs []spec) {
	for _, s := range o.saturated(round) {
		s.Rate = min(pacedRate, pacedLimit/s.Shards)
		s.Events = int(o.pace.Seconds() * float64(s.Rate))
		if s.Client != "raw" && s.Transport == o.transports[0] && s.Events > 0 {
			runs = append(runs, s)
		}
	}
	return runs
}

// bench runs it all and prints the tables.
func bench(ctx context.Context, o options) error {
	b := &benchmark{options: o, began: time.Now(), table: newTable()}
	fmt.Printf("%s, %s, load %s; %s\n", runtime.Version(), count(runtime.NumCPU(), "core"), load(), count(o.rounds, "round"))
	redis, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer redis.stop()
	b.say("preparing the gateway's streams")
	gateway, err := startGateway(gatewayConfig{Events: o.longest(), Redis: redis.addr})
	if err != nil {
		return err
	}
	defer gateway.Stop()
	b.redis, b.gateway = redis, gateway
	for round := range o.rounds {
		for _, s := range slices.Concat(o.saturated(round), o.paced(round)) {
			if err := b.run(ctx, round, s); err != nil {
				return err
			}
		}
	}
	b.table.print(os.Stdout)
	fmt.Printf("%s in all, load now %s\n", time.Since(b.began).Round(time.Second), load())
	return nil
}

// longest is how many events of a shard the gateway has to prepare, by transport.
func (o options) longest() map[string]int {
	longest := map[string]int{}
	for _, s := range slices.Concat(o.saturated(0), o.paced(0)) {
		longest[s.Transport] = max(longest[s.Transport], s.Events)
	}
	return longest
}

// benchmark is a run of all.
type benchmark struct {
	options
	began   time.Time
	redis   *redisServer
	gateway *gatewayProcess
	runs    int
	table   *table
}

func (b *benchmark) run(ctx context.Context, round int, s spec) error {
	b.runs++
	s.Run, s.Gateway, s.Redis = b.runs, b.gateway.Addr, b.redis.addr
	if b.profiles != "" {
		s.Profile = filepath.Join(b.profiles, fmt.Sprintf("%s-%d-%s-%d-%d.pprof", s.Client, s.Shards, s.Transport, s.Rate, round))
	}
	if err := b.redis.clear(ctx); err != nil {
		return err
	}
	r, err := runProcess(ctx, s)
	if err != nil {
		return err
	}
	if err := b.redis.verify(ctx, s); err != nil {
		return err
	}
	m := measured{result: r}
	if s.Rate > 0 {
		if m.latencies, err = b.gateway.latencies(ctx, s.Run); err != nil {
			return err
		}
	}
	b.table.add(round, s, m)
	b.say("round %d, %s: %s", round+1, s, m)
	return nil
}

// say prints a line of progress.
func (b *benchmark) say(format string, args ...any) {
	fmt.Printf("%5.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
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
