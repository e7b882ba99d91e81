package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// lagShards is how many streams one pipeline of Writer.GroupLags asks about, so
// that it keeps nobody from Redis for long.
const lagShards = 64

// GroupLags returns, for each consumer group of the streams that are open here,
// how many entries it still has to read, where it has most of them. At
// Options.MaxLen the next ones are trimmed unread. Entries that were read and not
// acknowledged are not counted: they can be lost too, but the group has had them.
//
// The numbers are Redis' own. Where it has none, which is before version 7 and
// for groups that began in the middle of a stream, they are worked out from the
// ids, and too large if a filter is in force.
func (w *Writer) GroupLags(ctx context.Context) (map[string]int64, error) {
	lags := map[string]int64{}
	for logs := range slices.Chunk(w.openLogs(), lagShards) {
		type look struct {
			tail   ID
			groups *redis.XInfoGroupsCmd
			length *redis.IntCmd
		}
		looks := make([]look, len(logs))
		pipe := w.client.Pipeline()
		for i, l := range logs {
			key := EventsKey(w.opts.Cluster, l.shard)
			looks[i] = look{l.Tail(), pipe.XInfoGroups(ctx, key), pipe.XLen(ctx, key)}
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		for _, look := range looks {
			err := errors.Join(look.groups.Err(), look.length.Err())
			switch {
			case isNoKey(look.groups.Err()): // nothing was written yet
			case err != nil:
				return nil, fmt.Errorf("look at consumer groups: %w", err)
			}
			for _, g := range look.groups.Val() {
				lags[g.Name] = max(lags[g.Name], groupLag(g, look.tail, look.length.Val()))
			}
		}
	}
	return lags, nil
}

// groupLag is how many entries a group has not read of a stream that ends with
// tail and has so many entries.
func groupLag(g redis.XInfoGroup, tail ID, length int64) int64 {
	byID := behindByID(g.LastDeliveredID, tail.String(), length)
	if byID > 0 && g.Lag > 0 { // 0 is also what a server says that does not count
		return g.Lag
	}
	return byID
}
