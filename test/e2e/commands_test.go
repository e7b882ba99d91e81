package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/pkg/stream"
)

var nonce = regexp.MustCompile(`"nonce":"n-(\d+)"`)

// Commands that are waiting when their shard's worker is killed are sent by the next one, from the oldest on. What the dead one sent and
// could not remove any more is sent again: at most the one that was on its way.
func TestCommandsOfAKilledWorker(t *testing.T) {
	t.Parallel()
	c := start(t)
	client, err := stream.Open(c.RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	commands := stream.NewCommands(client, c.Cluster)
	guild := c.Sim.Guilds()[0]
	const count = 250 // more than two connections may send in a minute
	var ref stream.CommandRef
	for n := range count {
		ref, err = commands.ToGuild(c.ctx, guild, stream.Command{
			Op: 8, Data: fmt.Appendf(nil, `{"guild_id":"%d","query":"a","limit":1,"nonce":"n-%d"}`, guild, n),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	waiting := func() int64 { return client.XLen(c.ctx, stream.CommandsKey(c.Cluster, ref.Shard)).Val() }
	for kills, left := 0, int64(count); left > 0; kills++ {
		if kills > 0 {
			view := c.await("the shard to be live", func(v *api.Cluster) bool { return live(v) == shards })
			victim := c.Workers()[ownerOf(view, ref.Shard)]
			if _, err := c.StartWorker(); err != nil {
				t.Fatal(err)
			}
			c.signal(victim, syscall.SIGKILL)
			c.awaitExit(victim)
		}
		c.poll(fmt.Sprintf("commands to go on after %d kills", kills), func() bool { return waiting() == 0 || waiting() <= left-80 })
		left = waiting()
	}
	c.mustBeClean(shards)
	next, repeated := 0, 0
	for _, n := range answered(t, c, client, ref.Shard) {
		switch {
		case n == next:
			next++
		case n == next-1:
			repeated++
		default:
			t.Errorf("%d was answered where %d was due", n, next)
		}
	}
	if next != count || repeated > 3 {
		t.Errorf("%d of %d were answered, %d of them again", next, count, repeated)
	}
}

func ownerOf(v *api.Cluster, shard int) string {
	for _, s := range v.ShardStates {
		if s.Shard == shard {
			return s.Worker
		}
	}
	return ""
}

// answered is the requests that Discord has answered, in order.
func answered(t *testing.T, c *cluster, client stream.Client, shard int) (numbers []int) {
	t.Helper()
	entries, err := client.XRange(c.ctx, stream.EventsKey(c.Cluster, shard), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		d, _ := entry.Values["d"].(string)
		if match := nonce.FindStringSubmatch(d); match != nil {
			n, err := strconv.Atoi(match[1])
			if err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// The command line says where a command went and what became of it.
func TestSend(t *testing.T) {
	t.Parallel()
	c := start(t)
	send := func(args ...string) (string, int) {
		cmd := exec.CommandContext(c.ctx, binary, append([]string{"send", "--redis-url", c.RedisURL, "--cluster", c.Cluster}, args...)...)
		out, _ := cmd.CombinedOutput() // its exit code says more
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, tt := range []struct {
		args string
		says string
		code int
	}{
		{`--all --presence {"status":"idle"} --wait 1m`, "shard 15: sent", 0},
		{`--guild 81384788765712384 --op 4 --data {"guild_id":"81384788765712384","channel_id":null} --wait 1m`, ": sent", 0},
		{`--shard 3 --op 99 --data {} --wait 1m`, "shard 3: dropped: bad command: op 99", 1},
		{`--shard 3 --op 3 --data {"status":"idle"} --expires 1ns --wait 1m`, "shard 3: dropped: expired", 1},
		{`--shard 16 --op 3 --data {}`, "no shard 16: the cluster has 16", 2},
		{`--shard 3 --op 3 --data {`, "d is not JSON", 2},
		{`--shard 3 --op 3 --data "` + strings.Repeat("a", 5000) + `"`, "Discord accepts 4096", 2},
	} {
		said, code := send(strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(said, tt.says) {
			t.Errorf("muster send %.80s: exit code %d, said:\n%s", tt.args, code, said)
		}
	}
	c.mustBeClean(shards)
	for _, v := range c.Sim.Violations() {
		t.Errorf("violation: %+v", v)
	}
}
