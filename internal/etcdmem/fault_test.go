package etcdmem_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/goleak"

	"github.com/muster-gateway/muster/internal/etcdmem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inBubble runs f on virtual time with a server.
func inBubble(t *testing.T, f func(t *testing.T, server *etcdmem.Server)) {
	synctest.Test(t, func(t *testing.T) {
		server := etcdmem.New()
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { server.Run(ctx) })
		t.Cleanup(func() { cancel(); running.Wait() })
		f(t, server)
	})
}

func connect(t *testing.T, server *etcdmem.Server, name string) *etcdmem.Link {
	link := server.Link(name)
	t.Cleanup(link.Close)
	return link
}

func put(t *testing.T, link *etcdmem.Link, key string, opts ...clientv3.OpOption) {
	t.Helper()
	if _, err := link.Client.Put(t.Context(), key, "", opts...); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, link *etcdmem.Link, key string) int64 {
	t.Helper()
	resp, err := link.Client.Get(t.Context(), key, clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return resp.Count
}

func grant(t *testing.T, link *etcdmem.Link, ttl int64) clientv3.LeaseID {
	t.Helper()
	resp, err := link.Client.Grant(t.Context(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	return resp.ID
}

// try puts a key with a second's patience.
func try(t *testing.T, link *etcdmem.Link, key string) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := link.Client.Put(ctx, key, "")
	return err
}

// A lease ends within a tick of its TTL, counted from its last renewal; its keys go with it, in one revision.
func TestLeaseExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		link := connect(t, server, "a")
		id := grant(t, link, 10)
		put(t, link, "x", clientv3.WithLease(id))
		put(t, link, "y", clientv3.WithLease(id))
		watch := link.Client.Watch(t.Context(), "", clientv3.WithFromKey(), clientv3.WithRev(4))
		time.Sleep(6 * time.Second)
		renewed := time.Now()
		if resp, err := link.Client.KeepAliveOnce(t.Context(), id); err != nil || resp.TTL != 10 {
			t.Fatalf("%v, %v", resp, err)
		}
		resp := <-watch
		if took := time.Since(renewed); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("it ended after %v", took)
		}
		if len(resp.Events) != 2 || resp.Events[0].Kv.ModRevision != resp.Events[1].Kv.ModRevision {
			t.Errorf("events: %v", resp.Events)
		}
		if _, err := link.Client.KeepAliveOnce(t.Context(), id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Errorf("renewing it then: %v", err)
		}
	})
}

// Without a quorum nothing is answered and nothing expires; then leases have their full TTL again.
func TestQuorum(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		link := connect(t, server, "a")
		id := grant(t, link, 10)
		put(t, link, "x", clientv3.WithLease(id))
		left := func() (seconds int64, term uint64) {
			resp, err := link.Client.TimeToLive(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return resp.TTL, resp.RaftTerm
		}
		if seconds, term := left(); seconds != 9 || term != 1 {
			t.Errorf("at first it has %d s left, in term %d", seconds, term)
		}
		demanding := link.Client.Watch(clientv3.WithRequireLeader(t.Context()), "z")
		time.Sleep(9 * time.Second)
		server.LoseQuorum()
		lost := time.Now()
		if err := try(t, link, "y"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("put: %v", err)
		}
		if resp := <-demanding; !errors.Is(resp.Err(), rpctypes.ErrNoLeader) || time.Since(lost) != 3*time.Second {
			t.Errorf("watch: %v after %v", resp.Err(), time.Since(lost))
		}
		time.Sleep(time.Hour)
		server.RegainQuorum()
		if seconds, term := left(); seconds < 10 || term != 2 {
			t.Errorf("then it has %d s left, in term %d", seconds, term)
		}
		time.Sleep(9 * time.Second)
		if count(t, link, "x") != 1 {
			t.Error("the lease had less than its TTL")
		}
		time.Sleep(3 * time.Second)
		if count(t, link, "x") != 0 {
			t.Error("the lease does not end")
		}
		if seconds, _ := left(); seconds != -1 {
			t.Errorf("ended, it has %d s left", seconds)
		}
	})
}

func TestHold(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		near, far := connect(t, server, "near"), connect(t, server, "far")
		watch := far.Client.Watch(t.Context(), "x")
		time.Sleep(time.Second)
		far.Hold()
		put(t, near, "x")
		for range 2 { // of requests that are given up, one arrives later all the same
			if err := try(t, far, "late"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		}
		synctest.Wait()
		select {
		case resp := <-watch:
			t.Fatalf("the watch saw %v", resp)
		default:
		}
		far.Mend()
		if resp := <-watch; len(resp.Events) != 1 {
			t.Errorf("the watch saw %v", resp)
		}
		time.Sleep(time.Second)
		resp, err := near.Client.Get(t.Context(), "late")
		if err != nil || len(resp.Kvs) != 1 || resp.Kvs[0].Version != 1 {
			t.Errorf("late: %v, %v", resp, err)
		}
	})
}

func TestCut(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		near, far := connect(t, server, "near"), connect(t, server, "far")
		watch := far.Client.Watch(t.Context(), "x")
		time.Sleep(time.Second)
		far.Cut()
		if err := try(t, far, "y"); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		put(t, near, "x")
		server.Compact()
		put(t, near, "x")
		server.Compact()
		far.Mend()
		if resp := <-watch; !errors.Is(resp.Err(), rpctypes.ErrCompacted) {
			t.Errorf("after a compaction the watch saw %v", resp)
		}
		if err := try(t, far, "y"); err != nil {
			t.Error(err)
		}
	})
}

func TestLoseAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		link := connect(t, server, "a")
		link.LoseAnswers(1)
		if err := try(t, link, "x"); err == nil {
			t.Error("the answer came")
		}
		if count(t, link, "x") != 1 {
			t.Error("it was not done")
		}
	})
}

func TestLoseEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		near, far := connect(t, server, "near"), connect(t, server, "far")
		watch := far.Client.Watch(t.Context(), "x")
		time.Sleep(time.Second)
		far.LoseEvents(true)
		put(t, near, "x")
		time.Sleep(time.Second)
		far.LoseEvents(false)
		put(t, near, "x")
		if resp := <-watch; resp.Err() != nil || len(resp.Events) != 1 || resp.Events[0].Kv.Version != 2 {
			t.Errorf("the watch saw %v", resp)
		}
	})
}

func TestSlow(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		near, far := connect(t, server, "near"), connect(t, server, "far")
		watch := far.Client.Watch(t.Context(), "x")
		time.Sleep(time.Second)
		far.Slow(300 * time.Millisecond)
		began := time.Now()
		put(t, far, "y")
		if took := time.Since(began); took != 600*time.Millisecond {
			t.Errorf("a request took %v", took)
		}
		put(t, near, "x")
		began = time.Now()
		<-watch
		if took := time.Since(began); took < 299*time.Millisecond || took > 300*time.Millisecond {
			t.Errorf("an event took %v", took)
		}
	})
}

// Observers are told who did it, before anybody else sees it.
func TestObserve(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		var seen []etcdmem.Commit
		server.Observe(func(c etcdmem.Commit) { seen = append(seen, c) })
		a, b := connect(t, server, "a"), connect(t, server, "b")
		put(t, a, "x", clientv3.WithLease(grant(t, a, 2)))
		put(t, b, "y")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if len(seen) != 3 || seen[0].By != "a" || seen[1].By != "b" || seen[2].By != "" || seen[2].Revision != 4 {
			t.Errorf("seen: %+v", seen)
		}
	})
}

// The library's election works over it: one leads, the next when its lease ends.
func TestElection(t *testing.T) {
	inBubble(t, func(t *testing.T, server *etcdmem.Server) {
		a, b := connect(t, server, "a"), connect(t, server, "b")
		campaign := func(link *etcdmem.Link) *concurrency.Session {
			session, err := concurrency.NewSession(link.Client, concurrency.WithTTL(5))
			if err != nil {
				t.Fatal(err)
			}
			if err := concurrency.NewElection(session, "e").Campaign(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			return session
		}
		first := campaign(a)
		time.Sleep(time.Minute) // it is kept alive
		began := time.Now()
		a.Hold()
		second := campaign(b)
		if took := time.Since(began); took < 3*time.Second || took > 6*time.Second {
			t.Errorf("the second leads after %v", took)
		}
		<-first.Done()
		first.Orphan()
		second.Orphan()
	})
}
