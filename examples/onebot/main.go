// Onebot is a bot in one process, with neither etcd nor Redis: it answers "!ping" with "pong".
package main

import (
	"cmp"
	"context"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/disgoorg/disgo/gateway"

	"github.com/muster-gateway/muster/pkg/event"
	"github.com/muster-gateway/muster/pkg/shard"
)

var api, token = cmp.Or(os.Getenv("DISCORD_API_URL"), shard.DefaultAPIURL), os.Getenv("DISCORD_TOKEN")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cluster, err := shard.NewCluster(shard.ClusterConfig{
		Shard:  shard.Config{Token: token, Intents: shard.IntentGuildMessages | shard.IntentMessageContent},
		APIURL: api, Deliver: answer,
		Observe: func(id shard.ID, s shard.Status) { log.Printf("shard %s is %s", id, s.State) },
	})
	if err == nil {
		err = cluster.Run(ctx)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// answer holds up all other events while it posts: a busy bot would do that on another goroutine.
func answer(ctx context.Context, _ shard.ID, e shard.Event) error {
	if e.Type != "MESSAGE_CREATE" {
		return nil // not worth parsing
	}
	parsed, err := event.Parse(e.Type, e.Data)
	if message, ok := parsed.(gateway.EventMessageCreate); ok && message.Content == "!ping" {
		url := api + "/channels/" + message.ChannelID.String() + "/messages" // NewCluster has checked that this is an address
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"content":"pong"}`))
		req.Header = http.Header{"Authorization": {"Bot " + token}, "Content-Type": {"application/json"}}
		var resp *http.Response
		if resp, err = (&http.Client{Timeout: 5 * time.Second}).Do(req); err == nil {
			log.Printf("pong to %s: %s", message.Author.Username, resp.Status)
			err = resp.Body.Close()
		}
	}
	if err != nil {
		log.Print(err) // one message less is no reason to stop
	}
	return nil
}
