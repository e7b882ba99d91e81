package stream_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Everything here happens to a real redis-server.

func TestReplyLostAfterTheBatchWasAppended(t *testing.T) {
	server := redistest.StartReal(t)
	direct := open(t, server.URL())
	proxy := redistest.NewProxy(t, server)
	w := run(t, open(t, proxy.URL()), stream.Options{})
	l := openLog(t, w, 0)
	const batches = 20
	appendRun(t, l, id(1, 1), id(1, 10)) // connects, so that the reply lost is not a handshake's
	flush(t, l)
	for i := int64(1); i < batches; i++ {
		proxy.CutReplies(1)
		appendRun(t, l, id(1, i*10+1), id(1, i*10+10))
		flush(t, l)
	}
	checkRun(t, stored(t, direct, 0), id(1, 1), id(1, batches*10))
	if s := w.Stats(); s.Retries < batches-1 {
		t.Errorf("not every batch was sent again, so little was tested: %+v", s)
	}
}

func TestRedisKilledAndRestarted(t *testing.T) {
	server := redistest.StartReal(t, "--appendonly", "yes", "--appendfsync", "always")
	client := open(t, server.URL())
	w := run(t, client, stream.Options{})
	const shards, entries = 4, 2000
	logs := make([]*stream.Log, shards)
	for shard := range logs {
		logs[shard] = openLog(t, w, shard)
	}
	for seq := int64(1); seq <= entries; seq++ {
		for _, l := range logs {
			appendRun(t, l, id(1, seq), id(1, seq))
		}
		if seq%500 == 0 { // while batches are on their way
			server.Kill()
			server.Start()
		}
	}
	for shard, l := range logs {
		flush(t, l)
		checkRun(t, stored(t, client, shard), id(1, 1), id(1, entries))
	}
}

// A Redis that comes back without what it had confirmed is noticed at the next
// append. Where the writer has not kept as much, the owner goes on from the real
// end.
func TestRedisLostItsTail(t *testing.T) {
	server := redistest.StartReal(t)
	client := open(t, server.URL())
	w := run(t, client, stream.Options{ReplayBytes: 1})
	l := openLog(t, w, 0)
	appendRun(t, l, id(1, 1), id(1, 10))
	flush(t, l)
	server.Kill()
	server.Start()

	appendRun(t, l, id(1, 11), id(1, 11))
	err := l.Flush(deadline(t))
	var refused *stream.RefusedError
	if !errors.As(err, &refused) || !refused.Behind() || refused.Want != id(1, 10) || !refused.Tail.IsZero() {
		t.Fatalf("error is %v", err)
	}
	if ids := stored(t, client, 0); len(ids) > 0 {
		t.Errorf("written after all: %v", ids)
	}

	l = openLog(t, w, 0)
	if err := l.Append(deadline(t), event(id(1, 11))); !errors.As(err, new(*stream.OrderError)) {
		t.Errorf("as if nothing had happened: error is %v", err)
	}
	if err := l.Append(deadline(t), event(id(2, 0))); err != nil {
		t.Fatal(err)
	}
	appendRun(t, l, id(2, 1), id(2, 5))
	flush(t, l)
	checkRun(t, stored(t, client, 0), id(2, 0), id(2, 5))
}

// Two owners of one session write the same log. Each that is refused goes on
// from the stream's end; the log is whole and holds everything once.
func TestTwoWritersRace(t *testing.T) {
	onBoth(t, func(t *testing.T, client redis.UniversalClient) {
		const owners, entries = 3, 3000
		var racing sync.WaitGroup
		for range owners {
			w := run(t, client, stream.Options{MaxBytes: 20_000})
			racing.Go(func() {
				for {
					l, err := w.Open(deadline(t), 0)
					if err != nil {
						t.Error(err)
						return
					}
					for seq := l.Tail().Seq + 1; seq <= entries && err == nil; seq++ {
						err = l.Append(deadline(t), event(id(1, seq)))
					}
					if err == nil {
						err = l.Flush(deadline(t))
					}
					if err == nil {
						return
					}
					if !errors.As(err, new(*stream.RefusedError)) {
						t.Error(err)
						return
					}
				}
			})
		}
		racing.Wait()
		checkRun(t, stored(t, client, 0), id(1, 1), id(1, entries))
	})
}

// A log that is closed while Redis is away leaves nothing behind that would have to be sent to show that Redis is back.
func TestTroubleEndsWithItsLogs(t *testing.T) {
	server := redistest.StartReal(t)
	proxy := redistest.NewProxy(t, server)
	w := run(t, open(t, proxy.URL()), stream.Options{})
	l := openLog(t, w, 0)
	appendRun(t, l, id(1, 1), id(1, 3))
	flush(t, l)
	proxy.Cut()
	appendRun(t, l, id(1, 4), id(1, 5))
	awaitTrouble(t, w, true)
	l.Close()
	awaitTrouble(t, w, false)
}

// awaitTrouble polls until the writer says that Redis fails, or no longer.
func awaitTrouble(t *testing.T, w *stream.Writer, failing bool) {
	t.Helper()
	for ctx := deadline(t); w.Stats().FailingSince.IsZero() == failing; {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("failing %v never came about", failing)
		}
	}
}
