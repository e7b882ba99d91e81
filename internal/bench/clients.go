//go:build unix

package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// token is what all clients identify with.
const token = "bench"

// runTimeout bounds one run, so that a lost event fails it instead of hanging.
const runTimeout = 2 * time.Minute

// client runs all shards of a run, and returns when the last entry is in Redis. It may leave all else to the end of the process.
type client func(ctx context.Context, s spec, m *meter) error

var clients = map[string]client{
	"muster": runMuster,
	"ideal":  runIdeal,
	"disgo":  runDisgo,
	"raw":    runRaw,
}

// runClient is a client process.
func runClient(s spec) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	m := &meter{spec: s, redis: redis.NewClient(&redis.Options{Addr: s.Redis})}
	if err := clients[s.Client](ctx, s, m); err != nil {
		return result{}, fmt.Errorf("%s: %w", s, err)
	}
	return m.stop()
}
