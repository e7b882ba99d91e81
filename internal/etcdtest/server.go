package etcdtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// startTimeout bounds the wait for the member to elect itself.
const startTimeout = 30 * time.Second

// Server is a member of etcd, as a rule the only one. It is safe for concurrent use.
type Server struct {
	dir    string
	change []func(*embed.Config)
	front  *Link

	mu     sync.Mutex
	member *embed.Etcd // nil while stopped
	links  []*Link
}

// Start starts a server that lives as long as the test, with changes to its configuration if there are any.
func Start(tb testing.TB, change ...func(*embed.Config)) *Server {
	tb.Helper()
	s, err := Open(tb.TempDir(), change...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// Open starts a server with its data below dir, for a TestMain whose tests share it. Close ends it.
func Open(dir string, change ...func(*embed.Config)) (*Server, error) {
	s := &Server{dir: dir, change: change}
	var err error
	if s.front, err = s.link(s.address, nil); err == nil {
		err = s.launch()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Endpoints is where clients connect. It stays the same across Stop and Restart.
func (s *Server) Endpoints() []string { return s.front.Endpoints() }

// Link makes another way to the server, for a client whose network is to fail while that of others does not. It lives
// as long as the server.
func (s *Server) Link(tb testing.TB) *Link {
	tb.Helper()
	l, err := s.link(s.address, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// Stop ends the member and keeps its data. Clients lose their connections and get no new ones. A stopped server stays
// stopped.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.member == nil {
		return
	}
	member := s.member
	s.member = nil
	for _, l := range s.links {
		l.drop() // while a watch is open the member's graceful stop would wait for seconds
	}
	member.Close()
}

// Restart starts the member again with the data it had, and stops it first if it runs. Leases live on for at least
// their full TTL. It panics if the member does not start.
func (s *Server) Restart() {
	s.Stop()
	if err := s.launch(); err != nil {
		panic(err)
	}
}

// Close ends the server and its links for good.
func (s *Server) Close() {
	s.Stop()
	for _, l := range s.links {
		l.close()
	}
}

func (s *Server) link(target func() string, route route) (*Link, error) {
	l, err := newLink(target, route)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links = append(s.links, l)
	return l, nil
}

// address is where the member listens for clients, empty while it is stopped.
func (s *Server) address() string {
	if member := s.running(); member != nil {
		return member.Clients[0].Addr().String()
	}
	return ""
}

// peerAddress is where the member listens for other members.
func (s *Server) peerAddress() string {
	if member := s.running(); member != nil {
		return member.Peers[0].Addr().String()
	}
	return ""
}

// running is the member, nil while it is stopped.
func (s *Server) running() *embed.Etcd {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.member
}

// launch starts the member and waits until it serves clients.
func (s *Server) launch() error {
	if err := s.begin(); err != nil {
		return err
	}
	return s.ready()
}

// begin starts the member, which then still has to find a leader.
func (s *Server) begin() error {
	member, err := embed.StartEtcd(s.config())
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member = member
	return nil
}

func (s *Server) ready() error {
	member := s.running()
	select {
	case <-member.Server.ReadyNotify():
		return nil
	case err := <-member.Err():
		return fmt.Errorf("start etcd: %w", err)
	case <-time.After(startTimeout):
		return fmt.Errorf("start etcd: no leader within %v", startTimeout)
	}
}

// lastWords logs nothing but what etcd ends the whole process with, which would otherwise end without a word.
func lastWords() *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zapcore.DPanicLevel))
}

// config is that of a member whose data need not survive the machine. The system chooses the ports anew at each
// start, so that none can be taken by somebody else between two.
func (s *Server) config() *embed.Config {
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	c := embed.NewConfig()
	c.Dir = filepath.Join(s.dir, "etcd")
	c.ListenClientUrls, c.AdvertiseClientUrls = anyPort, anyPort
	c.ListenPeerUrls, c.AdvertisePeerUrls = anyPort, anyPort
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lastWords())
	c.EnableGRPCGateway = false
	c.UnsafeNoFsync = true
	c.TickMs, c.ElectionMs = 10, 100 // the lone member elects itself in a tenth of a second
	for _, change := range s.change {
		change(c)
	}
	return c
}
