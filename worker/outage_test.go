package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// advance waits until a shard's stream has grown by so many entries.
func (c *cluster) advance(shard int, entries int64) {
	c.t.Helper()
	before, err := stream.Tail(c.t.Context(), c.client, c.name, shard)
	must(c.t, err)
	c.await(func() string {
		if now, err := stream.Tail(c.t.Context(), c.client, c.name, shard); err != nil || now.Seq < before.Seq+entries {
			return "the shard goes on publishing"
		}
		return ""
	})
}

func TestLostRegistration(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", shortTTL)
	c.awaitLive()
	c.leader.setIdle(true)
	first := a.current.Load().reg.Ref()
	lost := a.current.Load().reg
	must(t, lost.Leave(t.Context())) // as if etcd had expired it
	c.await(func() string {
		if in := a.current.Load(); in == nil || in.reg.Ref() == first {
			return "a registers anew"
		}
		return ""
	})
	c.unplugged() // nobody owns their shards
	c.leader.setIdle(false)
	c.awaitLive()
	c.expect(c.shards, 0)
}

func TestEtcdAway(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	c := newCluster(t, options{etcd: server})
	// A client may need some seconds to find an etcd that is back; the registration must bear that, or every socket would close.
	a := c.start("a", func(w *Worker) { w.cfg.LeaseTTL = 10 * time.Second })
	c.awaitLive()
	reg, before := a.current.Load().reg, c.leader.await("a owns everything", ownedBy("a"))
	server.Stop()
	c.await(func() string {
		if reg.Trusted() {
			return "the registration is not trusted any more"
		}
		return ""
	})
	c.advance(0, 20)
	if _, err := a.ready(); err == nil || !strings.Contains(err.Error(), "registration not renewed") {
		t.Errorf("ready: %v", err)
	}

	resumes := c.sim.Stats().Resumes
	c.sim.Drop(1)
	// The dropped session waits at the gate; the others go on meanwhile. Discord sends 50 events a second to each, so that is
	// longer than the session backs off in any case.
	c.advance(0, 150)
	if c.attached(1) || c.sim.Stats().Resumes != resumes {
		t.Error("a session was resumed by a worker that may have lost it")
	}

	server.Restart()
	c.awaitLive()
	if connects := a.metrics.connects.Load(); connects != uint64(c.shards)+1 {
		t.Errorf("%d sockets were opened, want one each and one more for the one that dropped", connects)
	}
	c.nothingMoved(a, reg, before)
	c.expect(c.shards, 0)
}

// nothingMoved holds a worker, its registration and its ranges to what they were.
func (c *cluster) nothingMoved(p *process, reg *lease.Registration, before *lease.Cluster) {
	c.t.Helper()
	if in := p.current.Load(); in == nil || in.reg != reg {
		c.t.Error("the worker registered anew")
	}
	mark := p.metrics.events.Load()
	now := c.leader.await("a report of after it", func(s *lease.Cluster) bool { return s.Status[reg.Ref().Worker].Events >= mark })
	for id, r := range before.Ranges {
		if now.Ranges[id].Fence != r.Fence || now.Ranges[id].Move != nil {
			c.t.Errorf("range %v changed hands, or is about to: %+v", id, now.Ranges[id])
		}
	}
}

// In strict mode the sockets are closed, to be resumed, when the registration is not trusted any more; when etcd is back they are
// resumed where they were.
func TestEtcdAwayStrict(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	c := newCluster(t, options{etcd: server})
	a := c.start("a", func(w *Worker) { w.cfg.LeaseTTL, w.cfg.Strict = 10*time.Second, true })
	c.awaitLive()
	reg, before := a.current.Load().reg, c.leader.await("a owns everything", ownedBy("a"))
	server.Stop()
	c.await(func() string {
		switch n := c.sim.Stats().Sockets; {
		case n == 0:
			return ""
		case n < c.shards && reg.Trusted():
			t.Fatalf("%d sockets are open though the registration is trusted", n)
		}
		return "every socket is closed"
	})
	if reg.Trusted() {
		t.Error("they were closed too early")
	}
	for n, session := range c.newest() {
		if session.Ended != "" {
			t.Errorf("shard %d's session is ended: %s", n, session.Ended)
		}
	}
	server.Restart()
	c.awaitLive()
	if n := connects(a); n != uint64(2*c.shards) {
		t.Errorf("%d sockets were opened", n)
	}
	c.nothingMoved(a, reg, before)
	c.expect(c.shards, 0)
}

// A strict worker that alone is cut off from etcd has closed its sockets before anybody else resumes its sessions: no session has two.
func TestStrictWorkerIsTakenOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	link := c.etcd.Link(t)
	c.startAt("a", link.Endpoints(), func(w *Worker) { w.cfg.LeaseTTL, w.cfg.Strict = lease.MinTTL, true })
	c.awaitLive()
	c.leader.setIdle(true) // so that it is the worker that closes them, not Discord because of another
	link.Cut()
	c.unplugged()
	c.start("b", nil)
	c.leader.setIdle(false)
	c.leader.await("b owns everything", ownedBy("b"))
	c.awaitLive()
	c.expect(c.shards, 0)
	for _, v := range c.sim.Violations() {
		t.Errorf("violation: %v", v)
	}
	link.Mend()
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	const interval, grace = 3 * time.Second, 3 * time.Second // a loaded machine keeps an answer waiting for more than a second
	c := newCluster(t, options{
		redisArgs: []string{"--appendonly", "yes", "--appendfsync", "no"},
		sim:       discordsim.Options{HeartbeatInterval: interval, HeartbeatGrace: grace},
	})
	a := c.start("a", nil)
	c.awaitLive()
	c.redis.Kill()
	sent := c.sim.Stats().Dispatched
	away := time.Now()
	c.await(func() string {
		switch _, err := a.ready(); {
		case err == nil || !strings.Contains(err.Error(), "redis takes no entries"):
			return "the worker is not ready"
		case c.sim.Stats().Dispatched < sent+100:
			return "discord goes on"
		case time.Since(away) < interval+grace+time.Second:
			return "discord would have closed a socket without heartbeats"
		}
		return ""
	})
	c.redis.Start()
	c.awaitLive()
	c.expect(c.shards, 0)
	for _, v := range c.sim.Violations() {
		t.Errorf("violation: %v", v)
	}
}

// A buffer that is full for some seconds while Redis takes nothing closes the sockets. When Redis is back the sessions are resumed,
// from where the streams end then, and nothing is lost.
func TestRedisAwayForLong(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{
		redisArgs: []string{"--appendonly", "yes", "--appendfsync", "no"},
		sim:       discordsim.Options{Rate: 500},
	})
	a := c.start("a", func(w *Worker) {
		w.writer = stream.NewWriter(w.cfg.Redis, stream.Options{Cluster: c.name, MaxBytes: 64 << 10})
	})
	c.awaitLive()
	c.redis.Kill()
	c.unplugged()
	c.await(func() string { // sockets close a moment before that is noted
		if _, err := a.ready(); err == nil || !strings.Contains(err.Error(), "4 shards have closed their sockets") {
			return fmt.Sprintf("readiness says why, instead of %v", err)
		}
		return ""
	})
	for n, s := range a.current.Load().status(time.Now()).Shards {
		if s.State != string(shard.StateWaiting) || !strings.Contains(s.Error, "redis") {
			t.Errorf("shard %d's status is %+v", n, s)
		}
	}
	if held := a.writer.Stats().Buffered; held == 0 {
		t.Error("what was received is dropped, and would have to be replayed")
	}
	sent := c.sim.Stats().Dispatched
	c.await(func() string {
		if c.sim.Stats().Dispatched < sent+500 {
			return "discord goes on"
		}
		return ""
	})
	c.redis.Start()
	c.awaitLive()
	c.expect(c.shards, 0)
	for _, v := range c.sim.Violations() {
		t.Errorf("violation: %v", v)
	}
}

// Redis comes back without its last entries, and the worker does not have them any more: the shard opens the log again and resumes
// from what is really there.
func TestStreamEndsElsewhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	a := c.start("a", func(w *Worker) {
		w.writer = stream.NewWriter(w.cfg.Redis, stream.Options{Cluster: c.name, ReplayBytes: 1})
	})
	c.awaitLive()
	c.sim.Pause()
	c.settled()
	key := stream.EventsKey(c.name, 2)
	tail, err := stream.Tail(t.Context(), c.client, c.name, 2)
	must(t, err)
	back := stream.ID{Epoch: tail.Epoch, Seq: tail.Seq - 3}
	for seq := back.Seq + 1; seq <= tail.Seq; seq++ {
		must(t, c.client.XDel(t.Context(), key, stream.ID{Epoch: tail.Epoch, Seq: seq}.String()).Err())
	}
	must(t, c.client.Do(t.Context(), "XSETID", key, back.String()).Err())
	// One event, so that there is no later one whose append could show that the log has failed.
	_, err = c.sim.Dispatch(2, "TEST", []byte(`{"last":true}`))
	must(t, err)
	c.await(func() string {
		if a.metrics.interruptions.Load() == 0 {
			return "the append is refused"
		}
		return ""
	})
	c.awaitLive()
	c.expect(c.shards, 0)
}

// A stream is deleted, and the worker has too little of it to write it again: the shard begins a session under the epoch after its record's, marked
// as one before which events are missing.
func TestDeletedStreamBeginsAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.start("a", func(w *Worker) {
		w.writer = stream.NewWriter(w.cfg.Redis, stream.Options{Cluster: c.name, ReplayBytes: 1})
	})
	c.awaitLive()
	c.settled()
	before := c.record(2).Epoch
	must(t, c.client.Del(t.Context(), stream.EventsKey(c.name, 2)).Err())
	_, err := c.sim.Dispatch(2, "TEST", []byte(`{}`)) // nothing is noticed before there is something to append
	must(t, err)
	c.await(func() string {
		if streams, _ := c.read(); len(streams[2]) < 3 || c.record(2).ID == "" {
			return "shard 2 has another session"
		}
		return ""
	})
	streams, _ := c.read()
	first := streams[2][0]
	if first.Type != stream.GapType || first.ID != (stream.ID{Epoch: before + 1}) || streams[2][1].Type != "READY" {
		t.Errorf("after epoch %d it begins with %v %s, then %s", before, first.ID, first.Type, streams[2][1].Type)
	}
}

func TestLostSessionIsMarked(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.start("a", nil)
	c.awaitLive()
	before := c.record(1).Epoch
	c.sim.Invalidate(1, false)
	c.await(func() string {
		if c.record(1).Epoch == before || c.record(1).ID == "" {
			return "shard 1 has a second session"
		}
		return ""
	})
	c.expect(c.shards+1, 1)
	streams, _ := c.read()
	for i, e := range streams[1] {
		if e.ID.Epoch <= before {
			continue
		}
		if e.Type != stream.GapType || e.ID.Seq != 0 || streams[1][i+1].Type != "READY" {
			t.Errorf("the second session's epoch begins with %v %s, then %s", e.ID, e.Type, streams[1][i+1].Type)
		}
		break
	}
}

func TestSecondWorkerOfAnID(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.start("a", func(w *Worker) { w.cfg.LeaseTTL = 10 * time.Second })
	c.awaitLive()
	second := c.start("a", shortTTL)
	select {
	case <-second.done:
	case <-time.After(patience):
		t.Fatal("it waits for ever")
	}
	if second.err == nil || !strings.Contains(second.err.Error(), "MUSTER_WORKER_ID") {
		t.Errorf("got %v", second.err)
	}
	if n := c.out.count("waiting for it to expire"); n != 1 {
		t.Errorf("it says %d times that it waits", n)
	}
	c.expect(c.shards, 0)
}
