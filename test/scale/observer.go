//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/lease"
)

// patience bounds every wait for the cluster.
const patience = 10 * time.Minute

// observer follows the cluster as a coordinator does. It is one more follower for etcd to serve.
type observer struct {
	store  *lease.Store
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	state  lease.Cluster
	owners map[lease.RangeID]lease.Ref // before the last update
	moves  int                         // ranges that got another owner
	asked  map[lease.ShardID]bool      // for an identify slot, be it that they have one by now
}

func observe(ctx context.Context, etcd string) (*observer, error) {
	store, err := lease.Open(lease.Config{Endpoints: []string{etcd}, Cluster: cluster, Logger: hclog.New(&hclog.LoggerOptions{Name: "observer"})})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	o := &observer{store: store, cancel: cancel, done: make(chan error, 1), owners: map[lease.RangeID]lease.Ref{}, asked: map[lease.ShardID]bool{}}
	go func() { o.done <- store.FollowCluster(ctx, o.apply) }()
	return o, nil
}

func (o *observer) apply(u lease.Update) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	errs := o.state.Apply(u)
	for _, put := range u.Puts {
		var worker int
		var shard lease.ShardID
		if n, _ := fmt.Sscanf(put.Key, "idn/worker-%d/%d/%d", &worker, &shard.Generation, &shard.Shard); n == 3 {
			o.asked[shard] = true
		}
		var id lease.RangeID
		if n, _ := fmt.Sscanf(put.Key, "own/%d/%d", &id.Generation, &id.Index); n != 2 {
			continue
		}
		owner := o.state.Ranges[id].Owner
		if before, had := o.owners[id]; had && before != owner {
			o.moves++
		}
		o.owners[id] = owner
	}
	return errors.Join(errs...)
}

func (o *observer) close() {
	o.cancel()
	<-o.done
	_ = o.store.Close()
}

// count says how the cluster is.
type count struct {
	workers, owned, moving, asked, waiting, moves int
	live                                          int // as the workers last said, which at this size is up to five seconds ago
	plan                                          lease.Plan
	leader                                        string
}

func (o *observer) count() (c count) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c.workers, c.moves, c.plan, c.leader = len(o.state.Workers), o.moves, o.state.Plan, o.state.Leader.ID
	c.asked, c.waiting = len(o.asked), len(o.state.Requests)
	for _, r := range o.state.Ranges {
		if w, ok := o.state.Workers[r.Owner.Worker]; ok && w.Ref() == r.Owner {
			c.owned++
		}
		if r.Move != nil {
			c.moving++
		}
	}
	for id := range o.state.Workers {
		for _, s := range o.state.Status[id].Shards {
			if s.State == "live" {
				c.live++
			}
		}
	}
	return c
}

// await waits until the cluster is so, and says every few seconds how it is.
func (s *stage) await(ctx context.Context, what string, so func(count) bool) (count, error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	late, said := time.Now().Add(patience), time.Now()
	for {
		c := s.observer.count()
		if so(c) {
			return c, nil
		}
		now := time.Now()
		if now.After(late) {
			return c, fmt.Errorf("never came about: %s; %+v", what, c)
		}
		if now.Sub(said) > 5*time.Second {
			said = now
			s.say("  until %s: %d workers, %d of %d ranges owned, %d moving, %d shards live, %d waiting for a slot", what, c.workers, c.owned, c.plan.Ranges(), c.moving, c.live, c.waiting)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return c, context.Cause(ctx)
		}
	}
}
