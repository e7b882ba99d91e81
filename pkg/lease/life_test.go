package lease

import (
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

// What etcd says of a registration is about it, as it is, and no less than what it really has.
func TestLife(t *testing.T) {
	t.Parallel()
	own := etcdtest.Start(t)
	s := storeAt(t, own.Endpoints(), "c")
	life := func(id string) Life {
		t.Helper()
		l, err := s.Life(t.Context(), id)
		must(t, err)
		return l
	}
	if l := life("a"); l != (Life{}) {
		t.Errorf("of nobody it is %+v", l)
	}
	const ttl = time.Minute
	began := time.Now()
	r, err := s.Register(t.Context(), Worker{ID: "a"}, ttl)
	must(t, err)
	first := life("a")
	if passed := time.Since(began); first.Incarnation != r.Ref().Incarnation || first.Left > ttl+time.Second || first.Left < ttl-passed || first.Term == 0 {
		t.Errorf("after %v it is %+v", passed, first)
	}
	own.Stop()
	own.Restart()
	must(t, s.AwaitReady(t.Context()))
	if l := life("a"); l.Incarnation != first.Incarnation || l.Term <= first.Term {
		t.Errorf("after an election it is %+v, and was %+v", l, first)
	}
	_, err = s.client.Put(t.Context(), s.keys.worker("b"), "{}") // as if its lease had ended after the record was read
	must(t, err)
	if l := life("b"); l != (Life{}) {
		t.Errorf("without a lease it is %+v", l)
	}
	must(t, r.Leave(t.Context()))
	if l := life("a"); l != (Life{}) {
		t.Errorf("gone it is %+v", l)
	}
}
