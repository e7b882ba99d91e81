package lease

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

var workersOnly = scope{list: []string{dirWorkers}, watch: []string{dirWorkers}}

// patientRelist is for followers that must notice, not be rescued.
const patientRelist = time.Hour

// follower runs follow until its test ends or it is stopped.
type follower struct {
	t       *testing.T
	updates chan Update
	stop    context.CancelFunc
	ended   chan error
}

func startFollowing(t *testing.T, s *Store, in scope) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{t: t, updates: make(chan Update), stop: cancel, ended: make(chan error, 1)}
	go func() {
		f.ended <- s.follow(ctx, in, func(u Update) error {
			select {
			case f.updates <- u:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-f.ended; err != nil {
			t.Errorf("following ended with %v", err)
		}
	})
	return f
}

func (f *follower) next() Update {
	f.t.Helper()
	select {
	case u := <-f.updates:
		return u
	case <-time.After(time.Minute):
		f.t.Fatal("no update")
		return Update{}
	}
}

// nextReset skips updates until everything was read again.
func (f *follower) nextReset() Update {
	f.t.Helper()
	for {
		if u := f.next(); u.Reset {
			return u
		}
	}
}

// spell writes an update's content down in short.
func spell(u Update) string {
	var words []string
	for _, r := range u.Puts {
		words = append(words, fmt.Sprintf("%s=%s", r.Key, r.Value))
	}
	for _, key := range u.Deletes {
		words = append(words, "-"+key)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// testPut and testDelete write below the cluster's prefix and return the revision.
func (s *Store) testPut(t *testing.T, key, value string) int64 {
	t.Helper()
	resp, err := s.client.Put(context.Background(), s.keys.prefix+key, value)
	must(t, err)
	return resp.Header.Revision
}

func (s *Store) testDelete(t *testing.T, key string) int64 {
	t.Helper()
	resp, err := s.client.Delete(context.Background(), s.keys.prefix+key)
	must(t, err)
	return resp.Header.Revision
}

func TestFollowSeesEveryRevisionInOrder(t *testing.T) {
	s := newStore(t)
	s.testPut(t, "wrk/a", "1")
	s.testPut(t, "other/a", "out of scope")
	f := startFollowing(t, s, workersOnly)
	if u := f.next(); !u.Reset || spell(u) != "wrk/a=1" {
		t.Fatalf("first update %+v", u)
	}
	type step struct {
		revision int64
		want     string
	}
	var steps []step
	steps = append(steps, step{s.testPut(t, "wrk/b", "1"), "wrk/b=1"})
	steps = append(steps, step{s.testDelete(t, "wrk/a"), "-wrk/a"})
	steps = append(steps, step{s.testPut(t, "wrk/a", "2"), "wrk/a=2"})
	revision, err := s.commit(t.Context(), "two at once", nil,
		clientv3.OpDelete(s.keys.prefix+"wrk/b"), clientv3.OpPut(s.keys.prefix+"wrk/c", "1"))
	must(t, err)
	steps = append(steps, step{revision, "-wrk/b wrk/c=1"})
	for _, want := range steps {
		if u := f.next(); u.Reset || u.Revision != want.revision || spell(u) != want.want {
			t.Errorf("got %s at %d, want %s at %d", spell(u), u.Revision, want.want, want.revision)
		}
	}
}

// While a watch catches up, one response holds many revisions, and its header a revision that may be beyond them.
func TestUpdatesOfAResponseThatCatchesUp(t *testing.T) {
	s := &Store{keys: newKeys("c")}
	event := func(kind mvccpb.Event_EventType, key, value string, revision int64) *clientv3.Event {
		return &clientv3.Event{Type: kind, Kv: &mvccpb.KeyValue{
			Key: []byte(s.keys.prefix + key), Value: []byte(value), CreateRevision: revision, ModRevision: revision,
		}}
	}
	updates := s.updatesOf(clientv3.WatchResponse{Events: []*clientv3.Event{
		event(clientv3.EventTypePut, "wrk/a", "1", 5),
		event(clientv3.EventTypeDelete, "wrk/a", "", 6),
		event(clientv3.EventTypePut, "wrk/b", "1", 6),
		event(clientv3.EventTypePut, "wrk/a", "2", 7),
	}})
	var got []string
	for _, u := range updates {
		got = append(got, fmt.Sprintf("%d: %s", u.Revision, spell(u)))
	}
	if want := []string{"5: wrk/a=1", "6: -wrk/a wrk/b=1", "7: wrk/a=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if updates := s.updatesOf(clientv3.WatchResponse{}); len(updates) != 0 {
		t.Errorf("a response without events made %v", updates)
	}
}

func TestFollowCatchesUpAfterALostConnection(t *testing.T) {
	t.Parallel()
	link := server.Link(t)
	near := newStore(t)
	far := storeAt(t, link.Endpoints(), "c")
	far.keys = near.keys
	f := startFollowing(t, far, workersOnly)
	f.next()
	link.Cut()
	var want []string
	for i := range 20 {
		near.testPut(t, "wrk/a", fmt.Sprint(i))
		near.testDelete(t, "wrk/a")
		want = append(want, fmt.Sprintf("wrk/a=%d", i), "-wrk/a")
	}
	link.Mend()
	for _, want := range want {
		if u := f.next(); u.Reset || spell(u) != want {
			t.Fatalf("got %+v, want %s", u, want)
		}
	}
}

// A follower that was away while etcd forgot what happened meanwhile must notice, and read everything again.
func TestFollowSurvivesCompaction(t *testing.T) {
	t.Parallel()
	own := etcdtest.Start(t) // compaction is everybody's
	link := own.Link(t)
	far, near := storeAt(t, link.Endpoints(), "c"), storeAt(t, own.Endpoints(), "c")
	far.relist = patientRelist
	near.testPut(t, "wrk/gone", "1")
	f := startFollowing(t, far, workersOnly)
	f.next()
	link.Cut()
	near.testDelete(t, "wrk/gone")
	near.testPut(t, "wrk/a", "1")
	revision := near.testPut(t, "wrk/a", "2")
	_, err := near.client.Compact(t.Context(), revision)
	must(t, err)
	link.Mend()
	if u := f.nextReset(); spell(u) != "wrk/a=2" {
		t.Errorf("after the compaction everything is %s", spell(u))
	}
	near.testPut(t, "wrk/b", "1")
	if u := f.next(); spell(u) != "wrk/b=1" {
		t.Errorf("then came %+v", u)
	}
}

func TestFollowReadsEverythingAgainByItself(t *testing.T) {
	s := newStore(t)
	s.relist = time.Millisecond
	s.testPut(t, "wrk/a", "1")
	f := startFollowing(t, s, workersOnly)
	for range 3 {
		if u := f.nextReset(); spell(u) != "wrk/a=1" {
			t.Errorf("everything is %s", spell(u))
		}
	}
}

func TestFollowEndsWithTheCallersError(t *testing.T) {
	s := newStore(t)
	enough := errors.New("enough")
	for _, after := range []int{1, 2} {
		calls := 0
		err := s.follow(t.Context(), workersOnly, func(u Update) error {
			if calls++; calls == after {
				return enough
			}
			s.testPut(t, "wrk/a", "1")
			return nil
		})
		if err != enough || calls != after {
			t.Errorf("after %d calls: %v", calls, err)
		}
	}
}

// Ending it must work wherever it waits; TestMain sees to it that nothing is left running.
func TestFollowEndsWithItsContext(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.FollowCluster(ctx, func(Update) error { return nil }); err != nil {
		t.Errorf("before it began: %v", err)
	}

	f := startFollowing(t, s, workersOnly) // its cleanup ends it while it watches
	f.next()

	link := server.Link(t)
	link.Cut()
	startFollowing(t, storeAt(t, link.Endpoints(), "cut"), workersOnly) // and this one before it could list
}

// A worker follows its own orders, a coordinator everything; both build their view from it.
func TestViewsFollowTheCluster(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ordered := make(chan Assignment)
	ended := make(chan error, 2)
	go func() {
		o := w.a.NewOrders()
		ended <- w.a.Follow(ctx, func(u Update) error {
			errs := o.Apply(u)
			if order := o.Assignments[theRange]; order.HandOver {
				ordered <- order
			}
			return errors.Join(errs...)
		})
	}()
	seen := make(chan Cluster)
	go func() {
		var c Cluster
		ended <- w.s.FollowCluster(ctx, func(u Update) error {
			errs := c.Apply(u)
			if c.Ranges[theRange].Move != nil {
				seen <- *c.Clone()
			}
			return errors.Join(errs...)
		})
	}()
	w.intended()
	if order := <-ordered; order != w.order {
		t.Errorf("the worker saw %+v, want %+v", order, w.order)
	}
	c, want := <-seen, state(t, w.s)
	want.Revision = c.Revision // a later one, if leases of other tests expired in the server that they share
	if !reflect.DeepEqual(&c, want) || c.Revision != c.Ranges[theRange].Move.Revision {
		t.Errorf("the coordinator saw %+v, want %+v", c, want)
	}
	cancel()
	for range 2 {
		must(t, <-ended)
	}
}

// A member that is cut off from the others still answers its clients, and tells them nothing. Whoever follows must leave it for another.
func TestFollowLeavesAMemberWithoutQuorum(t *testing.T) {
	t.Parallel()
	own := etcdtest.StartCluster(t)
	far := storeAt(t, own.Endpoints(), "c")
	far.relist = patientRelist
	f := startFollowing(t, far, workersOnly)
	f.next()
	var before []string
	for alone := range own.Members { // one of them is the one that is followed
		own.Isolate(alone)
		other := storeAt(t, own.Members[(alone+1)%3].Endpoints(), "c")
		must(t, other.AwaitReady(t.Context()))
		want := fmt.Sprintf("wrk/%d=1", alone) // each time another: an attempt that was given up may be carried out when the network is whole again
		putUntilTaken(t, other, fmt.Sprintf("wrk/%d", alone), "1")
		for u := f.next(); !strings.Contains(spell(u), want); u = f.next() {
			if !u.Reset && !slices.Contains(before, spell(u)) {
				t.Fatalf("got %+v, want %s", u, want)
			}
		}
		before = append(before, want)
		own.Mend()
	}
}

// putUntilTaken writes until an etcd takes it whose leader may change.
func putUntilTaken(t *testing.T, s *Store, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		attempt, stop := context.WithTimeout(ctx, requestTimeout)
		_, err := s.client.Put(attempt, s.keys.prefix+key, value)
		stop()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// A directory of many pages is read as it was at one moment, whatever is written meanwhile.
func TestListOfManyPages(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	s.page = 3
	const workers = 20
	key := func(n int) string { return s.keys.worker(fmt.Sprintf("w%02d", n)) }
	write := func(round int) {
		var puts []clientv3.Op
		for n := range workers {
			puts = append(puts, clientv3.OpPut(key(n), fmt.Sprint(round)))
		}
		_, err := s.client.Txn(context.Background()).Then(puts...).Commit()
		must(t, err)
	}
	write(0)
	_, err := s.client.Put(t.Context(), s.keys.halt("w"), "next") // the directory that follows is not read along
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for round := 1; ctx.Err() == nil; round++ {
			write(round)
		}
	})
	for range 50 {
		u, err := s.list(t.Context(), []string{dirHalts, dirWorkers})
		must(t, err)
		if len(u.Puts) != workers+1 || u.Puts[0].Key != "halt/w" {
			t.Fatalf("got %s", spell(u))
		}
		for n, r := range u.Puts[1:] {
			if s.keys.prefix+r.Key != key(n) || string(r.Value) != string(u.Puts[1].Value) || r.Modified > u.Revision {
				t.Fatalf("at revision %d got %s", u.Revision, spell(u))
			}
		}
	}
	stop()
	writing.Wait()
}
