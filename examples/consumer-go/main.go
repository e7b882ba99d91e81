// Command consumer-go reads a muster cluster's events with a consumer group and answers nobody: it prints what people write.
// Start it as often as you like; the processes share the shards, and each shard's events stay in order.
//
//	REDIS_URL=redis://127.0.0.1:6379 go run ./examples/consumer-go
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/disgoorg/disgo/gateway"
	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/event"
	"github.com/muster-gateway/muster/pkg/stream"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := stream.Open(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	reader, err := stream.NewReader(client, stream.ReaderOptions{
		Cluster: cmp.Or(os.Getenv("MUSTER_CLUSTER"), "muster"),
		Group:   cmp.Or(os.Getenv("GROUP"), "example-go"),
		Logger:  hclog.Default(),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := reader.Run(ctx, handle); err != nil {
		log.Fatal(err)
	}
}

// handle is given each event at least once: m.Shard and m.ID tell whether it was handled before. An error has it tried again.
func handle(_ context.Context, m stream.Message) error {
	if m.Type == stream.GapType {
		fmt.Printf("shard %d: events may be missing here: fetch again what you keep of its guilds: %s\n", m.Shard, m.Data)
		return nil
	}
	parsed, err := event.Parse(m.Type, m.Data)
	if err != nil {
		return err
	}
	if e, ok := parsed.(gateway.EventMessageCreate); ok {
		fmt.Printf("shard %d: %s: %s\n", m.Shard, e.Author.Username, e.Content)
	}
	return nil
}
