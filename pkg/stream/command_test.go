package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

func note(n int) stream.Command {
	return stream.Command{Op: 4, Data: json.RawMessage(fmt.Sprint(n))}
}

// runCommands starts a reader that is stopped, and waited for, with the test.
func runCommands(t testing.TB, client redis.UniversalClient) *stream.CommandReader {
	t.Helper()
	r := stream.NewCommandReader(client, stream.CommandReaderOptions{Cluster: cluster})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func openQueue(r *stream.CommandReader, shard int) *stream.CommandQueue {
	q := r.Open(shard)
	q.SetReading(true)
	return q
}

func receive(t testing.TB, q *stream.CommandQueue) stream.QueuedCommand {
	t.Helper()
	select {
	case c := <-q.Commands():
		return c
	case <-deadline(t).Done():
		t.Fatal("no command comes")
		return stream.QueuedCommand{}
	}
}

// expectNotes receives notes and settles them.
func expectNotes(t testing.TB, q *stream.CommandQueue, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		c := receive(t, q)
		if c.Err != nil || c.Op != 4 || string(c.Data) != fmt.Sprint(n) {
			t.Fatalf("%+v came where %d was due", c, n)
		}
		if err := c.Done(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
}

func sendNotes(t testing.TB, commands *stream.Commands, shard, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		if _, err := commands.To(deadline(t), shard, note(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// empty fails the test unless a stream of a shard has nothing in it.
func empty(t testing.TB, client redis.UniversalClient, key string) {
	t.Helper()
	if n, err := client.XLen(deadline(t), key).Result(); n != 0 || err != nil {
		t.Errorf("%s has %d entries, error %v", key, n, err)
	}
}

// onAll runs a test against redis-server, miniredis, and a Redis Cluster.
func onAll(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	onBoth(t, test)
	t.Run("cluster", func(t *testing.T) {
		nodes := redistest.StartCluster(t, 3)
		test(t, open(t, nodes[0].URL()+"?cluster=true"))
	})
}

func TestCommandsReachTheirShard(t *testing.T) {
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		const shards, each = 6, 30
		publish(t, client, shards, 1)
		commands := stream.NewCommands(client, cluster)
		r := runCommands(t, client)
		queues := make([]*stream.CommandQueue, shards)
		for shard := range shards {
			sendNotes(t, commands, shard, 1, each)
			queues[shard] = openQueue(r, shard)
		}
		for shard, q := range queues {
			expectNotes(t, q, 1, each)
			sendNotes(t, commands, shard, each+1, each+3) // to one that waits for them
			expectNotes(t, q, each+1, each+3)
			empty(t, client, stream.CommandsKey(cluster, shard))
		}
	})
}

// The next owner begins with what the one before had and did not settle, in order.
func TestCommandsOfTheOwnerBefore(t *testing.T) {
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		publish(t, client, 1, 1)
		sendNotes(t, stream.NewCommands(client, cluster), 0, 1, 100)
		old := openQueue(runCommands(t, client), 0)
		for n := 1; n <= 5; n++ {
			c := receive(t, old)
			if n == 1 || n == 4 {
				if err := c.Done(deadline(t)); err != nil {
					t.Fatal(err)
				}
			}
		}
		// It goes on reading, as one that is paused or cut off may, and takes nothing away thereby.
		q := openQueue(runCommands(t, client), 0)
		for _, n := range []int{2, 3, 5, 6, 7} {
			expectNotes(t, q, n, n)
		}
		old.Close()
		expectNotes(t, q, 8, 100)
		empty(t, client, stream.CommandsKey(cluster, 0))
	})
}

// A flood stays in Redis, but for a window.
func TestCommandsAreBounded(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	publish(t, client, 2, 1)
	commands := stream.NewCommands(client, cluster)
	r := runCommands(t, client)
	flooded, other := openQueue(r, 0), openQueue(r, 1)
	sendNotes(t, commands, 0, 1, 500)
	var held []stream.QueuedCommand
	for len(held) < 64 {
		held = append(held, receive(t, flooded))
	}
	for n := 1; n <= 10; n++ { // rounds that would bring more
		sendNotes(t, commands, 1, n, n)
		expectNotes(t, other, n, n)
	}
	if n := len(flooded.Commands()); n != 0 {
		t.Errorf("%d more were read", n)
	}
	for _, c := range held {
		if err := c.Done(deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	expectNotes(t, flooded, 65, 500)
}

// While its session is not live, a shard's commands wait in Redis.
func TestCommandsNotRead(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	publish(t, client, 2, 1)
	commands := stream.NewCommands(client, cluster)
	r := runCommands(t, client)
	q, other := r.Open(0), openQueue(r, 1)
	sendNotes(t, commands, 0, 1, 3)
	sendNotes(t, commands, 1, 1, 3)
	expectNotes(t, other, 1, 3)
	if n := len(q.Commands()); n != 0 {
		t.Errorf("%d were read before the time", n)
	}
	q.SetReading(true)
	expectNotes(t, q, 1, 3)
	q.SetReading(false)
}

func TestDeadLetters(t *testing.T) {
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		publish(t, client, 1, 1)
		commands := stream.NewCommands(client, cluster)
		q := openQueue(runCommands(t, client), 0)
		add := func(values ...any) stream.CommandRef {
			t.Helper()
			id, err := client.XAdd(deadline(t), &redis.XAddArgs{Stream: stream.CommandsKey(cluster, 0), Values: values}).Result()
			if err != nil {
				t.Fatal(err)
			}
			return stream.CommandRef{ID: id}
		}
		long := strings.Repeat("9", 100_000)
		for _, values := range [][]any{{"op", 3}, {"op", "x", "d", "{}"}, {"op", 3, "d", long}, {"odd", "entry"}} {
			ref := add(values...)
			if fate, err := commands.Fate(deadline(t), ref); err != nil || !fate.Waiting {
				t.Errorf("before it is read: %+v, %v", fate, err)
			}
			c := receive(t, q)
			if c.ID != ref.ID || c.Err == nil {
				t.Fatalf("%v is read as %+v", values, c)
			}
			if err := c.Bury(deadline(t), c.Err.Error()); err != nil {
				t.Fatal(err)
			}
			if fate, err := commands.Fate(deadline(t), ref); err != nil || fate.Waiting || fate.Dropped != c.Err.Error() {
				t.Errorf("fate of %v: %+v, %v", values, fate, err)
			}
		}
		empty(t, client, stream.CommandsKey(cluster, 0))
		dead, err := client.XRange(deadline(t), stream.DeadCommandsKey(cluster, 0), "-", "+").Result()
		if err != nil || len(dead) != 4 {
			t.Fatalf("%d dead letters, error %v", len(dead), err)
		}
		if d, _ := dead[2].Values["d"].(string); len(d) != stream.MaxCommandBytes || dead[2].Values["op"] != "3" || dead[2].Values["at"] == "" {
			t.Errorf("the large one has %d bytes: %v", len(d), dead[2].Values["op"])
		}

		ref, err := commands.To(deadline(t), 0, note(1))
		if err != nil {
			t.Fatal(err)
		}
		c := receive(t, q)
		if err := client.ScriptFlush(deadline(t)).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Done(deadline(t)); err != nil {
			t.Fatal(err)
		}
		if fate, err := commands.Fate(deadline(t), ref); err != nil || fate != (stream.CommandFate{}) {
			t.Errorf("fate of what was sent: %+v, %v", fate, err)
		}
		if err := c.Bury(deadline(t), "twice"); err != nil { // as if the answer to an earlier call was lost
			t.Fatal(err)
		}
		if n := client.XLen(deadline(t), stream.DeadCommandsKey(cluster, 0)).Val(); n != 4 {
			t.Errorf("%d dead letters", n)
		}
	})
}

func TestDeadLettersAreTrimmed(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	publish(t, client, 1, 1)
	commands := stream.NewCommands(client, cluster)
	q := openQueue(runCommands(t, client), 0)
	for n := range 1005 {
		sendNotes(t, commands, 0, n, n)
		if err := receive(t, q).Bury(deadline(t), "test"); err != nil {
			t.Fatal(err)
		}
	}
	if n := client.XLen(deadline(t), stream.DeadCommandsKey(cluster, 0)).Val(); n != 1000 {
		t.Errorf("%d dead letters", n)
	}
}

// Redis goes away, with and without its data: what it has comes, and what is settled meanwhile is removed when it is back.
func TestCommandsThroughAnOutage(t *testing.T) {
	for name, args := range map[string][]string{"kept": {"--appendonly", "yes", "--appendfsync", "always"}, "lost": nil} {
		t.Run(name, func(t *testing.T) {
			server := redistest.StartReal(t, args...)
			client := open(t, server.URL())
			publish(t, client, 1, 1)
			commands := stream.NewCommands(client, cluster)
			sendNotes(t, commands, 0, 1, 10) // all of them before they are read, so that they are read together
			q := openQueue(runCommands(t, client), 0)
			expectNotes(t, q, 1, 5)
			c := receive(t, q)
			server.Kill()
			if _, err := commands.To(deadline(t), 0, note(99)); err == nil {
				t.Error("a command is accepted while redis is away")
			}
			settled := make(chan error, 1)
			go func() { settled <- c.Done(deadline(t)) }()
			server.Start()
			if err := <-settled; err != nil {
				t.Fatal(err)
			}
			publish(t, client, 1, 1)
			sendNotes(t, commands, 0, 11, 12)
			expectNotes(t, q, 7, 10) // they were read before
			expectNotes(t, q, 11, 12)
			empty(t, client, stream.CommandsKey(cluster, 0))
		})
	}
}

// A command of a connection that breaks while it is being settled is settled once.
func TestCommandSettledThroughALostReply(t *testing.T) {
	server := redistest.StartReal(t)
	proxy := redistest.NewProxy(t, server)
	direct, through := open(t, server.URL()), open(t, proxy.URL())
	publish(t, direct, 1, 1)
	commands := stream.NewCommands(direct, cluster)
	q := openQueue(runCommands(t, through), 0)
	sendNotes(t, commands, 0, 1, 2)
	for range 2 {
		c := receive(t, q)
		q.SetReading(false)
		proxy.CutReplies(3)
		if err := c.Bury(deadline(t), "test"); err != nil {
			t.Fatal(err)
		}
		q.SetReading(true)
	}
	if n := direct.XLen(deadline(t), stream.DeadCommandsKey(cluster, 0)).Val(); n != 2 {
		t.Errorf("%d dead letters", n)
	}
}

// What cannot be settled in time stays.
func TestCommandNotSettledInTime(t *testing.T) {
	server := redistest.StartReal(t)
	client := open(t, server.URL())
	publish(t, client, 1, 1)
	sendNotes(t, stream.NewCommands(client, cluster), 0, 1, 1)
	c := receive(t, openQueue(runCommands(t, client), 0))
	server.Kill()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Done(ctx); err == nil || !strings.Contains(err.Error(), c.ID) {
		t.Errorf("error %v", err)
	}
}

func TestCommandsGoWhereTheGuildIs(t *testing.T) {
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		commands := stream.NewCommands(client, cluster)
		if _, err := commands.ToGuild(deadline(t), 1, note(0)); !errors.Is(err, stream.ErrNoCluster) {
			t.Errorf("before the cluster is published: %v", err)
		}
		const guild = 81384788765712384
		for generation, shards := range []int{4, 7, 2} {
			publish(t, client, shards, uint64(generation+1))
			want := int((guild >> 22) % uint64(shards))
			ref, err := commands.ToGuild(deadline(t), guild, note(shards))
			if err != nil || ref.Shard != want {
				t.Errorf("of %d shards %+v was chosen, want %d, error %v", shards, ref, want, err)
			}
			all, err := commands.ToAll(deadline(t), note(-shards))
			if err != nil || len(all) != shards {
				t.Errorf("of %d shards %d were chosen, error %v", shards, len(all), err)
			}
			for shard, ref := range all {
				if ref.Shard != shard || ref.ID == "" {
					t.Errorf("reference %d is %+v", shard, ref)
				}
			}
			for _, shard := range []int{-1, shards} {
				var none *stream.NoShardError
				if _, err := commands.To(deadline(t), shard, note(0)); !errors.As(err, &none) || *none != (stream.NoShardError{Shard: shard, Shards: shards}) {
					t.Errorf("shard %d of %d: %v", shard, shards, err)
				}
			}
		}
		if n := client.XLen(deadline(t), stream.CommandsKey(cluster, 7)).Val(); n != 0 {
			t.Errorf("a shard that does not exist was sent %d commands", n)
		}
	})
}

// An entry has what the documentation says, for owners of any version.
func TestCommandEntry(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	publish(t, client, 1, 1)
	commands := stream.NewCommands(client, cluster)
	expires := time.UnixMilli(1_700_000_000_123)
	_, err := commands.To(deadline(t), 0, stream.Command{Op: 3, Data: json.RawMessage(` {"status" : "idle"} `), Expires: expires})
	if err != nil {
		t.Fatal(err)
	}
	entries := client.XRange(deadline(t), "test:{0}:commands", "-", "+").Val()
	if len(entries) != 1 || len(entries[0].Values) != 3 || entries[0].Values["op"] != "3" ||
		entries[0].Values["d"] != `{"status":"idle"}` || entries[0].Values["exp"] != "1700000000123" {
		t.Errorf("the entry is %v", entries)
	}
	if _, err := commands.ToAll(deadline(t), stream.Command{Op: 3, Data: json.RawMessage(`{`)}); !errors.Is(err, stream.ErrBadCommand) {
		t.Errorf("a bad one: %v", err)
	}
}
