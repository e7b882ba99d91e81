//go:build unix

package bench

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// samplePause is between two looks at the streams, so that the looking costs Redis little.
const samplePause = 3 * time.Millisecond

// pace sends each event when it is due, all shards in turn, each in a write of its own.
func (p *play) pace() {
	start, gap := time.Now(), time.Second/time.Duration(p.shards*p.rate)
	for i := range p.shards * p.events {
		due := start.Add(time.Duration(i) * gap)
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		shard, message := i%p.shards, 2+i/p.shards
		p.latency.sent(shard, message)
		if _, err := p.conns[shard].Write(p.stream.messages(message, message+1)); err != nil {
			break // the client is gone, and its run fails
		}
	}
	p.latency.stop()
}

// latency measures how long events take from the gateway's write until they can be read from Redis. It waits for the next new entry of
// any stream, rests, and waits for the next. The wait is by one command, so what is measured includes its answer's way back.
type latency struct {
	start  time.Time
	shards [][]atomic.Int64 // when each message was sent, since start
	keys   []string
	cancel context.CancelFunc
	done   sync.WaitGroup

	samples []time.Duration // to be read when done
}

// latencies are what came out, in order.
type latencies []time.Duration

func newLatency(p *play, addr string) *latency {
	ctx, cancel := context.WithCancel(context.Background())
	l := &latency{start: time.Now(), cancel: cancel, shards: make([][]atomic.Int64, p.shards)}
	for i := range l.shards {
		l.shards[i] = make([]atomic.Int64, p.events+2)
		l.keys = append(l.keys, key(i))
	}
	l.done.Go(func() { l.sample(ctx, addr) })
	return l
}

func (l *latency) sent(shard, message int) {
	l.shards[shard][message].Store(int64(time.Since(l.start)))
}

// stop ends the measuring a moment after the last event.
func (l *latency) stop() {
	time.Sleep(20 * time.Millisecond)
	l.cancel()
}

func (l *latency) sample(ctx context.Context, addr string) {
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	streams := slices.Clone(l.keys)
	for range l.keys {
		streams = append(streams, "$")
	}
	for ctx.Err() == nil {
		read, err := client.XRead(ctx, &redis.XReadArgs{Streams: streams, Count: 1, Block: 100 * time.Millisecond}).Result()
		now := time.Since(l.start)
		if err != nil || len(read) == 0 {
			continue
		}
		if sent := l.sentAt(read[0]); sent > 0 {
			l.samples = append(l.samples, now-sent)
		}
		time.Sleep(samplePause)
	}
}

// sentAt is when the entry's event was sent. muster has its number in the entry's id, the others in a field.
func (l *latency) sentAt(read redis.XStream) time.Duration {
	shard, entry := slices.Index(l.keys, read.Stream), read.Messages[0]
	number, ok := entry.Values["s"].(string)
	if !ok {
		_, number, _ = strings.Cut(entry.ID, "-")
	}
	seq, err := strconv.Atoi(number)
	if err != nil || seq >= len(l.shards[shard]) {
		return 0
	}
	return time.Duration(l.shards[shard][seq].Load())
}

// reportLatency answers with all samples of a run, once it is over.
func (g *fakeGateway) reportLatency(w http.ResponseWriter, r *http.Request) {
	run, err := strconv.Atoi(r.PathValue("run"))
	g.mu.Lock()
	p := g.runs[run]
	g.mu.Unlock()
	if err != nil || p == nil || p.latency == nil {
		http.Error(w, "no such paced run", http.StatusNotFound)
		return
	}
	p.latency.done.Wait()
	_ = json.NewEncoder(w).Encode(p.latency.samples)
}

// at returns the latency that so large a part of the events do not exceed.
func (l latencies) at(part float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[min(len(l)-1, int(part*float64(len(l))))]
}
