// Package child runs this binary again in another role, for benchmarks whose parts must not share a process.
package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Command is this binary with these arguments and, as the last, its configuration as JSON. Its standard error is ours.
func Command(ctx context.Context, cfg any, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append(args, string(arg))...)
	cmd.Stderr = os.Stderr
	return cmd, nil
}

// Server is a child that serves at Addr, as it says in the first line of its output, until its input ends.
type Server struct {
	Addr string

	cmd *exec.Cmd
	in  io.Closer
}

// Serve starts a command, and returns when it serves. One that does not within that time is killed.
func Serve(cmd *exec.Cmd, within time.Duration) (*Server, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{cmd: cmd, in: in}
	late := time.AfterFunc(within, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.Stop()
		return nil, errors.New("it ended before it served")
	}
	s.Addr = strings.TrimSpace(line)
	return s, nil
}

// Stop has it end in order, and waits for that.
func (s *Server) Stop() {
	_ = s.in.Close()
	_ = s.cmd.Wait()
}

// Kill ends it as a crash would.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
