package worker

import (
	"context"
	"errors"
	"sync"

	"github.com/muster-gateway/muster/pkg/lease"
)

// grants lets shards wait for the leader's answers to their identify requests.
type grants struct {
	mu       sync.Mutex
	requests map[lease.ShardID]lease.IdentifyRequest
	listed   int64         // revision at which all requests were last read, not just followed
	changed  chan struct{} // closed, and replaced, when requests change
}

func newGrants() *grants {
	return &grants{changed: make(chan struct{})}
}

// set replaces what is known of this worker's requests, by an update.
func (g *grants) set(requests map[lease.RequestID]lease.IdentifyRequest, by lease.Update) {
	byShard := make(map[lease.ShardID]lease.IdentifyRequest, len(requests))
	for _, request := range requests {
		byShard[request.Shard] = request
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = byShard
	if by.Reset {
		g.listed = by.Revision
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// errRequestGone says that a request is not there any more: the leader took it for one that nobody waits for. It may have been
// misled, by events that etcd did not tell it of, so the shard has to ask again.
var errRequestGone = errors.New("identify request is gone")

// await returns the grant of the request that was made at the given revision, errRequestGone, or ctx's cause.
func (g *grants) await(ctx context.Context, shard lease.ShardID, requested int64) (lease.IdentifyRequest, error) {
	seen := false
	for {
		g.mu.Lock()
		request, there := g.requests[shard]
		listed, changed := g.listed, g.changed
		g.mu.Unlock()
		switch {
		case request.Granted && request.Revision > requested:
			return request, nil
		case there:
			seen = seen || request.Revision >= requested
		case seen || listed >= requested:
			return lease.IdentifyRequest{}, errRequestGone
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return lease.IdentifyRequest{}, context.Cause(ctx)
		}
	}
}
