package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// mutedExpiry is how long a note of a muted session outlives its last renewal. It
// is longer than Discord keeps a session without a socket, which is minutes.
const mutedExpiry = time.Hour

// Muted says from where the muted session of a shard can be gone on with: after
// the event ID, which the session had a while ago. It counts for the session of
// that generation and epoch only.
type Muted struct {
	Shard      int
	Generation int
	ID         ID
}

// SaveMuted notes all of them. Each is noted or not by itself; the error is one of
// those that were not.
func SaveMuted(ctx context.Context, client Client, cluster string, all []Muted) error {
	if len(all) == 0 {
		return nil
	}
	pipe := client.Pipeline()
	for _, m := range all {
		pipe.Set(ctx, MutedKey(cluster, m.Shard), strconv.Itoa(m.Generation)+" "+m.ID.String(), mutedExpiry)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("note where muted sessions are: %w", err)
	}
	return nil
}

// ReadMuted returns the sequence number noted for the session of a shard, 0 if
// there is none.
func ReadMuted(ctx context.Context, client Client, cluster string, shard, generation int, epoch uint64) (int64, error) {
	text, err := client.Get(ctx, MutedKey(cluster, shard)).Result()
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") { // which is no note of ours
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("shard %d: read where its muted session is: %w", shard, err)
	}
	of, position, _ := strings.Cut(text, " ")
	id, err := ParseID(position)
	if err != nil || of != strconv.Itoa(generation) || id.Epoch != epoch {
		return 0, nil
	}
	return id.Seq, nil
}
