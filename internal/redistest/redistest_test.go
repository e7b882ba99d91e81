package redistest

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestKillAndStart(t *testing.T) {
	tests := map[string]struct {
		server *Server
		keeps  bool
	}{
		"real":              {StartReal(t), false},
		"real, append only": {StartReal(t, "--appendonly", "yes", "--appendfsync", "always"), true},
		"miniredis":         {StartMini(t), true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := client(t, tt.server.Addr)
			if err := c.Set(t.Context(), "key", "value", 0).Err(); err != nil {
				t.Fatal(err)
			}
			tt.server.Kill()
			tt.server.Kill() // a second time changes nothing
			if err := c.Get(t.Context(), "key").Err(); err == nil || errors.Is(err, redis.Nil) {
				t.Errorf("killed it answers %v", err)
			}
			tt.server.Start()
			kept := c.Get(t.Context(), "key").Val() == "value"
			if kept != tt.keeps {
				t.Errorf("it has kept its data: %v, want %v", kept, tt.keeps)
			}
		})
	}
}

func TestProxyCutsAfterTheServerHasDoneIt(t *testing.T) {
	s := Start(t)
	p := NewProxy(t, s)
	direct, through := client(t, s.Addr), client(t, p.Addr)
	if err := through.Ping(t.Context()).Err(); err != nil { // the handshake is over
		t.Fatal(err)
	}
	p.CutReplies(1)
	if err := through.Incr(t.Context(), "n").Err(); err == nil {
		t.Error("the reply was not lost")
	}
	if n, err := direct.Get(t.Context(), "n").Int(); n != 1 || err != nil {
		t.Errorf("the server has done it %d times, error %v", n, err)
	}
	if err := through.Incr(t.Context(), "n").Err(); err != nil {
		t.Errorf("the next one: %v", err)
	}
	if n := p.Remaining(); n != 0 {
		t.Errorf("%d replies are still to be lost", n)
	}
}

func TestProxyTurns(t *testing.T) {
	one, other := Start(t), Start(t)
	for name, s := range map[string]*Server{"one": one, "other": other} {
		if err := client(t, s.Addr).Set(t.Context(), "name", name, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	p := NewProxy(t, one)
	through := client(t, p.Addr)
	expect := func(want string) {
		t.Helper()
		for range 2 { // the first attempt may meet the connection that was cut off
			if name, err := through.Get(t.Context(), "name").Result(); err == nil && name == want {
				return
			}
		}
		t.Errorf("it does not lead to %q", want)
	}
	expect("one")
	p.Turn(other)
	expect("other")
	p.Cut()
	if err := through.Ping(t.Context()).Err(); err == nil {
		t.Error("cut off, it answers")
	}
	p.Turn(one)
	expect("one")
}

func TestMoveSlot(t *testing.T) {
	nodes := StartCluster(t, 2)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].Addr}})
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Set(t.Context(), "a", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	stages := 0
	MoveSlot(t, nodes, "a", func() {
		stages++
		if got, err := c.Get(t.Context(), "a").Result(); got != "1" || err != nil {
			t.Errorf("stage %d: %q, %v", stages, got, err)
		}
	})
	if stages != 3 {
		t.Errorf("%d stages", stages)
	}
}

func TestCluster(t *testing.T) {
	nodes := StartCluster(t, 3)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].Addr}})
	t.Cleanup(func() { _ = c.Close() })
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		if err := c.Set(t.Context(), key, 1, 0).Err(); err != nil {
			t.Error(err)
		}
	}
}
