package lease

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

func TestWitness(t *testing.T) {
	header := func(cluster uint64, revision int64) *pb.ResponseHeader {
		return &pb.ResponseHeader{ClusterId: cluster, Revision: revision}
	}
	for _, test := range []struct {
		name     string
		header   *pb.ResponseHeader
		current  bool
		restored bool
	}{
		{"the same revision", header(1, 100), true, false},
		{"a later one", header(1, 101), true, false},
		{"an earlier one", header(1, 99), true, true},
		{"an earlier one, of a member that may be behind", header(1, 99), false, false},
		{"another cluster", header(2, 100), true, true},
		{"another cluster, ahead", header(2, 200), false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWitness(hclog.NewNullLogger())
			must(t, w.answered(w.look(), header(1, 100), true))
			asked := w.look()
			err := w.answered(asked, test.header, test.current)
			if restored := errors.Is(err, ErrRestored); restored != test.restored || (asked.life.Err() != nil) != restored {
				t.Fatalf("got %v, and the life ended with %v", err, context.Cause(asked.life))
			}
			if !test.restored {
				return
			}
			// Another answer to what was asked before is no second restoration.
			if err := w.answered(asked, test.header, true); !errors.Is(err, ErrRestored) {
				t.Errorf("asked before, answered after: %v", err)
			}
			now := w.look()
			must(t, w.answered(now, test.header, true))
			must(t, now.life.Err())
		})
	}
}

// Who asked before another was answered may be told of an earlier moment.
func TestWitnessOfAnswersThatCross(t *testing.T) {
	w := newWitness(hclog.NewNullLogger())
	asked := w.look()
	must(t, w.answered(w.look(), &pb.ResponseHeader{ClusterId: 1, Revision: 10}, true))
	must(t, w.answered(asked, &pb.ResponseHeader{ClusterId: 1, Revision: 9}, true))
	if w.look().revision != 10 {
		t.Errorf("the highest seen is %d", w.look().revision)
	}
}

// restorable is a cluster on an etcd of its own, with a backup from before worker a was given its range.
type restorable struct {
	*world
	etcd   *etcdtest.Server
	backup etcdtest.Backup
}

func newRestorable(t *testing.T, endpoints func(*etcdtest.Server) []string) *restorable {
	own := etcdtest.Start(t)
	s := storeAt(t, own.Endpoints(), "c")
	a := storeAt(t, endpoints(own), "c")
	a.relist = patientRelist
	r := &restorable{world: &world{t: t, s: s, term: lead(t, s), a: register(t, a, "a"), b: register(t, s, "b")}, etcd: own}
	_, err := r.term.SetPlan(t.Context(), Plan{Generation: 1, Shards: 16, RangeSize: 4})
	must(t, err)
	r.backup = own.Backup(t)
	must(t, take(t, r.term, Action{Kind: Assign, Range: Range{ID: theRange}, To: r.a.Ref()}))
	r.look()
	return r
}

// mistake writes until b owns the range under the fence that was a's before the restoration. It is the write of somebody who knows nothing.
func (r *restorable) mistake() *Store {
	r.t.Helper()
	near := storeAt(r.t, r.etcd.Endpoints(), "c")
	for revision := state(r.t, near).Revision; revision < r.own.Fence; {
		revision = near.testPut(r.t, dirOwners+theRange.String(), `{"worker":"b"}`)
	}
	return near
}

// keep keeps a registration alive, and follows its orders, as a worker does.
func keep(t *testing.T, r *Registration) (kept <-chan error) {
	ended, begun := make(chan error, 1), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	begin := sync.OnceFunc(func() { close(begun) })
	following.Go(func() { _ = r.Follow(ctx, func(Update) error { begin(); return nil }) }) // it ends with ctx, without an error
	following.Go(func() { ended <- r.Keep(ctx) })
	t.Cleanup(func() { stop(); following.Wait() })
	<-begun
	return ended
}

func expectRestored(t *testing.T, kept <-chan error) {
	t.Helper()
	select {
	case err := <-kept:
		if !errors.Is(err, ErrLost) || !errors.Is(err, ErrRestored) {
			t.Errorf("keep ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("the registration goes on")
	}
}

// Whatever was begun before etcd was restored is over, though the numbers that would prove its right are given out again.
func TestRestoredEtcd(t *testing.T) {
	for name, options := range map[string]etcdtest.RestoreOptions{
		"the same cluster": {}, "another cluster": {Token: "another"}, "another cluster, bumped": {Token: "another", Bump: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRestorable(t, (*etcdtest.Server).Endpoints)
			follower := startFollowing(t, r.a.store, scope{list: []string{dirOwners}, watch: []string{dirOwners}})
			if u := follower.next(); len(u.Puts) != 1 {
				t.Fatalf("the follower begins with %+v", u)
			}
			kept, led := keep(t, r.a), keep(t, r.b)
			r.etcd.Restore(t, r.backup, options)
			if u := follower.nextReset(); len(u.Puts) != 0 {
				t.Errorf("the follower goes on with %+v", u)
			}
			expectRestored(t, kept)
			expectRestored(t, led)
			<-r.term.Done()
			if !errors.Is(r.term.Err(), ErrRestored) {
				t.Errorf("the term ended with %v", r.term.Err())
			}
			if r.a.Trusted() {
				t.Error("the registration is trusted")
			}
			near := r.mistake()
			expectUnchanged(t, near, func() error { return r.own.Release(t.Context()) })
			expectUnchanged(t, near, func() error { return r.a.Report(t.Context(), Status{Events: 1}) })
			expectUnchanged(t, near, func() error { _, err := r.term.SetPlan(t.Context(), r.plan); return err })

			must(t, r.a.Leave(t.Context())) // and everything begins anew
			r.term.Resign()
			again := register(t, r.a.store, "a")
			lead(t, r.s)
			must(t, again.Report(t.Context(), Status{Events: 1}))
		})
	}
}

// A worker that was away for as long as it takes etcd to come to where it was before sees nothing of the restoration. Others did.
func TestRestoredEtcdUnnoticed(t *testing.T) {
	t.Parallel()
	var link *etcdtest.Link
	r := newRestorable(t, func(own *etcdtest.Server) []string { link = own.Link(t); return link.Endpoints() })
	link.Cut()
	r.etcd.Restore(t, r.backup, etcdtest.RestoreOptions{})
	must(t, r.s.AwaitReady(t.Context())) // the leader notices; as a candidate it replaces the era
	r.term.Resign()
	lead(t, r.s)
	near := r.mistake()
	near.testPut(t, "ldr/more", "")
	link.Mend()
	must(t, r.a.store.AwaitReady(t.Context()))
	if r.a.store.witness.life().Err() != nil || !r.a.Trusted() {
		t.Fatal("it was noticed")
	}
	expectUnchanged(t, near, func() error { return r.own.Release(t.Context()) })
	expectRestored(t, keep(t, r.a))
	if r.a.Trusted() {
		t.Error("the registration is trusted")
	}
}

// A candidate that waits for a leader to go is not told by a restored etcd that both keys are no more.
func TestCandidateOfARestoredEtcd(t *testing.T) {
	t.Parallel()
	own := etcdtest.Start(t)
	first, second := storeAt(t, own.Endpoints(), "c"), storeAt(t, own.Endpoints(), "c")
	backup := own.Backup(t)
	lead(t, first)
	startFollowing(t, second, workersOnly).next()
	waiting := campaign(t.Context(), second, "second")
	awaitKeys(t, second, dirElection, 2)
	own.Restore(t, backup, etcdtest.RestoreOptions{})
	if result := <-waiting; result.err == nil {
		t.Errorf("it leads term %d of an etcd that was", result.term.Number)
	}
	lead(t, second)
}

// Nothing is mistaken for what it was where the revision is raised, and nothing starts over either but what was lost.
func TestRestoredWithRaisedRevision(t *testing.T) {
	t.Parallel()
	own := etcdtest.Start(t)
	s := storeAt(t, own.Endpoints(), "c")
	s.relist = patientRelist
	before := register(t, s, "before")
	follower := startFollowing(t, s, workersOnly)
	follower.next()
	backup := own.Backup(t)
	after := register(t, s, "after")
	own.Restore(t, backup, etcdtest.RestoreOptions{Bump: 1000})
	if u := follower.nextReset(); len(u.Puts) != 1 || u.Puts[0].Key != dirWorkers+"before" {
		t.Errorf("the follower goes on with %+v", u)
	}
	must(t, before.Report(t.Context(), Status{}))
	if err := after.Report(t.Context(), Status{}); !errors.Is(err, ErrFenced) {
		t.Errorf("the lost registration reports: %v", err)
	}
}

// The watch of a follower may be taken up again after another question has told that etcd was restored. It would then be silent.
func TestFollowerOfAnEtcdThatOthersFoundRestored(t *testing.T) {
	s := newStore(t)
	s.relist = patientRelist
	follower := startFollowing(t, s, workersOnly)
	follower.next()
	known := s.witness.look()
	if err := s.witness.answered(known, &pb.ResponseHeader{ClusterId: known.cluster + 1}, true); !errors.Is(err, ErrRestored) {
		t.Fatal(err)
	}
	follower.nextReset()
}
