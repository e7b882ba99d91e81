//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/internal/child"
	"github.com/muster-gateway/muster/pkg/lease"
)

// stage is everything that runs.
type stage struct {
	options
	began    time.Time
	out      io.Writer
	dir      string
	etcd     *child.Server
	replicas map[string]*child.Server // coordinators
	fleet    *fleet
	observer *observer
	table    *table
	sessions bool     // every shard has one to begin with
	unwind   []func() // last first
}

// play opens the stage, plays the scenes on it, one after the other, and clears it.
func (s *stage) play(ctx context.Context, scenes []func(*stage, context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.say("%s, %d cores, load %s", runtime.Version(), runtime.NumCPU(), load())
	defer s.close()
	if err := s.open(ctx); err != nil {
		return err
	}
	for _, scene := range scenes {
		if err := scene(s, ctx); err != nil {
			return err
		}
		s.complain()
	}
	s.say("load %s", load())
	return nil
}

func (s *stage) open(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "muster-scale-"); err != nil {
		return err
	}
	s.onClose(func() { _ = os.RemoveAll(s.dir) })
	if s.etcd, err = start(role{Kind: "etcd", Dir: filepath.Join(s.dir, "etcd"), Fsync: s.fsync, Profile: s.profile("etcd")}); err != nil {
		return err
	}
	s.onClose(s.etcd.Stop)
	discord := startDiscord(s.shards, s.concurrency)
	s.onClose(discord.Close)
	s.replicas = map[string]*child.Server{}
	for n := range s.options.replicas {
		id := fmt.Sprintf("coordinator-%d", n+1)
		p, err := start(role{Kind: "coordinator", ID: id, Etcd: s.etcd.Addr, Discord: discord.URL, Profile: s.profile(id)})
		if err != nil {
			return err
		}
		s.replicas[id] = p
		s.onClose(p.Stop)
	}
	if s.observer, err = observe(ctx, s.etcd.Addr); err != nil {
		return err
	}
	s.onClose(s.observer.close)
	s.fleet = &fleet{etcd: s.etcd.Addr, shards: s.shards}
	s.onClose(func() { _ = s.fleet.kill(len(s.fleet.alive)) })
	profiled, err := profile(s.profile("workers"))
	if err != nil {
		return err
	}
	s.onClose(profiled)
	if s.sessions {
		if err := s.seed(ctx); err != nil {
			return err
		}
	}
	_, err = s.await(ctx, "a leader and a plan", func(c count) bool { return c.leader != "" && c.plan.Generation != 0 })
	return err
}

func (s *stage) profile(of string) string {
	switch {
	case s.profiles == "":
		return ""
	case s.sessions:
		return filepath.Join(s.profiles, of+"-with-sessions.pprof")
	default:
		return filepath.Join(s.profiles, of+".pprof")
	}
}

func (s *stage) onClose(f func()) { s.unwind = append(s.unwind, f) }

func (s *stage) close() {
	for _, f := range slices.Backward(s.unwind) {
		f()
	}
}

// leader is the replica that leads; if none does for now, the one that did.
func (s *stage) leader() *child.Server { return s.replicas[s.observer.count().leader] }

// say prints a line of progress.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// complain says what etcd did not do.
func (s *stage) complain() {
	if first := s.fleet.first.Swap(nil); first != nil {
		s.say("  %d requests failed, the first: %v", s.fleet.errors.Swap(0), *first)
	}
}

// sessionsPerTxn is as many as etcd takes at once.
const sessionsPerTxn = 100

// seed writes a session record for every shard.
func (s *stage) seed(ctx context.Context) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.etcd.Addr}, DialTimeout: startTimeout, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	value, err := json.Marshal(lease.Session{Epoch: 1, ID: sessionID, ResumeURL: resumeURL, Shards: s.shards})
	if err != nil {
		return err
	}
	for first := 0; first < s.shards; first += sessionsPerTxn {
		var puts []clientv3.Op
		for shard := first; shard < min(first+sessionsPerTxn, s.shards); shard++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("/muster/%s/sess/1/%d", cluster, shard), string(value)))
		}
		if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
			return fmt.Errorf("write sessions: %w", err)
		}
	}
	return nil
}
