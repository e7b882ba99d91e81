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

// exactly fails the test unless all requests are answered once, in order. What was written to a socket Discord may yet have to read.
func (p *producer) exactly() {
	p.c.t.Helper()
	var want, got []int
	for n := range p.sent {
		want = append(want, n)
	}
	p.c.await(func() string {
		if got = p.answered(); len(got) < len(want) {
			return fmt.Sprintf("answered are %v, want %v", got, want)
		}
		return ""
	})
	if !slices.Equal(got, want) {
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
		if a.sent() < 44 {
			return "40 requests and 4 presences are counted"
		}
		return ""
	})
	c.noViolations()
	c.expect(c.shards, 0)
}

// 1000 commands to one shard go out as Discord's limit allows, about a hundred on each connection here, while heartbeats are sent and
// events come. Each time the limit is near the shard is handed over, which gives it another connection; else this would take nine
// minutes. No handover costs a command or repeats one.
func TestFloodAcrossHandovers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{sim: discordsim.Options{HeartbeatInterval: 3 * time.Second, HeartbeatGrace: 10 * time.Second}})
	owner, other := c.start("a", nil), c.start("b", nil)
	c.awaitLive()
	c.leader.setIdle(true)
	p := c.produce()
	id := lease.RangeID{Generation: 1, Index: p.shard / 2}
	state := c.leader.await("b is there", func(s *lease.Cluster) bool { return s.Workers["b"].Incarnation != 0 })
	if state.Ranges[id].Owner.Worker == "b" {
		owner, other = other, owner
	}
	p.send(1000)
	for moves, from := 0, 0; ; moves++ {
		c.await(func() string {
			if n := owner.sent() - from; n < 70 && p.waiting() > 0 {
				return fmt.Sprintf("%d commands are sent after %d moves", n, moves)
			}
			return ""
		})
		if p.waiting() == 0 {
			break
		}
		state := c.leader.await("the range has an owner", func(s *lease.Cluster) bool {
			return s.Ranges[id].Owner.Worker == owner.cfg.Worker.ID && s.Ranges[id].Move == nil
		})
		owner, other, from = other, owner, other.sent()
		c.leader.act(lease.Intend, state.Ranges[id], state.Workers[owner.cfg.Worker.ID].Ref())
	}
	p.exactly()
	c.noViolations()
	c.expect(c.shards, 0)
}

// sent is how many commands the worker has sent.
func (p *process) sent() int { return int(p.metrics.commands.sent.Load()) }

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

// A command that is not sent in its time never is, whether it waits in Redis, in the session for a limit of Discord's, or behind another.
func TestExpiredCommands(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", nil)
	c.awaitLive()
	p := c.produce()
	presence := func(expires time.Time) stream.CommandRef {
		t.Helper()
		ref, err := p.commands.To(t.Context(), p.shard, stream.Command{Op: 3, Data: json.RawMessage(`{"status":"idle"}`), Expires: expires})
		must(t, err)
		return ref
	}
	late := presence(time.Now().Add(-time.Second))
	c.await(func() string { return p.unless(late, "expired") })
	for range 5 { // as many as Discord takes in 20 s
		presence(time.Now().Add(time.Hour))
	}
	held, behind := presence(time.Now().Add(time.Second)), presence(time.Now().Add(time.Second))
	p.send(3) // they are not held back
	c.await(func() string { return p.unless(held, "expired") })
	c.await(func() string { return p.unless(behind, "expired") })
	p.drained()
	p.exactly()
	if a.sent() != 8 {
		t.Errorf("%d commands were sent, want 5 presences and 3 requests", a.sent())
	}
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
	c := newCluster(t, options{redisArgs: []string{"--appendonly", "yes", "--appendfsync", "always"}, sim: discordsim.Options{HeartbeatInterval: 3 * time.Second}})
	c.leader.setStingy(true)
	a := c.start("a", nil)
	p := c.produce()
	p.send(80)
	c.leader.setStingy(false) // now it may identify, and send them all at once
	c.await(func() string {
		if a.sent() == 0 {
			return "some are sent"
		}
		return ""
	})
	c.redis.Kill()
	c.await(func() string {
		if c.out.count("cannot be read") == 0 {
			return "it is noticed"
		}
		return ""
	})
	c.redis.Start()
	p.send(10)
	p.drained()
	p.exactly()
	c.noViolations()
	c.expect(c.shards, 0)
}
