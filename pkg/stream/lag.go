package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Lag says how far a group is behind in a shard's stream, and so how close it is
// to losing entries: streams are trimmed from their beginning, to about
// Options.MaxLen.
type Lag struct {
	Shard   int
	Length  int64 // entries the stream holds
	Behind  int64 // of these, those not yet delivered to any member
	Pending int64 // entries that were delivered and are not settled
	// Headroom is how many more entries can be trimmed before one is lost that
	// was not delivered. A stream that is not yet as long as it is to be has more.
	Headroom int64
}

// ReadLag returns the lag of a group in every stream of a cluster, in their order.
// A shard in which the group has not begun is left out.
//
// Redis counts what is behind from version 7 on. Where it does not know, Behind
// is what the ids tell, at most the stream's length: it may be too large, not too
// small.
func ReadLag(ctx context.Context, client Client, cluster, group string) ([]Lag, error) {
	c, err := ReadCluster(ctx, client, cluster)
	if err != nil {
		return nil, err
	}
	pipe := client.Pipeline()
	groups := make([]*redis.XInfoGroupsCmd, c.Streams)
	streams := make([]*redis.XInfoStreamCmd, c.Streams)
	for shard := range c.Streams {
		key := EventsKey(cluster, shard)
		groups[shard], streams[shard] = pipe.XInfoGroups(ctx, key), pipe.XInfoStream(ctx, key)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	var lags []Lag
	for shard := range c.Streams {
		if isNoKey(groups[shard].Err()) {
			continue
		}
		if err := errors.Join(groups[shard].Err(), streams[shard].Err()); err != nil {
			return nil, fmt.Errorf("group %s: lag in shard %d: %w", group, shard, err)
		}
		for _, g := range groups[shard].Val() {
			if g.Name == group {
				lags = append(lags, lagOf(shard, g, streams[shard].Val()))
			}
		}
	}
	return lags, nil
}

// isNoKey reports whether XINFO failed because the stream was never written. The
// client leaves the ERR in front out.
func isNoKey(err error) bool { return redis.HasErrorPrefix(err, "no such key") }

func lagOf(shard int, g redis.XInfoGroup, s *redis.XInfoStream) Lag {
	behind := g.Lag
	if g.EntriesRead == 0 && g.Lag == 0 || behind < 0 { // Redis 6 has neither, and later ones not always
		behind = behindByID(g.LastDeliveredID, s.LastGeneratedID, s.Length)
	}
	return Lag{Shard: shard, Length: s.Length, Behind: behind, Pending: g.Pending, Headroom: s.Length - behind}
}

// behindByID is how many entries of a stream follow one, as far as ids tell.
func behindByID(delivered, last string, length int64) int64 {
	at, errAt := ParseID(delivered)
	end, errEnd := ParseID(last)
	switch {
	case errAt != nil, errEnd != nil:
		return length
	case at.Compare(end) >= 0:
		return 0
	case at.Epoch == end.Epoch:
		return min(end.Seq-at.Seq, length)
	}
	return length
}
