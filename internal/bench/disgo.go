//go:build unix

package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/disgoorg/disgo/gateway"
	"golang.org/x/sync/errgroup"
)

// runDisgo has disgo's gateway client do the same, with the raw events that it offers for it, and the ideal's sink.
func runDisgo(ctx context.Context, s spec, m *meter) error {
	sink := newSink(s)
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	var opening errgroup.Group
	for i := range s.Shards {
		var data bytes.Buffer
		handle := func(_ gateway.Gateway, _ gateway.EventType, seq int, e gateway.EventData) {
			raw, ok := e.(gateway.EventRaw)
			if !ok {
				return
			}
			m.event(int64(seq))
			data.Reset()
			_, err := io.Copy(&data, raw.Payload)
			if err == nil {
				err = sink.add(i, string(raw.EventType), int64(seq), data.Bytes())
			}
			if err != nil {
				sink.fail(err)
			}
		}
		g := gateway.New(token, handle,
			gateway.WithURL(s.url()), gateway.WithShardID(i), gateway.WithShardCount(s.Shards),
			gateway.WithCompression(gateway.CompressionType(s.Transport)), gateway.WithIntents(gateway.IntentsAll),
			gateway.WithEnableRawEvents(true), gateway.WithLogger(logger))
		opening.Go(func() error { return g.Open(ctx) })
	}
	go func() {
		if err := opening.Wait(); err != nil {
			sink.fail(fmt.Errorf("open: %w", err))
		}
	}()
	return sink.run(ctx)
}
