package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// behindProxy gives a worker a way to Redis of its own.
func (c *cluster) behindProxy(proxy *redistest.Proxy, o stream.Options) func(*Worker) {
	c.t.Helper()
	client, err := stream.Open(proxy.URL())
	must(c.t, err)
	c.t.Cleanup(func() { _ = client.Close() })
	o.Cluster = c.name
	return func(w *Worker) {
		w.cfg.Redis = client
		w.writer = stream.NewWriter(client, o)
	}
}

// Another owner of the same session is ahead in a shard's stream. Whoever is refused closes its socket, asks whether the shard is
// still its own, and goes on from where the stream ends.
func TestAnotherOwnerIsAhead(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	proxy := redistest.NewProxy(t, c.redis)
	a := c.start("a", c.behindProxy(proxy, stream.Options{}))
	c.awaitLive()
	c.settled()
	tail, err := stream.Tail(t.Context(), c.client, c.name, 2)
	must(t, err)
	c.await(func() string { // or what it does not know to be there is sent again, and what follows comes in one batch behind it
		if a.writer.Stats().Buffered > 0 {
			return "it knows that all is there"
		}
		return ""
	})
	proxy.Cut()
	before := a.writer.Stats().Retries
	for i := int64(1); i <= 2; i++ {
		data := fmt.Sprintf(`{"number":%d}`, i)
		_, err := c.sim.Dispatch(2, "TEST", []byte(data))
		must(t, err)
		c.await(func() string {
			if a.writer.Stats().Retries == before {
				return "the first of them is in a batch that is on its way"
			}
			return ""
		})
		must(t, c.client.XAdd(t.Context(), &redis.XAddArgs{
			Stream: stream.EventsKey(c.name, 2), ID: stream.ID{Epoch: tail.Epoch, Seq: tail.Seq + i}.String(), Values: []any{"t", "TEST", "d", data},
		}).Err())
	}
	proxy.Turn(c.redis)
	c.await(func() string {
		if c.out.count("another owner has written to the stream") == 0 {
			return "it is refused"
		}
		return ""
	})
	_, err = c.sim.Dispatch(2, "TEST", []byte(`{"number":3}`))
	must(t, err)
	c.expect(c.shards, 0)
	if c.out.count("ownership confirmed") == 0 {
		t.Error("it did not ask whose the shard is")
	}
}

// Who has lost the range does not even open the stream again.
func TestStaleOwnerStaysOut(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", nil)
	c.awaitLive()
	connects := a.metrics.connects.Load()
	in := a.current.Load()
	lost := &rangeRun{in: in, own: in.reg.Own(lease.Assignment{Range: lease.RangeID{Generation: 1, Index: 99}, Fence: 1}), log: in.log}
	r := newRunner(lost, 99)
	r.doubted = true
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // in which it would connect
	defer cancel()
	if err := r.attempt(ctx); !errors.Is(err, lease.ErrFenced) {
		t.Errorf("error is %v", err)
	}
	if now := a.metrics.connects.Load(); now != connects {
		t.Error("it has opened a socket")
	}
	c.expect(c.shards, 0)
}
