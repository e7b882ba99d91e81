package stream

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// follow keeps the shards being read those of the cluster, and settles where
// each begins.
func (r *Reader) follow(ctx context.Context) error {
	if r.opts.Shards != nil && r.began || time.Since(r.checked) < clusterRefresh {
		return nil
	}
	shards, err := r.lookUp(ctx)
	if err != nil {
		return err
	}
	if err := r.begin(ctx, shards); err != nil {
		return err
	}
	if len(r.shards) > 0 && len(shards) != len(r.shards) {
		r.logger.Info("there are more streams to read", "streams", len(shards), "before", len(r.shards))
	}
	r.shards, r.began, r.checked = shards, true, time.Now()
	return nil
}

// lookUp returns the shards to read: none while the cluster is not published.
// Streams of a time when there were more shards are read on, so that nothing is
// left in them unread.
func (r *Reader) lookUp(ctx context.Context) ([]int, error) {
	if r.opts.Shards != nil {
		return r.opts.Shards, nil
	}
	c, err := ReadCluster(ctx, r.client, r.opts.Cluster)
	if err != nil && !errors.Is(err, ErrNoCluster) {
		return nil, err
	}
	shards := make([]int, c.Streams)
	for i := range shards {
		shards[i] = i
	}
	return shards, nil
}

// begin gives each shard that has none its cursor. "$" becomes the id the stream
// ends with now: asked for again with every command, it would skip what is
// appended between two.
func (r *Reader) begin(ctx context.Context, shards []int) error {
	for _, shard := range shards {
		if _, ok := r.cursors[shard]; ok {
			continue
		}
		from := r.opts.From
		switch {
		case r.began: // the shard is new
			from = ID{}.String()
		case from == "$":
			tail, err := Tail(ctx, r.client, r.opts.Cluster, shard)
			if err != nil {
				return err
			}
			from = tail.String()
		}
		r.cursors[shard] = from
	}
	return nil
}

// oneServer reports whether one command may use keys of several shards, which
// in a Redis Cluster lie in different slots.
func oneServer(client Client) bool {
	_, isCluster := client.(*redis.ClusterClient)
	return !isCluster
}
