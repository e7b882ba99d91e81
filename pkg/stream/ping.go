package stream

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Client is a connection to Redis, as Open makes it. The name lets programs pass one on without knowing go-redis.
type Client = redis.UniversalClient

// Ping asks Redis for a sign of life.
func Ping(ctx context.Context, client Client) error {
	if err := client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}
