package stream_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/pkg/stream"
)

func TestWriterAppendsInOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, client redis.UniversalClient) {
		w := run(t, client, stream.Options{})
		const shards, entries = 3, 1000
		for shard := range shards {
			l := openLog(t, w, shard)
			if !l.Tail().IsZero() {
				t.Errorf("tail of a new stream is %v", l.Tail())
			}
			appendRun(t, l, id(1, 1), id(1, entries))
			flush(t, l)
			if l.Tail() != id(1, entries) {
				t.Errorf("tail is %v", l.Tail())
			}
		}
		for shard := range shards {
			checkRun(t, stored(t, client, shard), id(1, 1), id(1, entries))
		}
	})
}
