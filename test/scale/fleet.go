//go:build unix

package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// A session, as long as Discord's are.
const (
	sessionID = "0123456789abcdef0123456789abcdef"
	resumeURL = "wss://gateway-us-east1-b.discord.gg"
)

// fleet is all the simulated workers.
type fleet struct {
	etcd   string
	shards int

	identified atomic.Int64
	errors     atomic.Int64
	first      atomic.Pointer[error]

	started int
	alive   []*member // in the order they were started
}

type member struct {
	kill context.CancelFunc
	done chan error
}

// start starts n workers at once.
func (f *fleet) start(ctx context.Context, n int) {
	for range n {
		f.started++
		id := fmt.Sprintf("worker-%04d", f.started)
		ctx, kill := context.WithCancel(ctx)
		m := &member{kill: kill, done: make(chan error, 1)}
		go func() { m.done <- runWorker(ctx, f, id) }()
		f.alive = append(f.alive, m)
	}
}

// kill kills the n oldest workers at once.
func (f *fleet) kill(n int) error {
	dying := f.alive[:n]
	f.alive = f.alive[n:]
	for _, m := range dying {
		m.kill()
	}
	for _, m := range dying {
		if err := <-m.done; err != nil {
			return err
		}
	}
	return nil
}

// failed takes note of a request that etcd did not do.
func (f *fleet) failed(err error) {
	f.errors.Add(1)
	f.first.CompareAndSwap(nil, &err)
}

// cpuTime is what this process, so all workers, used so far.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
