//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"runtime/pprof"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/internal/child"
	"github.com/muster-gateway/muster/pkg/lease"
)

// startTimeout bounds the start of a process.
const startTimeout = time.Minute

// cluster is the name that all keys are below.
const cluster = "scale"

// role is what a process is told.
type role struct {
	Kind    string // etcd or coordinator
	Dir     string // etcd's
	Fsync   bool   // whether etcd waits for the disk
	ID      string // a coordinator's
	Etcd    string
	Discord string
	Profile string // file for a CPU profile; empty: none
}

// start starts this binary in another role. It serves its metrics at its address.
func start(r role) (*child.Server, error) {
	cmd, err := child.Command(context.Background(), r, "role")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Kind, err)
	}
	p, err := child.Serve(cmd, startTimeout)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Kind, err)
	}
	return p, nil
}

// playRole has the role that the benchmark gave this process; ok is false if it is the benchmark itself.
func playRole(args []string) (ok bool, err error) {
	if len(args) != 2 || args[0] != "role" {
		return false, nil
	}
	var r role
	if err := json.Unmarshal([]byte(args[1]), &r); err != nil {
		return true, err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { // it ends with its input, which is its parent's other end of a pipe
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	profiled, err := profile(r.Profile)
	if err != nil {
		return true, err
	}
	defer profiled()
	if r.Kind == "etcd" {
		return true, runEtcd(ctx, r, os.Stdout)
	}
	return true, runCoordinator(ctx, r, os.Stdout)
}

// profile writes a CPU profile until the function returned is called; to no file, none.
func profile(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	file, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}

// runEtcd is a single member.
func runEtcd(ctx context.Context, r role, out io.Writer) error {
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg := embed.NewConfig()
	cfg.Dir = r.Dir
	cfg.ListenClientUrls, cfg.ListenPeerUrls = anyPort, anyPort
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.UnsafeNoFsync = !r.Fsync
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "10m"
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		return fmt.Errorf("etcd: %w", err)
	case <-ctx.Done():
		return nil
	}
	fmt.Fprintln(out, server.Clients[0].Addr())
	<-ctx.Done()
	return nil
}

// runCoordinator is one replica.
func runCoordinator(ctx context.Context, r role, out io.Writer) error {
	log := hclog.New(&hclog.LoggerOptions{Name: r.ID, Level: hclog.Warn})
	store, err := lease.Open(lease.Config{Endpoints: []string{r.Etcd}, Cluster: cluster, Logger: log})
	if err != nil {
		return err
	}
	defer store.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	fmt.Fprintln(out, listener.Addr())
	err = coordinator.New(coordinator.Config{
		ID: r.ID, Cluster: cluster, Token: "simulated", APIURL: r.Discord, Store: store, Listener: listener, Logger: log,
	}).Run(ctx)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
