package lease

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

// depose ends a term behind its holder's back.
func depose(t *testing.T, term *Term) {
	t.Helper()
	if _, err := term.store.client.Revoke(context.Background(), term.session.Lease()); err != nil {
		t.Fatal(err)
	}
}

// awaitKeys blocks until a directory holds n keys, and returns them.
func awaitKeys(t *testing.T, s *Store, dir string, n int) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	enough := errors.New("enough")
	have := map[string]Record{}
	err := s.follow(ctx, scope{[]string{dir}, []string{dir}}, func(u Update) error {
		for _, r := range u.Puts {
			have[r.Key] = r
		}
		for _, key := range u.Deletes {
			delete(have, key)
		}
		if len(have) == n {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("%s has %d keys, want %d", dir, len(have), n)
	}
	var records []Record
	for _, r := range have {
		records = append(records, r)
	}
	return records
}

type election struct {
	term *Term
	err  error
}

func campaign(ctx context.Context, s *Store, candidate string) <-chan election {
	result := make(chan election, 1)
	go func() {
		term, err := s.Campaign(ctx, candidate)
		result <- election{term, err}
	}()
	return result
}

func TestCandidatesLeadOneAfterTheOther(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	results := make(chan election, 3)
	for i := range 3 {
		candidate := campaign(t.Context(), s, fmt.Sprintf("candidate-%d", i))
		go func() { results <- <-candidate }()
	}
	var last *Term
	for n := 3; n > 0; n-- {
		won := <-results
		must(t, won.err)
		if last != nil && won.term.Number <= last.Number {
			t.Errorf("term %d after term %d", won.term.Number, last.Number)
		}
		last = won.term
		awaitKeys(t, s, dirElection, n)
		select {
		case other := <-results:
			t.Fatalf("while term %d lasts another won: %+v", last.Number, other)
		default:
		}
		if leader := state(t, s).Leader; leader.Term != last.Number {
			t.Errorf("the leader is %+v, want term %d", leader, last.Number)
		}
		if n == 2 {
			depose(t, last)
		} else {
			last.Resign()
		}
	}
	if keys := awaitKeys(t, s, dirElection, 0); len(keys) != 0 {
		t.Errorf("left over: %v", keys)
	}
}

func TestTermIsDoneWhenItsLeaseIs(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	term := lead(t, s)
	depose(t, term)
	<-term.Done()
	expectUnchanged(t, s, func() error {
		_, err := term.SetPlan(t.Context(), Plan{Generation: 1, Shards: 1, RangeSize: 1})
		return err
	})
}

func TestCandidateThatGivesUpLeavesNoKey(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	lead(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	waiting := campaign(ctx, s, "second")
	awaitKeys(t, s, dirElection, 2)
	cancel()
	if result := <-waiting; !errors.Is(result.err, context.Canceled) {
		t.Errorf("the campaign ended with %v", result.err)
	}
	if keys := awaitKeys(t, s, dirElection, 1); len(keys) != 1 {
		t.Errorf("left over: %v", keys)
	}
}

// Without its key a candidate can never be the oldest; it must not wait for that.
func TestCandidateThatLostItsLeaseStopsWaiting(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	lead(t, s)
	waiting := campaign(t.Context(), s, "second")
	loseLease(t, s, "second")
	if result := <-waiting; result.err == nil || errors.Is(result.err, context.Canceled) {
		t.Errorf("the campaign ended with %v, want its reason", result.err)
	}
}

// A candidate whose lease expired a moment before the leader's did is told by the election that it won.
func TestCandidateThatLostItsLeaseCannotWin(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first := lead(t, s)
	waiting := campaign(t.Context(), s, "second")
	loseLease(t, s, "second")
	depose(t, first)
	if result := <-waiting; result.err == nil {
		t.Errorf("it leads term %d without a key", result.term.Number)
	}
	if leader := state(t, s).Leader; leader.Term != first.Number {
		t.Errorf("the leader became %+v", leader)
	}
}

// loseLease revokes the lease of a candidate that waits for a leader to go.
func loseLease(t *testing.T, s *Store, candidate string) {
	t.Helper()
	for _, key := range awaitKeys(t, s, dirElection, 2) {
		if string(key.Value) == candidate {
			resp, err := s.client.Get(t.Context(), s.keys.prefix+key.Key)
			must(t, err)
			_, err = s.client.Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease))
			must(t, err)
		}
	}
}

func TestCampaignEndsWithItsContextThoughEtcdIsAway(t *testing.T) {
	t.Parallel()
	own := etcdtest.Start(t)
	link := own.Link(t)
	lead(t, storeAt(t, own.Endpoints(), "c"))
	far := storeAt(t, link.Endpoints(), "c")
	ctx, cancel := context.WithCancel(t.Context())
	waiting := campaign(ctx, far, "second")
	awaitKeys(t, far, dirElection, 2)
	link.Cut()
	far.client.ActiveConnection().WaitForStateChange(t.Context(), connectivity.Ready) // from now on requests wait for etcd
	cancel()
	select {
	case result := <-waiting:
		// A request that was under way when the link was cut may have failed before.
		if !errors.Is(result.err, context.Canceled) && status.Code(result.err) != codes.Unavailable {
			t.Errorf("the waiting campaign ended with %v", result.err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the waiting campaign goes on")
	}
	if result := <-campaign(ctx, far, "third"); result.err == nil {
		t.Error("a campaign was won without etcd")
	}
	link.Mend()
}
