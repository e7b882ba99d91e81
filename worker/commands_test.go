package worker

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// producer sends numbered requests for members of one guild, which Discord answers in its shard's stream.
type producer struct {
	c        *cluster
	commands *stream.Commands
	guild    uint64
	shard    int
	sent     int
	refs     []stream.CommandRef
}

// produce waits until producers can know the cluster.
func (c *cluster) produce() *producer {
	c.t.Helper()
	p := &producer{c: c, commands: stream.NewCommands(c.client, c.name), guild: c.sim.Guilds()[0]}
	p.shard = int((p.guild >> 22) % uint64(c.shards))
	c.await(func() string {
		if _, err := stream.ReadCluster(c.t.Context(), c.client, c.name); err != nil {
			return err.Error()
		}
		return ""
	})
	return p
}

func (p *producer) request(n int) stream.Command {
	return stream.Command{Op: 8, Data: fmt.Appendf(nil, `{"guild_id":"%d","query":"a","limit":1,"nonce":"n-%d"}`, p.guild, n)}
}

// send sends so many requests.
func (p *producer) send(count int) {
	p.c.t.Helper()
	for range count {
		ref, err := p.commands.ToGuild(p.c.t.Context(), p.guild, p.request(p.sent))
		must(p.c.t, err)
		if ref.Shard != p.shard {
			p.c.t.Fatalf("the guild of shard %d is looked for on shard %d", p.shard, ref.Shard)
		}
		p.refs = append(p.refs, ref)
		p.sent++
	}
}

func (p *producer) waiting() int64 {
	p.c.t.Helper()
	n, err := p.c.client.XLen(p.c.t.Context(), stream.CommandsKey(p.c.name, p.shard)).Result()
	must(p.c.t, err)
	return n
}

// drained waits until no command waits any more.
func (p *producer) drained() {
	p.c.t.Helper()
	p.c.await(func() string {
		if n := p.waiting(); n > 0 {
			return fmt.Sprintf("%d commands still wait", n)
		}
		return ""
	})
}

// pushed is drained for a flood: as often as the limit of a connection may be reached it makes Discord ask for another.
func (p *producer) pushed() {
	p.c.t.Helper()
	for p.waiting() > 0 {
		before := p.waiting()
		p.c.sim.Reconnect(p.shard)
		p.c.await(func() string {
			if now := p.waiting(); now > 0 && now == before {
				return fmt.Sprintf("%d commands still wait", now)
			}
			return ""
		})
	}
}

var nonce = regexp.MustCompile(`"nonce":"n-(\d+)"`)

// answered is the requests that Discord has answered, in the order of its answers.
func (p *producer) answered() (numbers []int) {
	p.c.t.Helper()
	p.c.settled()
	_, raw := p.c.read()
	for _, match := range nonce.FindAllStringSubmatch(raw, -1) {
		n, err := strconv.Atoi(match[1])
		must(p.c.t, err)
		numbers = append(numbers, n)
	}
	return numbers
}

// exactly fails the test unless all requests but those left out were answered once, in order.
func (p *producer) exactly(leftOut ...int) {
	p.c.t.Helper()
	var want []int
	for n := range p.sent {
		if !slices.Contains(leftOut, n) {
			want = append(want, n)
		}
	}
	if got := p.answered(); !slices.Equal(got, want) {
		p.c.t.Errorf("answered were %v, want %v", got, want)
	}
}

func (c *cluster) noViolations() {
	c.t.Helper()
	for _, v := range c.sim.Violations() {
		c.t.Errorf("violation: %+v", v)
	}
}

func TestCommandsAreSentInOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", nil)
	p := c.produce()
	p.send(20) // before there is a session
	c.awaitLive()
	p.send(20)
	_, err := p.commands.ToAll(t.Context(), stream.Command{Op: 3, Data: json.RawMessage(`{"since":null,"activities":[],"status":"idle","afk":false}`)})
	must(t, err)
	p.drained()
	p.exactly()
	c.await(func() string {
		if _, body := a.get("/metrics"); !strings.Contains(body, "muster_worker_commands_sent_total 44") {
			return "40 requests and 4 presences are counted"
		}
		return ""
	})
	c.noViolations()
	c.expect(c.shards, 0)
}

// 1000 commands to one shard go out as Discord's limit allows, about a hundred on each of its connections here, while heartbeats are sent
// and events come. Each time the limit is reached Discord asks for a new connection, or this would take nine minutes.
func TestFloodOfCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{sim: discordsim.Options{HeartbeatInterval: 3 * time.Second, HeartbeatGrace: 10 * time.Second}})
	a := c.start("a", nil)
	c.awaitLive()
	p := c.produce()
	p.send(1000)
	for {
		sent, since := a.sent(), time.Now()
		c.await(func() string {
			if now := a.sent(); now > sent {
				sent, since = now, time.Now()
			}
			if p.waiting() > 0 && time.Since(since) < time.Second {
				return "the limit is reached, or all is sent"
			}
			return ""
		})
		if p.waiting() == 0 {
			break
		}
		c.sim.Reconnect(p.shard)
	}
	if reconnects := a.metrics.connects.Load() - uint64(c.shards); reconnects < 8 {
		t.Errorf("%d more connections were enough", reconnects)
	}
	p.exactly()
	c.noViolations()
	c.expect(c.shards, 0)
}

// sent is how many commands the worker has sent.
func (p *process) sent() (n int) {
	p.c.t.Helper()
	_, body := p.get("/metrics")
	_, after, ok := strings.Cut(body, "\nmuster_worker_commands_sent_total ")
	line, _, _ := strings.Cut(after, "\n")
	n, err := strconv.Atoi(line)
	if !ok || err != nil {
		p.c.t.Fatalf("no number of commands sent: %q, %v", line, err)
	}
	return n
}

// busyHeart leaves few of the messages of a minute to commands, so that some wait.
var busyHeart = discordsim.Options{HeartbeatInterval: 700 * time.Millisecond, HeartbeatGrace: patience}

// A handover in the middle of a flood costs no command and repeats none.
func TestCommandsAcrossAHandover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{sim: busyHeart})
	a := c.start("a", patientDrain)
	c.awaitLive()
	p := c.produce()
	p.send(60)
	c.await(func() string {
		if a.sent() < 10 {
			return "a has sent some"
		}
		return ""
	})
	b := c.start("b", nil)
	c.leader.await("b is there", func(s *lease.Cluster) bool { return s.Workers["b"].Incarnation != 0 })
	a.end()
	p.pushed()
	if n := b.sent(); n == 0 || n >= p.sent {
		t.Errorf("b has sent %d of %d", n, p.sent)
	}
	p.exactly()
	c.noViolations()
	c.expect(c.shards, 0)
}

// A worker that is cut off from etcd is taken over while it lives on and reads the same commands.
func TestCommandsAcrossATakeover(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	link := c.etcd.Link(t)
	a := c.startAt("a", link.Endpoints(), shortTTL)
	c.awaitLive()
	p := c.produce()
	p.send(5)
	p.drained()
	link.Cut()
	c.start("b", nil)
	c.leader.await("b owns everything", ownedBy("b"))
	c.await(func() string {
		if c.sim.Stats().Resumes < c.shards || a.live() > 0 {
			return "b has resumed every session, and a has noticed"
		}
		return ""
	})
	p.send(20)
	p.drained()
	p.exactly()
	link.Mend()
	c.leader.await("a is back as another incarnation", func(s *lease.Cluster) bool { return s.Workers["a"].Incarnation > s.Workers["b"].Incarnation })
	c.expect(c.shards, 0)
}

// live is how many live sessions the worker has.
func (p *process) live() (n int) {
	in := p.current.Load()
	if in == nil {
		return 0
	}
	for _, s := range in.board.sessions() {
		if s.State == shard.StateLive {
			n++
		}
	}
	return n
}

// What can never be sent, whoever put it there, becomes a dead letter, and neither the connection nor other commands notice.
func TestBadCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", nil)
	c.awaitLive()
	p := c.produce()
	guild := fmt.Sprint(p.guild)
	bad := []map[string]string{
		{"d": "{}"},
		{"op": "3"},
		{"op": "presence", "d": "{}"},
		{"op": "3", "d": "{"},
		{"op": "3", "d": "{}", "exp": "soon"},
		{"op": "3", "d": `{"status":"asleep"}`},
		{"op": "3", "d": `{"status":"idle","activities":[{"name":"` + strings.Repeat("<", 2000) + `"}]}`}, // it grows on the way
		{"op": "4", "d": "[]"},
		{"op": "4", "d": `{"channel_id":"1"}`},
		{"op": "2", "d": `{"token":"x"}`},
		{"op": "1", "d": "null"},
		{"op": "99", "d": "{}"},
		{"op": "8", "d": `{"guild_id":"` + guild + `"}`},
		{"op": "8", "d": strings.Repeat("8", 10_000)},
		{"odd": "entry"},
	}
	for i, fields := range bad {
		xadd := []any{"XADD", stream.CommandsKey(c.name, p.shard), "*"}
		for name, value := range fields {
			xadd = append(xadd, name, value)
		}
		must(t, c.client.Do(t.Context(), xadd...).Err())
		if i%2 == 0 {
			p.send(1)
		}
	}
	p.drained()
	p.exactly()
	dead, err := c.client.XRange(t.Context(), stream.DeadCommandsKey(c.name, p.shard), "-", "+").Result()
	must(t, err)
	if len(dead) != len(bad) {
		t.Errorf("%d dead letters, want %d: %v", len(dead), len(bad), dead)
	}
	for _, letter := range dead {
		if reason, _ := letter.Values["reason"].(string); !strings.HasPrefix(reason, "bad command: ") {
			t.Errorf("a dead letter's reason is %q", reason)
		}
	}
	if _, body := a.get("/metrics"); !strings.Contains(body, fmt.Sprintf(`muster_worker_commands_dropped_total{reason="bad"} %d`, len(bad))) {
		t.Error("they are not counted")
	}
	if n := c.out.count("[WARN]  a.commands"); n > 1 {
		t.Errorf("%d warnings", n)
	}
	if n := a.metrics.connects.Load(); n != uint64(c.shards) {
		t.Errorf("%d connections", n)
	}
	c.noViolations()
	c.expect(c.shards, 0)
}

// A command that is not sent in its time never is, whether it waits in Redis or for a limit of Discord's.
func TestExpiredCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{sim: busyHeart})
	a := c.start("a", nil)
	c.awaitLive()
	p := c.produce()
	late := p.request(1000)
	late.Expires = time.Now().Add(-time.Second)
	first, err := p.commands.To(t.Context(), p.shard, late)
	must(t, err)
	p.send(3)
	c.await(func() string { return p.unless(first, "expired") })

	// The next one for this guild waits behind a flood; one of another kind waits in the session.
	p.send(30)
	c.await(func() string {
		if a.sent() < 10 {
			return "the flood is under way"
		}
		return ""
	})
	late.Expires = time.Now().Add(time.Second)
	behind, err := p.commands.To(t.Context(), p.shard, late)
	must(t, err)
	voice := stream.Command{Op: 4, Data: fmt.Appendf(nil, `{"guild_id":"%d","channel_id":null,"self_mute":false,"self_deaf":false}`, p.guild), Expires: late.Expires}
	beside, err := p.commands.To(t.Context(), p.shard, voice)
	must(t, err)
	c.await(func() string { return p.unless(beside, "expired") })
	p.pushed()
	c.await(func() string { return p.unless(behind, "expired") })
	p.exactly()
	if _, body := a.get("/metrics"); !strings.Contains(body, `muster_worker_commands_dropped_total{reason="expired"} 3`) {
		t.Error("they are not counted")
	}
	c.noViolations()
	c.expect(c.shards, 0)
}

// unless says "" if a command was dropped for the reason.
func (p *producer) unless(ref stream.CommandRef, reason string) string {
	p.c.t.Helper()
	fate, err := p.commands.Fate(p.c.t.Context(), ref)
	must(p.c.t, err)
	if fate.Dropped != reason {
		return fmt.Sprintf("command %s is dropped: %+v", ref.ID, fate)
	}
	return ""
}

// While Redis is away nothing is sent that it does not know of being sent, and nothing is lost that it has kept.
func TestCommandsThroughRedisAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{redisArgs: []string{"--appendonly", "yes", "--appendfsync", "always"}, sim: busyHeart})
	a := c.start("a", nil)
	c.awaitLive()
	p := c.produce()
	p.send(30)
	c.await(func() string {
		if a.sent() < 10 {
			return "some are sent"
		}
		return ""
	})
	c.redis.Kill()
	c.sim.Reconnect(p.shard) // which would let it go on
	c.await(func() string {
		if c.out.count("cannot be read") == 0 {
			return "it is noticed"
		}
		return ""
	})
	c.redis.Start()
	p.pushed()
	p.exactly()
	c.noViolations()
	c.expect(c.shards, 0)
}
