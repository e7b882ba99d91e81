// Package redistest gives tests a Redis of their own on a free loopback port: a
// real redis-server where one is on PATH, miniredis elsewhere. It can be killed
// and started again on the same port (Server.Kill, Server.Start), and Proxy
// stands between a client and a server to lose connections at a chosen moment.
package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/muster-gateway/muster/internal/freeport"
)

const (
	binary       = "redis-server"
	startTimeout = time.Minute
	startTries   = 5 // a free port may be taken before the server has it
)

// Server is a Redis that ends with its test.
type Server struct {
	Addr string // 127.0.0.1:port, the same for the server's whole life
	Real bool   // a redis-server, not miniredis

	tb   testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	mini *miniredis.Miniredis
}

var sayOnce sync.Once

// Start starts a Redis with nothing in it that keeps nothing on disk. Further
// arguments are redis-server's own, for instance "--appendonly", "yes"; miniredis
// ignores them.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	if !haveServer() {
		sayOnce.Do(func() { tb.Logf("no %s on PATH: using miniredis", binary) })
		return StartMini(tb)
	}
	return start(tb, args)
}

// StartReal is Start for tests that need the real server. Without one the test
// is skipped.
func StartReal(tb testing.TB, args ...string) *Server {
	tb.Helper()
	if !haveServer() {
		tb.Skipf("not run: needs %s", binary)
	}
	return start(tb, args)
}

// StartMini starts a miniredis.
func StartMini(tb testing.TB) *Server {
	tb.Helper()
	mini := miniredis.RunT(tb)
	return &Server{Addr: mini.Addr(), tb: tb, mini: mini}
}

// URL is the server's address as a URL, database 0.
func (s *Server) URL() string { return "redis://" + s.Addr + "/0" }

func haveServer() bool {
	_, err := exec.LookPath(binary)
	return err == nil
}

func start(tb testing.TB, args []string) *Server {
	tb.Helper()
	s := &Server{Real: true, tb: tb, dir: tb.TempDir(), args: args}
	tb.Cleanup(s.Kill)
	var err error
	for range startTries {
		if s.Addr, err = freeport.Addr(); err != nil {
			break
		}
		if err = s.launch(); err == nil {
			return s
		}
	}
	tb.Fatalf("start %s: %v", binary, err)
	return nil
}

// Kill ends the server as a power cut would, with SIGKILL, and returns when it
// is gone. A server that is not running is left alone.
func (s *Server) Kill() {
	switch {
	case s.mini != nil:
		s.mini.Close()
	case s.cmd != nil:
		_ = s.cmd.Process.Kill() // fails only if it has ended
		<-s.done
		s.cmd = nil
	}
}

// Start starts a killed server again, on the same port and with the same
// arguments. It has what it had written to disk. Miniredis keeps everything.
func (s *Server) Start() {
	s.tb.Helper()
	err := error(nil)
	if s.mini != nil {
		err = s.mini.Restart()
	} else {
		err = s.launch()
	}
	if err != nil {
		s.tb.Fatalf("start redis again: %v", err)
	}
}

// launch runs redis-server and returns once it accepts connections.
func (s *Server) launch() error {
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "", "--appendonly", "no"}, s.args...)
	cmd := exec.Command(binary, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.done = cmd, make(chan struct{})
	ready := make(chan error, 1)
	go func() {
		ready <- waitReady(out)
		_, _ = io.Copy(io.Discard, out) // a full pipe would stop the server
		_ = cmd.Wait()                  // killed, as a rule
		close(s.done)
	}()
	select {
	case err = <-ready:
	case <-time.After(startTimeout):
		err = errors.New("it is not ready in time")
	}
	if err != nil {
		s.Kill()
	}
	return err
}

// waitReady reads the server's log until it says that it serves. What it said
// before it gave up is the error.
func waitReady(log io.Reader) error {
	var said []string
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Ready to accept connections") {
			return nil
		}
		said = append(said, lines.Text())
	}
	return fmt.Errorf("it ended: %s", strings.Join(said, "\n"))
}
