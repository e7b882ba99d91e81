package discordsim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	"github.com/muster-gateway/muster/pkg/discordsim"
)

// A simulated Discord on a free port of loopback, asked what a bot asks first.
func Example() {
	sim, err := discordsim.New(discordsim.Options{Token: "my-token", Shards: 4, MaxConcurrency: 2, Rate: 500})
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- sim.Serve(ctx, listener) }()

	api := "http://" + listener.Addr().String() + "/api/v10" // what a bot takes for https://discord.com/api/v10
	request, err := http.NewRequest(http.MethodGet, api+"/gateway/bot", nil)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Authorization", "Bot my-token")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	var bot struct {
		Shards int
		Limit  struct {
			Remaining      int
			MaxConcurrency int `json:"max_concurrency"`
		} `json:"session_start_limit"`
	}
	if err := json.NewDecoder(response.Body).Decode(&bot); err != nil {
		panic(err)
	}
	fmt.Printf("%d shards, %d at a time, %d identifies left\n", bot.Shards, bot.Limit.MaxConcurrency, bot.Limit.Remaining)

	// … a bot would connect here …

	stop()
	fmt.Println(<-served, len(sim.Violations()))
	// Output:
	// 4 shards, 2 at a time, 1000 identifies left
	// <nil> 0
}
