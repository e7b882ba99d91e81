package etcdmem

import (
	"cmp"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// minTTL is what etcd makes of a shorter TTL, with its default election timeout; in seconds.
const minTTL = 2

type lease struct {
	id, ttl int64 // seconds
	expires time.Time
	keys    map[string]bool
}

func (l *lease) refresh(extra time.Duration) {
	l.expires = time.Now().Add(extra + time.Duration(l.ttl)*time.Second)
}

func (s *Server) grant(r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases[r.ID] != nil {
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	id := r.ID
	for id == 0 || s.leases[id] != nil {
		s.granted++
		id = s.granted
	}
	l := &lease{id: id, ttl: max(r.TTL, minTTL), keys: map[string]bool{}}
	l.refresh(0)
	s.leases[id] = l
	return &pb.LeaseGrantResponse{Header: s.header(), ID: id, TTL: l.ttl}, nil
}

func (s *Server) revoke(by string, id int64) (*pb.LeaseRevokeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.leases[id]
	if l == nil {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	s.end(by, l)
	return &pb.LeaseRevokeResponse{Header: s.header()}, nil
}

// renew answers with TTL 0 if there is no such lease any more.
func (s *Server) renew(id int64) (*pb.LeaseKeepAliveResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &pb.LeaseKeepAliveResponse{Header: s.header(), ID: id}
	l := s.leases[id]
	switch {
	case l == nil:
	case time.Now().Before(l.expires):
		l.refresh(0)
		resp.TTL = l.ttl
	default: // etcd has who renews too late wait for the end of the lease
		s.end("", l)
		resp.Header = s.header()
	}
	return resp, nil
}

// timeToLive answers with TTL -1 if there is no such lease any more.
func (s *Server) timeToLive(id int64) (*pb.LeaseTimeToLiveResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &pb.LeaseTimeToLiveResponse{Header: s.header(), ID: id, TTL: -1}
	if l := s.leases[id]; l != nil {
		resp.TTL, resp.GrantedTTL = int64(time.Until(l.expires).Seconds()), l.ttl
	}
	return resp, nil
}

// expire ends the leases whose time is over, unless there is no quorum to agree on that.
func (s *Server) expire(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lost.IsZero() {
		return
	}
	over := slices.SortedFunc(maps.Values(s.leases), func(a, b *lease) int {
		return cmp.Or(a.expires.Compare(b.expires), cmp.Compare(a.id, b.id))
	})
	for _, l := range over {
		if now.Before(l.expires) {
			return
		}
		s.end("", l)
	}
}

// end deletes a lease and its keys, as one revision. mu is held.
func (s *Server) end(by string, l *lease) {
	delete(s.leases, l.id)
	t := &txn{Server: s}
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		t.remove(s.keys[key])
	}
	s.commit(by, t)
}

// attach moves a key from the lease it had to another; 0 is none.
func (t *txn) attach(key string, before *mvccpb.KeyValue, to int64) {
	if before != nil {
		if l := t.leases[before.Lease]; l != nil {
			delete(l.keys, key)
		}
	}
	if l := t.leases[to]; l != nil {
		l.keys[key] = true
	}
}
