package lease

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Life is for how long etcd lets a registration live that nobody renews. Zero: there is none.
type Life struct {
	Incarnation int64
	Left        time.Duration // rounded up to whole seconds; etcd ends it up to a second later
	Term        uint64        // of etcd's own leader: each one that is elected gives all registrations their whole TTL again
}

// Life is that of the worker with this id. A registration that is still there, in the same Term, when it cannot have that much Left was
// renewed, and its process lives.
func (s *Store) Life(ctx context.Context, id string) (Life, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := s.client.Get(ctx, s.keys.worker(id))
	if err != nil {
		return Life{}, fmt.Errorf("life of worker %s: %w", id, err)
	}
	if len(got.Kvs) == 0 {
		return Life{}, nil
	}
	left, err := s.client.TimeToLive(ctx, clientv3.LeaseID(got.Kvs[0].Lease))
	if err != nil {
		return Life{}, fmt.Errorf("life of worker %s: %w", id, err)
	}
	if left.GrantedTTL == 0 {
		return Life{}, nil // it ended meanwhile
	}
	return Life{Incarnation: got.Kvs[0].CreateRevision, Left: time.Duration(max(left.TTL, 0)+1) * time.Second, Term: left.RaftTerm}, nil
}
