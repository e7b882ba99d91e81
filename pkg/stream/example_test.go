package stream_test

import (
	"context"
	"fmt"
	"log"

	"github.com/muster-gateway/muster/pkg/stream"
)

// Any number of such processes share the shards of the cluster. A handler's error
// has the same message tried again.
func ExampleReader_Run() {
	client, err := stream.Open("redis://127.0.0.1:6379")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	reader, err := stream.NewReader(client, stream.ReaderOptions{Cluster: "muster", Group: "my-bot"})
	if err != nil {
		log.Fatal(err)
	}
	err = reader.Run(context.Background(), func(ctx context.Context, m stream.Message) error {
		if m.Type == stream.GapType {
			fmt.Println("events of shard", m.Shard, "may be missing here")
			return nil
		}
		fmt.Println(m.Shard, m.ID, m.Type, len(m.Data), "bytes of JSON")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

// Without a group every reader gets everything, and nothing is acknowledged.
func ExampleReader_Messages() {
	client, err := stream.Open("redis://127.0.0.1:6379")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	reader, err := stream.NewReader(client, stream.ReaderOptions{Cluster: "muster", From: "0", Types: []string{"MESSAGE_CREATE"}})
	if err != nil {
		log.Fatal(err)
	}
	for m := range reader.Messages(context.Background()) {
		fmt.Println(m.Shard, m.ID, string(m.Data))
	}
}

func ExampleReadLag() {
	client, err := stream.Open("redis://127.0.0.1:6379")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	lags, err := stream.ReadLag(context.Background(), client, "muster", "my-bot")
	if err != nil {
		log.Fatal(err)
	}
	for _, lag := range lags {
		fmt.Printf("shard %d: %d behind, %d until entries are lost\n", lag.Shard, lag.Behind, lag.Headroom)
	}
}

// Ids say which session of its shard brought an event, and which of its events it is.
func ExampleParseID() {
	id, err := stream.ParseID("3-4711")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id.Epoch, id.Seq, id.Compare(stream.ID{Epoch: 3, Seq: 4710}))
	// Output: 3 4711 1
}
