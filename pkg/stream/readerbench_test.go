package stream_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// BenchmarkRead reads what is in the streams already: 600 bytes an entry, handled
// by nothing. With a group that includes the acknowledgements. The last two are
// the plain commands, one stream, as many entries at a time: what there is to be
// had.
func BenchmarkRead(b *testing.B) {
	for _, shards := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("alone/%d", shards), func(b *testing.B) { benchRead(b, shards, stream.ReaderOptions{From: "0"}) })
		b.Run(fmt.Sprintf("group/%d", shards), func(b *testing.B) { benchRead(b, shards, stream.ReaderOptions{From: "0", Group: groupName}) })
	}
	b.Run("xread/1", func(b *testing.B) {
		benchPlain(b, func(ctx context.Context, client redis.UniversalClient, key, last string) ([]redis.XStream, error) {
			return client.XRead(ctx, &redis.XReadArgs{Streams: []string{key, last}, Count: 1024}).Result()
		})
	})
	b.Run("xreadgroup+xack/1", func(b *testing.B) {
		benchPlain(b, func(ctx context.Context, client redis.UniversalClient, key, last string) ([]redis.XStream, error) {
			if last == "0" {
				if err := client.XGroupCreate(ctx, key, groupName, "0").Err(); err != nil {
					return nil, err
				}
			}
			args := &redis.XReadGroupArgs{Group: groupName, Consumer: "c", Streams: []string{key, ">"}, Count: 1024}
			got, err := client.XReadGroup(ctx, args).Result()
			if err != nil {
				return nil, err
			}
			ids := make([]string, len(got[0].Messages))
			for i, m := range got[0].Messages {
				ids[i] = m.ID
			}
			return got, client.XAck(ctx, key, groupName, ids...).Err()
		})
	})
}

func benchRead(b *testing.B, shards int, opts stream.ReaderOptions) {
	client := open(b, redistest.StartReal(b).URL())
	publish(b, client, shards, 1)
	fillStreams(b, client, shards, b.N)
	r := newReader(b, client, opts)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var read atomic.Int64
	defer measure(b, client)()
	err := r.Run(ctx, func(context.Context, stream.Message) error {
		if read.Add(1) == int64(b.N) {
			cancel()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func benchPlain(b *testing.B, read func(ctx context.Context, client redis.UniversalClient, key, last string) ([]redis.XStream, error)) {
	client := open(b, redistest.StartReal(b).URL())
	fillStreams(b, client, 1, b.N)
	key, last := stream.EventsKey(cluster, 0), "0"
	defer measure(b, client)()
	for n := 0; n < b.N; {
		got, err := read(context.Background(), client, key, last)
		if err != nil {
			b.Fatal(err)
		}
		n += len(got[0].Messages)
		last = got[0].Messages[len(got[0].Messages)-1].ID
	}
}

func fillStreams(b *testing.B, client redis.UniversalClient, shards, n int) {
	b.Helper()
	data := bytes.Repeat([]byte("x"), benchBytes)
	pipe := client.Pipeline()
	for i := range n {
		pipe.XAdd(context.Background(), &redis.XAddArgs{
			Stream: stream.EventsKey(cluster, i%shards), ID: id(1, int64(i/shards)+1).String(), Values: []any{"t", "MESSAGE_CREATE", "d", data},
		})
		if pipe.Len() == 1000 || i == n-1 {
			if _, err := pipe.Exec(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
