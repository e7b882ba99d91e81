package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

// server is shared by all tests that need no outage; each has a cluster of its own in it.
var server *etcdtest.Server

var clusters atomic.Int64

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(m, &server)) }

// newStore is a cluster of its own on the shared server.
func newStore(t testing.TB) *Store {
	t.Helper()
	return storeAt(t, server.Endpoints(), fmt.Sprintf("c%d", clusters.Add(1)))
}

func storeAt(t testing.TB, endpoints []string, cluster string) *Store {
	t.Helper()
	s, err := Open(Config{Endpoints: endpoints, Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// register makes a worker that outlives its test.
func register(t testing.TB, s *Store, id string) *Registration {
	t.Helper()
	r, err := s.Register(context.Background(), Worker{ID: id, UUID: id, Capacity: 1}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lead makes a leader that resigns when its test ends.
func lead(t testing.TB, s *Store) *Term {
	t.Helper()
	term, err := s.Campaign(t.Context(), "leader")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(term.Resign)
	return term
}

// state is what a coordinator that lists the cluster now sees.
func state(t testing.TB, s *Store) *Cluster {
	t.Helper()
	c, err := readCluster(context.Background(), s)
	must(t, err)
	return c
}

func readCluster(ctx context.Context, s *Store) (*Cluster, error) {
	snapshot, err := s.list(ctx, []string{everything})
	if err != nil {
		return nil, err
	}
	var c Cluster
	return &c, errors.Join(c.Apply(snapshot)...)
}

// orders is what a worker that lists its orders now sees.
func orders(t testing.TB, r *Registration) *Orders {
	t.Helper()
	snapshot, err := r.store.list(context.Background(), []string{keyPlan, dirHalts, dirDirectives + nameDown, dirAssignments + r.ref.Worker + "/", dirRequests + r.ref.Worker + "/"})
	if err != nil {
		t.Fatal(err)
	}
	o := r.NewOrders()
	if errs := o.Apply(snapshot); errs != nil {
		t.Fatal(errs)
	}
	return o
}

// dump is every key of the cluster with its value and revisions.
func dump(t testing.TB, s *Store) map[string]string {
	t.Helper()
	resp, err := s.client.Get(context.Background(), s.keys.prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for _, kv := range resp.Kvs {
		keys[string(kv.Key)] = fmt.Sprintf("%d %d %s", kv.CreateRevision, kv.ModRevision, kv.Value)
	}
	return keys
}

// expectUnchanged runs do, which must be refused and must have changed nothing.
func expectUnchanged(t *testing.T, s *Store, do func() error) {
	t.Helper()
	before := dump(t, s)
	if err := do(); !errors.Is(err, ErrFenced) {
		t.Errorf("got error %v, want ErrFenced", err)
	}
	if after := dump(t, s); !maps.Equal(before, after) {
		t.Errorf("a refused write changed\n%v\nto\n%v", before, after)
	}
}

// take applies one action; not taken is ErrFenced.
func take(t testing.TB, term *Term, a Action) error {
	taken, _, err := term.Apply(t.Context(), []Action{a})
	if err == nil && len(taken) == 0 {
		return ErrFenced
	}
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
