package etcdmem

import (
	"context"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// tick is how often leases are looked at. One is ended up to so much after its TTL. etcd does it every half second; oftener is harder
// on who trusts a lease for too long.
const tick = 100 * time.Millisecond

// election is how long a quorum that is back takes to elect a leader, which then arms every lease anew for that and its TTL.
const election = time.Second

// Server is an etcd. It is safe for concurrent use.
type Server struct {
	mu        sync.Mutex
	revision  int64
	compacted int64
	keys      map[string]*mvccpb.KeyValue // never changed, only replaced
	leases    map[int64]*lease
	granted   int64 // the last lease's id
	history   []Commit
	observe   func(Commit)

	lost    time.Time     // since when there is no quorum; zero if there is one
	term    uint64        // of the leader that the quorum has elected
	changed chan struct{} // closed, and replaced, with each commit, and when the quorum comes or goes
}

// Commit is one revision.
type Commit struct {
	Revision int64
	At       time.Time
	By       string          // the name of the link that the request came by; empty if a lease expired
	Events   []*mvccpb.Event // in the order they were written; not to be changed

	before []*mvccpb.KeyValue // what was there before each event; nil: nothing
}

// New makes an empty server. Its leases expire while Run runs.
func New() *Server {
	return &Server{
		revision: 1, term: 1, keys: map[string]*mvccpb.KeyValue{}, leases: map[int64]*lease{}, changed: make(chan struct{}),
	}
}

// Observe has every commit shown to f, in order, before anybody else sees it. f must not use the server. Call it before there
// are clients.
func (s *Server) Observe(f func(Commit)) { s.observe = f }

// Run ends leases until ctx ends.
func (s *Server) Run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.expire(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// LoseQuorum has the server answer nothing any more, and no lease expire. Watches that require a leader end after a while.
func (s *Server) LoseQuorum() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost.IsZero() {
		s.lost = time.Now()
		s.broadcast()
	}
}

// RegainQuorum ends LoseQuorum. Every lease has its full TTL again.
func (s *Server) RegainQuorum() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost.IsZero() {
		return
	}
	s.lost = time.Time{}
	s.term++
	for _, l := range s.leases {
		l.refresh(election)
	}
	s.broadcast()
}

// Compact forgets what happened so far, as etcd's automatic compaction does: who wants to watch from there must read anew.
func (s *Server) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compactTo(s.revision)
}

func (s *Server) compact(revision int64) (*pb.CompactionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision <= s.compacted {
		return nil, rpctypes.ErrGRPCCompacted
	}
	if revision > s.revision {
		return nil, rpctypes.ErrGRPCFutureRev
	}
	s.compactTo(revision)
	return &pb.CompactionResponse{Header: s.header()}, nil
}

// compactTo keeps the revision itself, which may still be watched from. mu is held.
func (s *Server) compactTo(revision int64) {
	s.compacted = revision
	kept, _ := slices.BinarySearchFunc(s.history, revision, func(c Commit, r int64) int { return int(c.Revision - r) })
	s.history = slices.Clone(s.history[kept:])
	s.broadcast()
}

// commit makes what a transaction wrote the next revision, if it wrote anything. mu is held.
func (s *Server) commit(by string, t *txn) {
	if len(t.events) == 0 {
		return
	}
	s.revision++
	c := Commit{Revision: s.revision, At: time.Now(), By: by, Events: t.events, before: t.before}
	s.history = append(s.history, c)
	if s.observe != nil {
		s.observe(c)
	}
	s.broadcast()
}

// since are the commits from a revision on. It reports false if they were compacted. mu is held.
func (s *Server) since(revision int64) (commits []Commit, ok bool) {
	if revision < s.compacted {
		return nil, false
	}
	from, _ := slices.BinarySearchFunc(s.history, revision, func(c Commit, r int64) int { return int(c.Revision - r) })
	return s.history[from:], true
}

func (s *Server) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// quorum reports since when there is none, and what closes when that may have changed.
func (s *Server) quorum() (lost time.Time, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost, s.changed
}

func (s *Server) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{Revision: s.revision, RaftTerm: s.term}
}
