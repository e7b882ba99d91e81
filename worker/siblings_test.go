//go:build linux

package worker

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/hostlock"
	"github.com/muster-gateway/muster/pkg/lease"
)

// onHost makes a worker one of those that keep their locks in dir.
func onHost(dir string) func(*Worker) { return func(w *Worker) { w.cfg.StateDir = dir } }

// former is a registration of a worker that serves nobody, with a lock which it holds in dir.
func (c *cluster) former(id, dir string) (*lease.Registration, *hostlock.Lock) {
	c.t.Helper()
	lock, err := hostlock.Take(filepath.Join(dir, c.name), id)
	must(c.t, err)
	c.t.Cleanup(lock.Release)
	return c.lives(lease.Worker{ID: id, UUID: "former", Lock: string(lock.ID())}), lock
}

// lives is a registration that is renewed until the test ends, or it is.
func (c *cluster) lives(w lease.Worker) *lease.Registration {
	c.t.Helper()
	reg, err := c.store.Register(c.t.Context(), w, 4*lease.MinTTL)
	must(c.t, err)
	var kept sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	kept.Go(func() { _ = reg.Keep(ctx) })
	c.t.Cleanup(func() { stop(); kept.Wait() })
	return reg
}

// dies lets a lock be as the kernel leaves it when its process is dead: the file is there, and nobody holds it.
func dies(t *testing.T, lock *hostlock.Lock, dir, id string) {
	t.Helper()
	file := filepath.Join(dir, id+".lock")
	must(t, os.Link(file, file+".kept"))
	lock.Release()
	must(t, os.Rename(file+".kept", file))
}

// A worker that is started again where it was killed does not wait for its predecessor's registration to expire.
func TestRestartedWorkerBuriesItsPredecessor(t *testing.T) {
	t.Parallel()
	c, dir := newCluster(t, options{}), t.TempDir()
	_, lock := c.former("a", dir)
	dies(t, lock, filepath.Join(dir, c.name), "a")
	c.start("a", onHost(dir))
	c.awaitLive()
	c.expect(c.shards, 0)
}

// A process that lives keeps its id, whatever another does that has the same: what that one may not do is end it.
func TestLivePredecessorIsNotBuried(t *testing.T) {
	for name, place := range map[string]func(t *testing.T, c *cluster, dir string){
		"it holds its lock": func(t *testing.T, c *cluster, dir string) { c.former("a", dir) },
		"its lock is in another directory": func(t *testing.T, c *cluster, _ string) {
			c.former("a", t.TempDir())
		},
		"its lock's file was made anew": func(t *testing.T, c *cluster, dir string) {
			c.former("a", dir)
			must(t, os.Remove(filepath.Join(dir, c.name, "a.lock")))
		},
		"it has no lock": func(t *testing.T, c *cluster, _ string) {
			c.lives(lease.Worker{ID: "a", UUID: "former"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, dir := newCluster(t, options{}), t.TempDir()
			c.leader.setIdle(true)
			place(t, c, dir)
			before := c.leader.await("it is there", func(s *lease.Cluster) bool { return s.Workers["a"].Incarnation != 0 })
			second := c.start("a", onHost(dir))
			select {
			case <-second.done:
			case <-time.After(patience):
				t.Fatal("it waits for ever")
			}
			if second.err == nil || !strings.Contains(second.err.Error(), "MUSTER_WORKER_ID") {
				t.Errorf("got %v", second.err)
			}
			after, _ := c.leader.look()
			if after.Workers["a"].Ref() != before.Workers["a"].Ref() {
				t.Errorf("the worker was %+v and is %+v", before.Workers["a"], after.Workers["a"])
			}
		})
	}
}

// A worker whose process dies is noticed by another on its host at once, and not when its registration expires. One that lives is not, nor
// one of which it cannot be known.
func TestSiblingIsBuried(t *testing.T) {
	t.Parallel()
	c, dir := newCluster(t, options{}), t.TempDir()
	locks := filepath.Join(dir, c.name)
	c.leader.setIdle(true)
	c.former("alive", dir)
	c.former("made-anew", dir)
	must(t, os.Remove(filepath.Join(locks, "made-anew.lock")))
	must(t, os.WriteFile(filepath.Join(locks, "made-anew.lock"), nil, 0o600))
	_, err := c.store.Register(t.Context(), lease.Worker{ID: "lockless"}, time.Hour)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(locks, "lockless.lock"), nil, 0o600))
	_, lock := c.former("z", dir) // the last in a look at all of them
	c.start("b", onHost(dir))
	c.leader.await("b is there", func(s *lease.Cluster) bool { return s.Workers["b"].Incarnation != 0 })
	dies(t, lock, locks, "z")
	after := c.leader.await("the dead one is buried", func(s *lease.Cluster) bool { return s.Workers["z"].Incarnation == 0 })
	for _, id := range []string{"alive", "made-anew", "lockless", "b"} {
		if after.Workers[id].Incarnation == 0 {
			t.Errorf("worker %s is buried alive", id)
		}
	}
}

// Between the look at a lock that was free and the reading of the record the worker may have been started again: the record is then
// that of a process that lives.
func TestSiblingThatIsBack(t *testing.T) {
	t.Parallel()
	c, dir := newCluster(t, options{}), t.TempDir()
	c.leader.setIdle(true)
	reg, _ := c.former("a", dir)
	w := &Worker{cfg: Config{StateDir: dir, Cluster: c.name, Store: c.store}, log: hclog.NewNullLogger()}
	if !w.burySibling(t.Context(), "a") {
		t.Error("not settled")
	}
	if state := c.leader.await("a is there", func(s *lease.Cluster) bool { return s.Workers["a"].Incarnation != 0 }); state.Workers["a"].Ref() != reg.Ref() {
		t.Errorf("it is %+v", state.Workers["a"])
	}
	must(t, reg.Drain(t.Context())) // refused if it were dead
}

// A worker that has no place for locks works all the same.
func TestNoPlaceForLocks(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	c.start("a", onHost(file))
	c.awaitLive()
	if n := c.out.count("no lock that tells others"); n != 1 {
		t.Errorf("it says so %d times", n)
	}
	c.expect(c.shards, 0)
}
