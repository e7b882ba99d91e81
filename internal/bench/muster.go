//go:build unix

package bench

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// runMuster runs sessions and logs, tied together as the worker does it (worker/attempt.go) but for what is in etcd: who owns a shard,
// when it may identify and which session it has.
func runMuster(ctx context.Context, s spec, m *meter) error {
	client, err := stream.Open("redis://" + s.Redis + "/0")
	if err != nil {
		return err
	}
	writer := stream.NewWriter(client, stream.Options{Cluster: cluster, MaxLen: maxLen})
	go func() { _ = writer.Run(ctx) }()

	var counts counts
	var shards errgroup.Group
	for i := range s.Shards {
		log, err := writer.Open(ctx, i)
		if err != nil {
			return err
		}
		a := &attempt{spec: s, meter: m, counts: &counts, log: log, done: make(chan struct{})}
		session, err := shard.New(shard.Config{
			ID: shard.ID{Index: i, Total: s.Shards}, Token: token, Intents: shard.IntentsUnprivileged,
			Compression: shard.Compression(s.Transport), GatewayURL: s.url(),
			Identifier: a, Store: a, Deliver: a.deliver,
		})
		if err != nil {
			return err
		}
		shards.Go(func() error { return a.run(ctx, session) })
	}
	return shards.Wait()
}

// counts are the worker's metrics of each event.
type counts struct{ events, bytes atomic.Uint64 }

// attempt is one shard, after the worker's type of that name.
type attempt struct {
	shard.MemoryStore
	spec   spec
	meter  *meter
	counts *counts
	log    *stream.Log
	epoch  uint64
	done   chan struct{}
}

// run returns when the last event is in Redis, or the session has ended before.
func (a *attempt) run(ctx context.Context, session *shard.Session) error {
	failed := make(chan error, 1)
	go func() { failed <- session.Run(ctx) }()
	select {
	case <-a.done:
		return nil
	case err := <-failed:
		if err == nil {
			err = context.Cause(ctx)
		}
		return err
	}
}

// Permit implements shard.Identifier: at once.
func (a *attempt) Permit(context.Context, shard.ID) (shard.Permit, error) { return shard.Permit{}, nil }

// Begin implements shard.Store.
func (a *attempt) Begin(ctx context.Context, id shard.ID, session shard.Resume) error {
	a.epoch++
	return a.MemoryStore.Begin(ctx, id, session)
}

func (a *attempt) deliver(ctx context.Context, e shard.Event) error {
	a.meter.event(e.Seq)
	a.counts.events.Add(1)
	a.counts.bytes.Add(uint64(len(e.Data)))
	err := a.log.Append(ctx, stream.Entry{ID: stream.ID{Epoch: a.epoch, Seq: e.Seq}, Type: e.Type, Data: e.Data})
	if err != nil || e.Seq < int64(a.spec.Events)+1 {
		return err
	}
	defer close(a.done)
	return a.log.Flush(ctx)
}
