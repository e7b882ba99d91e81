package devstack

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a process of the stack.
type Process struct {
	Name string

	cmd  *exec.Cmd
	done chan struct{}

	mu       sync.Mutex
	expected bool // its end was asked for
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the process's exit code once it has ended; -1 if a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal. SIGKILL and SIGTERM mark the end that follows as wanted.
func (p *Process) Signal(signal syscall.Signal) error {
	if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
		p.mu.Lock()
		p.expected = true
		p.mu.Unlock()
	}
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Stop ends the process: SIGTERM, and SIGKILL after the given time.
func (p *Process) Stop(grace time.Duration) {
	_ = p.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-p.done:
		return
	case <-time.After(grace):
	}
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}

func (p *Process) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.expected
}

// spawner starts processes that do not outlive this one. Linux ties that to the thread that started them, so one thread
// starts all, and stays.
type spawner struct {
	start chan func()
	stop  chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{start: make(chan func()), stop: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		for {
			select {
			case f := <-s.start:
				f()
			case <-s.stop:
				return
			}
		}
	}()
	return s
}

// spawn starts a process in a group of its own, so that Ctrl-C in a terminal reaches only us, who then end it in order.
func (s *spawner) spawn(name, binary string, args, env []string, output io.Writer) (*Process, error) {
	p := &Process{Name: name, cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.SysProcAttr = ownGroup()
	started := make(chan error, 1)
	s.start <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p, nil
}

func (s *spawner) close() { close(s.stop) }
