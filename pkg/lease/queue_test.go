package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// heldKV is an etcd that holds every transaction until it is released, and then grants it. The session record of shard n is of epoch n + 1.
type heldKV struct {
	clientv3.KV
	release chan struct{}

	mu                 sync.Mutex
	under, reads, keys int // requests under way; those that read, and what
	err                error
}

func (kv *heldKV) Txn(ctx context.Context) clientv3.Txn { return &heldTxn{kv: kv, ctx: ctx} }

type heldTxn struct {
	clientv3.Txn
	kv  *heldKV
	ctx context.Context
	ops []clientv3.Op
}

func (t *heldTxn) If(...clientv3.Cmp) clientv3.Txn      { return t }
func (t *heldTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.ops = ops; return t }

func (t *heldTxn) Commit() (*clientv3.TxnResponse, error) {
	kv := t.kv
	kv.mu.Lock()
	kv.under++
	kv.mu.Unlock()
	select {
	case <-kv.release:
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
	kv.mu.Lock()
	defer kv.mu.Unlock()
	kv.under--
	resp := &etcdserverpb.TxnResponse{Header: &etcdserverpb.ResponseHeader{Revision: 1}, Succeeded: true}
	for _, op := range t.ops {
		if !op.IsGet() {
			return (*clientv3.TxnResponse)(resp), kv.err
		}
		kv.keys++
		_, shard, _ := parsePair(strings.TrimPrefix(string(op.KeyBytes()), newKeys("c").prefix+dirSessions))
		record := &mvccpb.KeyValue{Value: fmt.Appendf(nil, `{"epoch":%d}`, shard+1)}
		resp.Responses = append(resp.Responses, &etcdserverpb.ResponseOp{Response: &etcdserverpb.ResponseOp_ResponseRange{
			ResponseRange: &etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{record}},
		}})
	}
	if len(t.ops) > 0 {
		kv.reads++
	}
	return (*clientv3.TxnResponse)(resp), kv.err
}

func (kv *heldKV) underWay() int {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	return kv.under
}

// held is an owner whose etcd holds everything.
func held(t *testing.T) (Ownership, *heldKV) {
	kv := &heldKV{release: make(chan struct{})}
	client := clientv3.NewCtxClient(t.Context())
	client.KV = kv
	s := &Store{client: client, keys: newKeys("c"), queue: newQueue()}
	return Ownership{Range: theRange, Fence: 5, reg: &Registration{store: s, ref: Ref{"a", 4}, tenure: tenure{life: t.Context()}}}, kv
}

// Shards that start together have few requests under way at once, and few in all for their session records. What is urgent does not
// wait behind them.
func TestShardsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, kv := held(t)
		var all sync.WaitGroup
		const shards = 3 * maxReadsPerTxn
		for shard := range shards {
			all.Go(func() {
				session, err := own.LoadSession(t.Context(), shard)
				if err != nil || session.Epoch != uint64(shard+1) {
					t.Errorf("session of shard %d is of epoch %d, %v", shard, session.Epoch, err)
				}
			})
			all.Go(func() {
				if _, err := own.RequestIdentify(t.Context(), shard, false); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				if err := own.Confirm(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if n := kv.underWay(); n != maxInTurn {
			t.Errorf("%d requests are under way, want %d", n, maxInTurn)
		}
		all.Go(func() {
			if err := own.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if n := kv.underWay(); n != maxInTurn+1 {
			t.Errorf("the release waits: %d requests are under way", n)
		}
		close(kv.release)
		all.Wait()
		if kv.keys != shards || kv.reads > maxInTurn+3 {
			t.Errorf("%d keys were read in %d requests", kv.keys, kv.reads)
		}
	})
}

// Who gives up waiting for a turn leaves nothing behind, and those who wait on are served.
func TestGivingUpATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, kv := held(t)
		queue := own.reg.store.queue
		ctx, giveUp := context.WithCancelCause(t.Context())
		why := errors.New("no longer")
		var all sync.WaitGroup
		load := func(ctx context.Context, want error) {
			all.Go(func() {
				if _, err := own.LoadSession(ctx, 0); !errors.Is(err, want) {
					t.Errorf("load: %v, want %v", err, want)
				}
			})
		}
		for range maxInTurn {
			load(t.Context(), nil)
			synctest.Wait() // or one would read for both
		}
		load(ctx, why)
		all.Go(func() {
			if err := own.Confirm(ctx); !errors.Is(err, why) {
				t.Errorf("confirm: %v", err)
			}
		})
		load(t.Context(), nil)
		synctest.Wait()
		giveUp(why)
		synctest.Wait()
		if len(queue.reads) != 1 {
			t.Errorf("%d reads are waiting, want 1", len(queue.reads))
		}
		close(kv.release)
		all.Wait()
		synctest.Wait() // a turn is given back after what it was for is told
		if len(queue.reads) > 0 || len(queue.turns) > 0 || kv.keys != maxInTurn+1 {
			t.Errorf("%d reads and %d turns are left, %d keys were read", len(queue.reads), len(queue.turns), kv.keys)
		}
	})
}

// Who reads for others and gives up does not wait for them, nor fail for them; but when etcd does, it fails for all it was asked for.
func TestReadingForOthers(t *testing.T) {
	for _, broken := range []error{nil, errors.New("broken")} {
		synctest.Test(t, func(t *testing.T) {
			own, kv := held(t)
			kv.err = broken
			ctx, giveUp := context.WithCancel(t.Context())
			var all sync.WaitGroup
			load := func() {
				all.Go(func() {
					if _, err := own.LoadSession(t.Context(), 0); !errors.Is(err, broken) {
						t.Errorf("load: %v, want %v", err, broken)
					}
				})
			}
			for range maxInTurn {
				own.reg.store.queue.turns <- struct{}{}
			}
			gone := false
			go func() {
				_, err := own.LoadSession(ctx, 0)
				gone = errors.Is(err, context.Canceled)
			}()
			synctest.Wait()
			load()
			load()
			synctest.Wait()
			<-own.reg.store.queue.turns
			synctest.Wait() // the first reads for the three of them
			giveUp()
			synctest.Wait()
			if !gone {
				t.Error("who gives up waits for what others want")
			}
			close(kv.release)
			all.Wait()
			if kv.reads != 1 || kv.keys != 3 {
				t.Errorf("%d keys were read in %d requests", kv.keys, kv.reads)
			}
		})
	}
}
