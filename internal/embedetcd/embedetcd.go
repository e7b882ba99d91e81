// Package embedetcd runs an etcd of one member inside this process: for a development cluster, and for a coordinator on a single
// machine that has no etcd of its own. It is as durable as the directory it keeps its data in, and not highly available: while the
// process is away, so is etcd.
package embedetcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// Options say how to run it.
type Options struct {
	Dir    string // where its data is; made if it is missing
	Listen string // host:port for clients, without TLS or passwords; port 0 is a free one

	// Volatile has writes not wait for the disk. The data survives the process then, but not a crash of the machine.
	Volatile bool

	Logger hclog.Logger // for what etcd has to say of itself: errors, and warnings as debug; nil: nothing
}

// Server is a running etcd.
type Server struct {
	member *embed.Etcd
	lock   *fileutil.LockedFile

	life context.Context // until Close begins
	end  context.CancelFunc
}

// Start starts the server on what is in the directory, and returns when it answers. It fails at once if another process uses the
// directory or the address.
func Start(ctx context.Context, opts Options) (*Server, error) {
	if opts.Dir == "" {
		return nil, errors.New("etcd needs a directory")
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	if s.member, err = embed.StartEtcd(s.config(opts)); err != nil {
		s.end()
		lock.Close()
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-s.member.Server.ReadyNotify():
		return s, nil
	case err = <-s.member.Err():
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.Close()
	return nil, fmt.Errorf("start etcd: %w", err)
}

// lockDir keeps a second process away, for which etcd itself would wait without end.
func lockDir(dir string) (*fileutil.LockedFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("etcd's directory: %w", err)
	}
	lock, err := fileutil.TryLockFile(filepath.Join(dir, "lock"), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("etcd's directory %s is in use by another process", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("etcd's directory: %w", err)
	}
	return lock, nil
}

func (s *Server) config(opts Options) *embed.Config {
	clients := []url.URL{{Scheme: "http", Host: opts.Listen}}
	cfg := embed.NewConfig()
	cfg.Name = "muster"
	cfg.Dir = filepath.Join(opts.Dir, "etcd")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = clients, clients
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}} // a lone member has no peers, but must listen
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.EnableGRPCGateway = false
	cfg.UnsafeNoFsync = opts.Volatile
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(s.untilClosed)}
	// Every report of a worker is a revision: without this the data would grow for ever.
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, "10m"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(newCore(opts.Logger, s.life)))
	return cfg
}

// Endpoint is where clients connect.
func (s *Server) Endpoint() string { return s.member.Clients[0].Addr().String() }

// Wait blocks until ctx ends, and then returns nil, or until the server ends by itself, which is an error.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.member.Err():
		return fmt.Errorf("etcd failed: %w", err)
	case <-s.member.Server.StopNotify():
		return errors.New("etcd stopped by itself")
	}
}

// Close ends the server, and what clients are watching. Requests that are under way have some seconds to finish.
func (s *Server) Close() {
	s.end()
	s.member.Close()
	s.lock.Close()
}
