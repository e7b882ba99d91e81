package app

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/internal/embedetcd"
)

// etcdStart is how long the embedded etcd has to come up with what is in its directory.
const etcdStart = time.Minute

// startEtcd starts the coordinator's own etcd if it is to have one, and makes it the one that it uses. Otherwise it returns nil.
func startEtcd(cli *config.Coordinator, log hclog.Logger) (*embedetcd.Server, error) {
	if cli.EmbeddedEtcd.Dir == "" {
		return nil, nil
	}
	if given := cli.Etcd.Given(); given != "" {
		return nil, fmt.Errorf("MUSTER_EMBED_ETCD and %s exclude each other: either this process has an etcd of its own, or it uses another", given)
	}
	ctx, cancel := context.WithTimeout(context.Background(), etcdStart)
	defer cancel()
	server, err := embedetcd.Start(ctx, embedetcd.Options{Dir: cli.EmbeddedEtcd.Dir, Listen: cli.EmbeddedEtcd.Address, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("MUSTER_EMBED_ETCD: %w", err)
	}
	cli.Endpoints = []string{server.Endpoint()}
	log.Info("embedded etcd runs in this process: a single node, not highly available", "directory", cli.EmbeddedEtcd.Dir, "listen", server.Endpoint())
	return server, nil
}

// beside is run, which ends with an error if the embedded etcd does meanwhile.
func beside(server *embedetcd.Server, run func(context.Context) error) func(context.Context) error {
	if server == nil {
		return run
	}
	return func(ctx context.Context) error {
		ctx, ended := context.WithCancel(ctx)
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error {
			defer ended()
			return run(ctx)
		})
		g.Go(func() error { return server.Wait(ctx) })
		return g.Wait()
	}
}

func closeEtcd(server *embedetcd.Server) {
	if server != nil {
		server.Close()
	}
}
