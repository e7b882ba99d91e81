package worker

import (
	"context"
	"sync"

	"github.com/muster-gateway/muster/pkg/lease"
)

// grants lets shards wait for the leader's answers to their identify requests.
type grants struct {
	mu       sync.Mutex
	requests map[lease.ShardID]lease.IdentifyRequest
	changed  chan struct{} // closed, and replaced, when requests change
}

func newGrants() *grants {
	return &grants{changed: make(chan struct{})}
}

// set replaces what is known of this worker's requests.
func (g *grants) set(requests map[lease.RequestID]lease.IdentifyRequest) {
	byShard := make(map[lease.ShardID]lease.IdentifyRequest, len(requests))
	for _, request := range requests {
		byShard[request.Shard] = request
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = byShard
	close(g.changed)
	g.changed = make(chan struct{})
}

// await returns the grant of the request that was made at the given revision, or ctx's cause.
func (g *grants) await(ctx context.Context, shard lease.ShardID, requested int64) (lease.IdentifyRequest, error) {
	for {
		g.mu.Lock()
		request, changed := g.requests[shard], g.changed
		g.mu.Unlock()
		if request.Granted && request.Revision > requested {
			return request, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return lease.IdentifyRequest{}, context.Cause(ctx)
		}
	}
}
