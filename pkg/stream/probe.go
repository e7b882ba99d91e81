package stream

import (
	"context"
	"fmt"
	"time"
)

// probeExpiry is how long a probe's key outlives the cluster.
const probeExpiry = time.Minute

// Probe asks Redis to take a write, of the key ProbeKey. That is more than a
// Ping: a server that is out of memory, or a replica, answers one. All workers of
// a cluster probe the same key, hence in a Redis Cluster the same node, so that
// what one of them sees can be held against what the others see.
func Probe(ctx context.Context, client Client, cluster string) error {
	if err := client.Set(ctx, ProbeKey(cluster), "1", probeExpiry).Err(); err != nil {
		return fmt.Errorf("probe redis: %w", err)
	}
	return nil
}
