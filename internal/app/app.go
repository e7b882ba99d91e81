// Package app is what the binaries do: it reads a process's configuration, opens what it needs, and runs it until a signal
// says to stop. Both functions return the process's exit code: 0 after a signal, 1 after a failure, 2 for bad input.
package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/internal/embedetcd"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
	"github.com/muster-gateway/muster/worker"
)

// Coordinator runs a coordinator replica.
func Coordinator(args []string) int {
	const name = "coordinator"
	var cli config.Coordinator
	if code, ok := config.Parse(name, "A coordinator replica of a muster cluster: decides who runs what.", &cli, args); !ok {
		return code
	}
	if cli.Probe != "" {
		return exitOf(name, CheckHTTP(cli.Listen, "/"+cli.Probe))
	}
	cfg := coordinator.Config{
		ID: cli.ID, Cluster: cli.Cluster.Name, APIURL: cli.APIURL, Shards: cli.Shards, ReshardAt: cli.ReshardAt, Logger: cli.Logger(name, os.Stderr),
	}
	err := checkCoordinator(&cfg, cli)
	if err == nil {
		cfg.Token, err = cli.ReadToken()
	}
	if err == nil {
		cfg.Listener, err = listen(cli.Listen)
	}
	var own *embedetcd.Server // last: it is the one that would have to be ended again
	if err == nil {
		own, err = startEtcd(&cli, cfg.Logger.Named("etcd"))
	}
	if err == nil {
		defer closeEtcd(own)
		cfg.Store, err = cli.Etcd.Open(cfg.Cluster, cfg.Logger.Named("etcd"))
	}
	if err != nil {
		return config.Fail(name, err)
	}
	defer cfg.Store.Close()
	return runUntilSignal(cfg.Logger, cfg.Listener, beside(own, coordinator.New(cfg).Run))
}

func checkCoordinator(cfg *coordinator.Config, cli config.Coordinator) (err error) {
	if cfg.AdminToken, err = cli.ReadAdminToken(); err != nil {
		return err
	}
	if cfg.Shards < 0 || cfg.Shards > lease.MaxShards {
		return fmt.Errorf("MUSTER_SHARDS %d: want 1 to %d, or 0 for what Discord recommends", cfg.Shards, lease.MaxShards)
	}
	if cfg.ReshardAt < 0 || cfg.ReshardAt > 100 {
		return fmt.Errorf("MUSTER_RESHARD_AT %d: want a percentage from 1 to 100, or 0 for never", cfg.ReshardAt)
	}
	if cfg.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("host name: %w", err)
		}
		cfg.ID = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	return nil
}

// Worker runs a worker.
func Worker(args []string) int {
	const name = "worker"
	var cli config.Worker
	if code, ok := config.Parse(name, "A worker of a muster cluster: runs shards and appends their events to Redis Streams.", &cli, args); !ok {
		return code
	}
	if cli.Probe != "" {
		return exitOf(name, CheckHTTP(cli.Listen, "/"+cli.Probe))
	}
	cfg := worker.Config{
		Cluster: cli.Cluster.Name, LeaseTTL: cli.LeaseTTL, StreamMaxLen: cli.MaxLen, StreamMaxAge: cli.MaxAge, Logger: cli.Logger(name, os.Stderr),
	}
	stream.LogClientTo(cfg.Logger.Named("redis"))
	err := checkWorker(&cfg, cli)
	if err == nil {
		cfg.Redis, err = stream.Open(string(cli.Redis.URL))
	}
	if err == nil {
		cfg.Store, err = cli.Etcd.Open(cfg.Cluster, cfg.Logger.Named("etcd"))
	}
	if err == nil {
		cfg.Listener, err = listen(cli.Listen)
	}
	if err != nil {
		return config.Fail(name, err)
	}
	defer cfg.Store.Close()
	defer cfg.Redis.Close()
	return runUntilSignal(cfg.Logger, cfg.Listener, worker.New(cfg).Run)
}

// maxCapacity keeps one worker's typing error from taking everything.
const maxCapacity = 1000

// minMaxAge keeps somebody who forgot the unit from dropping what nobody has read yet.
const minMaxAge = time.Minute

func checkWorker(cfg *worker.Config, cli config.Worker) (err error) {
	if cfg.Token, err = cli.ReadToken(); err != nil {
		return err
	}
	if cfg.AdminToken, err = cli.ReadAdminToken(); err != nil {
		return err
	}
	if err := checkIdentify(cfg, cli); err != nil {
		return err
	}
	cfg.Strict = cli.EtcdAway == "strict"
	if cfg.LeaseTTL < lease.MinTTL {
		return fmt.Errorf("MUSTER_LEASE_TTL %v: want at least %v", cfg.LeaseTTL, lease.MinTTL)
	}
	if cfg.Events, err = worker.ParseFilter(cli.Events); err != nil {
		return fmt.Errorf("MUSTER_EVENTS %w", err)
	}
	if cfg.StreamMaxLen < 1 {
		return fmt.Errorf("MUSTER_STREAM_MAXLEN %d: want a positive number", cfg.StreamMaxLen)
	}
	if cfg.StreamMaxAge != 0 && cfg.StreamMaxAge < minMaxAge {
		return fmt.Errorf("MUSTER_STREAM_MAXAGE %v: want at least %v, or 0 for any age", cfg.StreamMaxAge, minMaxAge)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	id := cli.ID
	if id == "" {
		id = host
	}
	if err := lease.ValidName(id); err != nil {
		return fmt.Errorf("MUSTER_WORKER_ID: %w", err)
	}
	if cfg.StateDir = cli.StateDir; cfg.StateDir == "" {
		cfg.StateDir = filepath.Join(os.TempDir(), fmt.Sprintf("muster-%d", os.Getuid()))
	}
	cfg.Worker = lease.Worker{
		ID: id, UUID: uuid.NewString(), Host: host, Zone: cli.Zone, Capacity: cli.Capacity, MaxShards: cli.MaxShards, Started: time.Now().UTC(),
	}
	if err := checkPlace(cfg.Worker); err != nil {
		return err
	}
	cfg.Logger = cfg.Logger.With("worker", id)
	return nil
}

// checkPlace checks what the planner goes by.
func checkPlace(w lease.Worker) error {
	if w.Zone != "" {
		if err := lease.ValidName(w.Zone); err != nil {
			return fmt.Errorf("MUSTER_ZONE: %w", err)
		}
	}
	if w.Capacity < 1 || w.Capacity > maxCapacity {
		return fmt.Errorf("MUSTER_CAPACITY %d: want 1 to %d", w.Capacity, maxCapacity)
	}
	if w.MaxShards < 0 {
		return fmt.Errorf("MUSTER_MAX_SHARDS %d: want a positive number, or 0 for any", w.MaxShards)
	}
	return nil
}

// checkIdentify checks what the shards say to Discord.
func checkIdentify(cfg *worker.Config, cli config.Worker) (err error) {
	if cfg.Intents, err = shard.ParseIntents(cli.Intents); err != nil {
		return fmt.Errorf("DISCORD_INTENTS: %w", err)
	}
	if cfg.Compression, err = shard.ParseCompression(cli.Compression); err != nil {
		return fmt.Errorf("MUSTER_COMPRESSION: %w", err)
	}
	if cfg.LargeThreshold = cli.LargeThreshold; cfg.LargeThreshold != 0 && (cfg.LargeThreshold < 50 || cfg.LargeThreshold > 250) {
		return fmt.Errorf("DISCORD_LARGE_THRESHOLD %d: want 50 to 250", cfg.LargeThreshold)
	}
	if cfg.Capabilities = cli.Capabilities; cfg.Capabilities < 0 {
		return fmt.Errorf("DISCORD_CAPABILITIES %d: want none below 0", cfg.Capabilities)
	}
	if cli.Presence == "" {
		return nil
	}
	presence, err := shard.ParsePresence(cli.Presence)
	if err != nil {
		return fmt.Errorf("DISCORD_PRESENCE: %w", err)
	}
	cfg.Presence = &presence
	// Whether IDENTIFY with it is of a size that Discord accepts, only a session knows.
	_, err = shard.New(shard.Config{
		ID: shard.ID{Index: math.MaxInt32 - 1, Total: math.MaxInt32}, Token: cfg.Token, Intents: cfg.Intents, Presence: cfg.Presence,
		GatewayURL: "wss://gateway.invalid", Deliver: func(context.Context, shard.Event) error { return nil },
	})
	if err != nil {
		return fmt.Errorf("DISCORD_PRESENCE: %w", err)
	}
	return nil
}

func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("MUSTER_LISTEN %s: %w", address, err)
	}
	return listener, nil
}

// runUntilSignal runs until SIGTERM or SIGINT; a second one ends the process at once.
func runUntilSignal(log hclog.Logger, listener net.Listener, run func(context.Context) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	log.Info("started", "version", config.Version(), "listen", listener.Addr(), "pid", os.Getpid())
	err := run(ctx)
	switch {
	case errors.Is(err, coordinator.ErrTokenRefused), errors.As(err, new(*lease.DeniedError)), errors.As(err, new(*stream.DeniedError)):
		log.Error("stopped", "error", err)
		return 2
	case err != nil:
		log.Error("stopped", "error", err)
		return 1
	default:
		log.Info("stopped")
		return 0
	}
}
