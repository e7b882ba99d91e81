package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

type devCmd struct {
	LogLevel       string        `env:"MUSTER_LOG_LEVEL" default:"warn" enum:"trace,debug,info,warn,error" placeholder:"LEVEL" help:"What the processes log: trace, debug, info, warn or error (${default})."`
	Workers        int           `default:"3" placeholder:"N" help:"Worker processes (${default})."`
	Shards         int           `default:"0" placeholder:"N" help:"Shards; 0: 16 of the simulated Discord, or as many as Discord itself recommends (${default})."`
	MaxConcurrency int           `default:"16" placeholder:"N" help:"Identify buckets of the simulated Discord (${default})."`
	Guilds         int           `default:"200" placeholder:"N" help:"Guilds of the simulated bot (${default})."`
	Rate           float64       `default:"200" placeholder:"N" help:"Events per second of the simulated Discord (${default})."`
	Duration       time.Duration `placeholder:"DURATION" help:"End by itself after this time of traffic, and give an account (never)."`
	KillEvery      time.Duration `placeholder:"DURATION" help:"Kill a random worker this often, and start another (never)."`
	Listen         string        `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where the coordinator serves its page (${default})."`
	LeaseTTL       string        `env:"MUSTER_LEASE_TTL" default:"5s" placeholder:"DURATION" help:"How long a dead worker is believed alive (${default})."`
	RedisURL       config.Secret `name:"redis-url" env:"REDIS_URL" placeholder:"URL" help:"Redis to use instead of one of its own."`
}

// defaultShards is how many shards the simulated bot has.
const defaultShards = 16

// settleTimeout is how long after the traffic's end everything must be in the streams: a dead worker's TTL, its shards' RESUMEs, and time
// to spare.
const settleTimeout = 60 * time.Second

// Run runs the cluster until ctx ends or the duration is over.
func (c *devCmd) Run(ctx context.Context) error {
	if err := c.check(); err != nil {
		return badInput{err}
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's file: %w", err)
	}
	fmt.Println("starting etcd, Redis, Discord, a coordinator and", c.Workers, "workers…")
	stack, err := devstack.Start(ctx, c.options(binary))
	if err != nil {
		return err
	}
	defer stack.Close()
	c.introduce(stack)
	err = c.watch(ctx, stack)
	if err == nil && stack.Sim != nil && c.Duration > 0 && ctx.Err() == nil {
		err = account(ctx, stack)
	}
	fmt.Println("stopping everything…")
	return err
}

func (c *devCmd) check() error {
	switch {
	case c.Workers < 1:
		return fmt.Errorf("--workers %d: want at least 1", c.Workers)
	case c.Shards < 0:
		return fmt.Errorf("--shards %d: want a positive number, or 0", c.Shards)
	case c.Rate < 0:
		return fmt.Errorf("--rate %v: want 0 or more", c.Rate)
	case c.Duration < 0 || c.KillEvery < 0:
		return errors.New("--duration and --kill-every must not be negative")
	default:
		return nil
	}
}

func (c *devCmd) options(binary string) devstack.Options {
	opts := devstack.Options{
		Binary: binary, Workers: c.Workers, Shards: c.Shards, Listen: c.Listen, RedisURL: string(c.RedisURL),
		LeaseTTL: c.LeaseTTL, LogLevel: c.LogLevel, Output: os.Stderr,
	}
	if os.Getenv("DISCORD_TOKEN") != "" || os.Getenv("DISCORD_TOKEN_FILE") != "" {
		return opts // Discord itself
	}
	if opts.Shards == 0 {
		opts.Shards = defaultShards
	}
	opts.Sim = &discordsim.Options{
		Shards: opts.Shards, MaxConcurrency: c.MaxConcurrency, Guilds: c.Guilds, Rate: c.Rate,
		Privileged: discordsim.PrivilegedIntents, Record: c.Duration > 0,
	}
	if os.Getenv("DISCORD_INTENTS") == "" {
		opts.Env = append(opts.Env, "DISCORD_INTENTS=all")
	}
	if c.Duration > 0 { // the account needs every entry
		opts.MaxLen = 10_000 + int64(10*c.Rate*c.Duration.Seconds())
	}
	return opts
}

func (c *devCmd) introduce(s *devstack.Stack) {
	fmt.Println("  page     ", s.PageURL)
	fmt.Println("  etcd     ", s.EtcdURL)
	redis := s.RedisURL
	if c.RedisURL != "" { // there may be a password in it
		redis = "as REDIS_URL says"
	}
	fmt.Printf("  Redis     %s, %s; cluster name %q\n", redis, s.Redis, s.Cluster)
	if s.Sim != nil {
		fmt.Println("  Discord  ", s.SimURL, "(simulated)")
	} else {
		fmt.Println("  Discord   itself, since DISCORD_TOKEN is set")
	}
	fmt.Println("Ctrl-C ends everything.")
}

// watch prints a line a second until ctx ends, the duration is over, or a process fails.
func (c *devCmd) watch(ctx context.Context, stack *devstack.Stack) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var over, kill <-chan time.Time
	if c.Duration > 0 {
		over = time.After(c.Duration)
	}
	if c.KillEvery > 0 {
		ticker := time.NewTicker(c.KillEvery)
		defer ticker.Stop()
		kill = ticker.C
	}
	meter := newMeter(stack)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-over:
			return nil
		case err := <-stack.Failed():
			return err
		case <-kill:
			if err := killOne(stack); err != nil {
				return err
			}
		case <-second.C:
			fmt.Println(meter.line(ctx))
		}
	}
}

// killOne kills a random worker, as a crash would, and starts another.
func killOne(stack *devstack.Stack) error {
	workers := stack.Workers()
	if len(workers) > 0 {
		ids := slices.Sorted(maps.Keys(workers))
		id := ids[rand.N(len(ids))]
		if err := workers[id].Signal(syscall.SIGKILL); err != nil {
			return err
		}
		fmt.Println("      killed", id)
	}
	p, err := stack.StartWorker()
	if err != nil {
		return err
	}
	fmt.Println("      started", p.Name)
	return nil
}

// account compares what Discord sent with what is in the streams, and prints it.
func account(ctx context.Context, stack *devstack.Stack) error {
	fmt.Println("traffic stopped; waiting for the streams to have it all…")
	settle, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	if err := stack.Settle(settle); err != nil {
		fmt.Println("  ", err)
	}
	a, err := stack.Audit(ctx)
	if err != nil {
		return err
	}
	fmt.Printf(`
account of the simulated Discord against the streams
  events sent           %8d   in %d sessions
  entries found         %8d   and %d gap markers, which excuse %d events
  lost                  %8d
  duplicated            %8d
  out of order          %8d
  altered               %8d
  violations            %8d   in %d IDENTIFYs, %d RESUMEs and all else that was sent
`, a.Sent, a.Sessions, a.Found, a.Gaps, a.Excused, a.Lost, a.Duplicated, a.OutOfOrder, a.Altered, a.Violations, a.Identifies, a.Resumes)
	printViolations(os.Stdout, stack.Sim.Violations())
	if !a.Clean() {
		fmt.Println("NOT CLEAN")
		return errUnclean
	}
	fmt.Println("clean: every event is there exactly once and in order")
	return nil
}
