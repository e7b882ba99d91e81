package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// consumerURL makes the test binary a consumer of the Redis that it names, and
// consumerPoison is the id of entries at which it dies.
const (
	consumerURL    = "MUSTER_TEST_CONSUMER_REDIS"
	consumerPoison = "MUSTER_TEST_CONSUMER_POISON"
)

// Keys by which consumer processes say what they do: which process is in a
// shard's handler, those found there by another, and what was handled.
func insideKey(shard int) string  { return fmt.Sprintf("inside:%d", shard) }
func handledKey(shard int) string { return fmt.Sprintf("handled:%d", shard) }

const metKey = "met"

// consumerMain is the life of a consumer process. Its handler stays for a moment,
// so that it is likely to be in one when something happens to the process.
func consumerMain(url string) {
	client, err := stream.Open(url)
	if err != nil {
		panic(err)
	}
	r, err := stream.NewReader(client, stream.ReaderOptions{
		Cluster: cluster, Group: groupName, From: "0", Parallel: 4, LeaseTTL: 2 * minTTL, MaxDeliveries: 3,
	})
	if err != nil {
		panic(err)
	}
	self, poison := strconv.Itoa(os.Getpid()), os.Getenv(consumerPoison)
	fmt.Println("ready")
	_ = r.Run(context.Background(), func(ctx context.Context, m stream.Message) error {
		if m.ID.String() == poison {
			os.Exit(1)
		}
		key := insideKey(m.Shard)
		other, err := client.SetArgs(ctx, key, self, redis.SetArgs{Get: true}).Result()
		if err == nil && other != "" {
			client.RPush(ctx, metKey, other+" "+self+" "+m.ID.String())
		}
		time.Sleep(time.Millisecond) // the work
		pipe := client.TxPipeline()
		pipe.RPush(context.Background(), handledKey(m.Shard), m.ID.String())
		pipe.Set(context.Background(), key, "", 0)
		_, err = pipe.Exec(context.Background())
		return err
	})
}

type process struct {
	cmd *exec.Cmd
	pid string
}

// startConsumer starts a consumer process that is killed with the test, and
// returns when it reads.
func startConsumer(t *testing.T, url string, env ...string) process {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = append(append(os.Environ(), consumerURL+"="+url), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails only if it has ended
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the consumer said %q, error %v", line, err)
	}
	return process{cmd, strconv.Itoa(cmd.Process.Pid)}
}

func (p process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func handledOf(ctx context.Context, t *testing.T, client redis.UniversalClient, shard int) []stream.ID {
	t.Helper()
	texts, err := client.LRange(ctx, handledKey(shard), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]stream.ID, len(texts))
	for i, text := range texts {
		if ids[i], err = stream.ParseID(text); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

// Processes are killed, paused for longer than their leases, and started, in the
// middle of their handlers, while a writer writes. Every entry is handled, in
// order within its shard, and no two processes are in one shard's handler unless
// one of them was paused, or is dead.
func TestGroupOfProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: takes long")
	}
	server := redistest.StartReal(t)
	client := open(t, server.URL())
	ctx := deadline(t)
	const shards, entries = 16, 600
	publish(t, client, shards, 1)

	killed, paused, stays := startConsumer(t, server.URL()), startConsumer(t, server.URL()), startConsumer(t, server.URL())
	written := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		defer close(written)
		for seq := int64(1); seq <= entries; seq++ {
			pipe := client.Pipeline()
			for shard := range shards {
				e := event(id(1, seq))
				pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream.EventsKey(cluster, shard), ID: e.ID.String(), Values: []any{"t", e.Type, "d", e.Data}})
			}
			if _, err := pipe.Exec(ctx); err != nil {
				t.Error(err)
				return
			}
			pauseFor(ctx, 10*time.Millisecond) // or all would be over before anything happens
		}
	})
	handledAtLeast := func(n int64) {
		t.Helper()
		for {
			var sum int64
			for shard := range shards {
				sum += client.LLen(ctx, handledKey(shard)).Val()
			}
			if sum >= n {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("%d handled, want %d", sum, n)
			}
			pauseFor(ctx, 20*time.Millisecond)
		}
	}

	handledAtLeast(shards * entries / 10)
	killed.signal(t, syscall.SIGKILL)
	handledAtLeast(shards * entries / 5)
	paused.signal(t, syscall.SIGSTOP)
	startConsumer(t, server.URL())
	<-written
	// All but what the paused process has in hand can be handled only when its
	// leases are over; so this is beyond them.
	handledAtLeast(shards * entries)
	paused.signal(t, syscall.SIGCONT)
	writing.Wait()

	for shard := range shards {
		for {
			ids := handledOf(ctx, t, client, shard)
			if len(ids) > 0 && slices.Contains(ids, id(1, entries)) && pendingIn(t, client, shard) == 0 {
				checkRun(t, firsts(ids), id(1, 1), id(1, entries))
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("shard %d: not all is handled", shard)
			}
			pauseFor(ctx, 20*time.Millisecond)
		}
	}
	met, err := client.LRange(ctx, metKey, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range met {
		if in := strings.Fields(pair); !slices.Contains([]string{killed.pid, paused.pid}, in[0]) && in[1] != paused.pid {
			t.Errorf("processes met in a handler: %s (killed %s, paused %s, stays %s)", pair, killed.pid, paused.pid, stays.pid)
		}
	}
}

// An entry that kills whoever handles it is given up like any other, and only
// that: those behind it, which were read with it each time, are not.
func TestGroupSurvivesAPoisonousEntry(t *testing.T) {
	server := redistest.StartReal(t)
	client := open(t, server.URL())
	ctx := deadline(t)
	publish(t, client, 1, 1)
	addEvents(t, client, 0, id(1, 1), id(1, 10))
	poison := consumerPoison + "=1-4"
	deaths := 0
	for client.XLen(ctx, stream.DeadKey(cluster, 0, groupName)).Val() == 0 {
		p := startConsumer(t, server.URL(), poison)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = p.cmd.Wait()
		}()
		for open := true; open && client.XLen(ctx, stream.DeadKey(cluster, 0, groupName)).Val() == 0; {
			select {
			case <-ended:
				deaths++
				open = false
			default:
				pauseFor(ctx, 10*time.Millisecond)
			}
		}
		if ctx.Err() != nil {
			t.Fatal("it is not given up")
		}
		if client.XLen(ctx, stream.DeadKey(cluster, 0, groupName)).Val() > 0 {
			for len(firsts(handledOf(ctx, t, client, 0))) < 9 && ctx.Err() == nil { // some come twice
				pauseFor(ctx, 10*time.Millisecond)
			}
			_ = p.cmd.Process.Kill()
			<-ended
		}
	}
	if deaths != 3 {
		t.Errorf("%d processes died of it, want 3", deaths)
	}
	ids := firsts(handledOf(ctx, t, client, 0))
	if len(ids) != 9 {
		t.Fatalf("handled %v", ids)
	}
	checkRun(t, ids[:3], id(1, 1), id(1, 3))
	checkRun(t, ids[3:], id(1, 5), id(1, 10))
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
