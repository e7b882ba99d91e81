package lease

import (
	"context"
	"fmt"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// maxInTurn bounds the requests about single shards that a process has under way at once. When a fleet starts, or takes over from
	// many, there is one for every shard: they queue up at home then, since at etcd they would time out, be repeated, and keep it from
	// everything else, renewals above all. There they wait for as long as their contexts let them. What is rarer, or urgent, has no turn.
	maxInTurn = 2
	// maxReadsPerTxn is as maxActionsPerTxn.
	maxReadsPerTxn = 64
)

// queue is the requests about single shards that wait for their turn.
type queue struct {
	turns chan struct{} // holds a value for each request under way

	mu    sync.Mutex
	reads []*queuedRead
}

func newQueue() *queue { return &queue{turns: make(chan struct{}, maxInTurn)} }

// queuedRead is a key that is to be read.
type queuedRead struct {
	key  string
	done chan struct{} // closed when it was read, or could not be
	resp *clientv3.GetResponse
	err  error
}

// commitInTurn is commit, when its turn has come.
func (s *Store) commitInTurn(ctx context.Context, what string, cmps []clientv3.Cmp, ops ...clientv3.Op) (int64, error) {
	select {
	case s.queue.turns <- struct{}{}:
		defer func() { <-s.queue.turns }()
		return s.commit(ctx, what, cmps, ops...)
	case <-ctx.Done():
		return 0, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}

// getInTurn reads a key. Whose turn it is reads for all who wait, in one request, which goes on, for requestTimeout at most, if he gives up: the
// others wait for it.
func (s *Store) getInTurn(ctx context.Context, key string) (*clientv3.GetResponse, error) {
	read := s.queue.add(key)
	turns := s.queue.turns
	for {
		select {
		case <-read.done:
			return read.resp, read.err
		case turns <- struct{}{}:
			reads := s.queue.take()
			go func() {
				s.readSome(ctx, reads)
				<-s.queue.turns
			}()
			if !s.queue.has(read) {
				turns = nil // somebody reads it, or did
			}
		case <-ctx.Done():
			s.queue.remove(read)
			return nil, context.Cause(ctx)
		}
	}
}

// readSome reads for several, so its end does not depend on one's.
func (s *Store) readSome(ctx context.Context, reads []*queuedRead) {
	if len(reads) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	gets := make([]clientv3.Op, len(reads))
	for i, read := range reads {
		gets[i] = clientv3.OpGet(read.key)
	}
	resp, err := s.client.Txn(ctx).Then(gets...).Commit()
	for i, read := range reads {
		if read.err = err; err == nil {
			read.resp = (*clientv3.GetResponse)(resp.Responses[i].GetResponseRange())
		}
		close(read.done)
	}
}

func (q *queue) add(key string) *queuedRead {
	q.mu.Lock()
	defer q.mu.Unlock()
	read := &queuedRead{key: key, done: make(chan struct{})}
	q.reads = append(q.reads, read)
	return read
}

// take takes the first reads out, as many as fit into a transaction.
func (q *queue) take() []*queuedRead {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.reads), maxReadsPerTxn)
	taken := slices.Clone(q.reads[:n])
	q.reads = slices.Delete(q.reads, 0, n)
	return taken
}

func (q *queue) has(read *queuedRead) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Contains(q.reads, read)
}

func (q *queue) remove(read *queuedRead) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reads = slices.DeleteFunc(q.reads, func(r *queuedRead) bool { return r == read })
}
