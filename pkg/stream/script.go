package stream

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/redis/go-redis/v9"
)

//go:embed append.lua
var appendSource string

// appendScript is the only way muster writes to an events stream.
var appendScript = redis.NewScript(appendSource)

// The script's digest and text as arguments that are boxed once, not per call.
var (
	appendHash any = appendScript.Hash()
	appendText any = appendSource
)

// Tail returns the id a shard's stream ends with, zero if it was never written.
// It is the largest id the stream ever had: an entry deleted with XDEL still
// counts, since its id cannot be used again.
func Tail(ctx context.Context, client Client, cluster string, shard int) (ID, error) {
	text, err := appendScript.Run(ctx, client, []string{EventsKey(cluster, shard)}, ID{}.String(), 0).Text()
	if err != nil {
		return ID{}, fmt.Errorf("shard %d: read stream tail: %w", shard, err)
	}
	id, err := ParseID(text)
	if err != nil {
		return ID{}, fmt.Errorf("shard %d: read stream tail: %w", shard, err)
	}
	return id, nil
}
