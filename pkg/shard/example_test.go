package shard_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/shard"
)

const token = discordsim.DefaultToken

// simulatedDiscord stands in for https://discord.com/api/v10.
func simulatedDiscord(shards int) (api string, stop func()) {
	sim, err := discordsim.New(discordsim.Options{Shards: shards, MaxConcurrency: shards, Guilds: -1})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { sim.Run(ctx) })
	server := httptest.NewServer(sim.Handler())
	return server.URL + "/api/v10", func() {
		cancel()
		running.Wait()
		server.Close()
	}
}

// One shard, by itself: ask Discord where the gateway is, and run a session until the context ends.
func Example() {
	api, stop := simulatedDiscord(1)
	defer stop()

	ctx, cancel := context.WithCancel(context.Background())
	bot, err := shard.GetGatewayBot(ctx, nil, api, token)
	if err != nil {
		log.Fatal(err)
	}
	session, err := shard.New(shard.Config{
		ID:         shard.ID{Index: 0, Total: 1},
		Token:      token,
		Intents:    shard.IntentGuilds | shard.IntentGuildMessages,
		GatewayURL: bot.URL,
		Identifier: shard.NewIdentifyQueue(bot.Limits),
		Deliver: func(_ context.Context, e shard.Event) error {
			fmt.Println(e.Seq, e.Type)
			cancel() // a real bot would do so when it is to stop
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	err = session.Run(ctx)
	_, resumable := session.Resume()
	fmt.Println(session.Status().State, err, resumable)
	// Output:
	// 1 READY
	// stopped <nil> true
}

// All shards of a bot, as many as Discord recommends, with one stream of events.
func ExampleCluster() {
	api, stop := simulatedDiscord(3)
	defer stop()

	live := make(chan shard.ID)
	cluster, err := shard.NewCluster(shard.ClusterConfig{
		Shard:  shard.Config{Token: token, Intents: shard.IntentGuilds},
		APIURL: api,
		Deliver: func(_ context.Context, id shard.ID, e shard.Event) error {
			if e.Type == "READY" {
				live <- id
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := cluster.Up(ctx); err != nil {
		log.Fatal(err)
	}
	for range cluster.Sessions() {
		<-live
	}
	fmt.Println("down:", cluster.Down(ctx)) // the sessions can be resumed; after End they could not
	for _, session := range cluster.Sessions() {
		status := session.Status() // has its latency as well, once it has been measured
		fmt.Println(session.ID(), status.State, status.Identifies)
	}
	// Output:
	// down: <nil>
	// 0/3 stopped 1
	// 1/3 stopped 1
	// 2/3 stopped 1
}

// fileStore keeps sessions in a file. Whoever can read it and knows the token can take them over.
type fileStore struct {
	path string
	mu   sync.Mutex
}

// saved is a shard.Resume with the session's id, which that never gives away by itself.
type saved struct {
	SessionID, URL string
	Seq            int64
}

func (f *fileStore) read() (map[string]saved, error) {
	sessions := map[string]saved{}
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return sessions, nil
	}
	if err != nil {
		return nil, err
	}
	return sessions, json.Unmarshal(text, &sessions)
}

func (f *fileStore) Load(_ context.Context, id shard.ID) (shard.Resume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sessions, err := f.read()
	return shard.Resume(sessions[id.String()]), err
}

func (f *fileStore) Begin(ctx context.Context, id shard.ID, session shard.Resume) error {
	return f.End(ctx, id, session)
}

func (f *fileStore) End(_ context.Context, id shard.ID, session shard.Resume) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	sessions, err := f.read()
	if err != nil {
		return err
	}
	sessions[id.String()] = saved(session)
	text, err := json.Marshal(sessions)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(f.path+".new", f.path)
}

// With a Store that outlives the process, so do the sessions: the next one resumes them.
func ExampleStore() {
	api, stop := simulatedDiscord(2)
	defer stop()
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	for process := range 2 {
		var mu sync.Mutex
		live, all := 0, make(chan struct{})
		cluster, err := shard.NewCluster(shard.ClusterConfig{
			Shard: shard.Config{
				Token: token, Intents: shard.IntentGuilds,
				Store: &fileStore{path: filepath.Join(dir, "sessions.json")},
			},
			APIURL:  api,
			Deliver: func(context.Context, shard.ID, shard.Event) error { return nil },
			Observe: func(_ shard.ID, status shard.Status) {
				mu.Lock()
				defer mu.Unlock()
				if status.State == shard.StateLive {
					if live++; live == 2 {
						close(all)
					}
				}
			},
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := cluster.Up(context.Background()); err != nil {
			log.Fatal(err)
		}
		<-all
		if err := cluster.Down(context.Background()); err != nil {
			log.Fatal(err)
		}
		for _, session := range cluster.Sessions() {
			status := session.Status()
			fmt.Printf("process %d, shard %s: %d identified, %d resumed\n", process, session.ID(), status.Identifies, status.Resumes)
		}
	}
	// Output:
	// process 0, shard 0/2: 1 identified, 0 resumed
	// process 0, shard 1/2: 1 identified, 0 resumed
	// process 1, shard 0/2: 0 identified, 1 resumed
	// process 1, shard 1/2: 0 identified, 1 resumed
}
