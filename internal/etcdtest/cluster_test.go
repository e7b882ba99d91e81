package etcdtest_test

import (
	"context"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

// patience is how long a test waits for what must come about.
const patience = time.Minute

// put writes until etcd takes it.
func put(t *testing.T, client *clientv3.Client, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		attempt, stop := context.WithTimeout(ctx, time.Second)
		_, err := client.Put(attempt, "key", value)
		stop()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("put %s: %v", value, err)
		}
	}
}

// refused checks that nothing is written.
func refused(t *testing.T, client *clientv3.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := client.Put(ctx, "key", "refused"); err == nil {
		t.Fatal("a write was taken without a quorum")
	}
}

func awaitLeader(t *testing.T, c *etcdtest.Cluster, wanted func(int) bool) int {
	t.Helper()
	late := time.After(patience)
	for {
		if leader := c.Leader(); leader >= 0 && wanted(leader) {
			return leader
		}
		select {
		case <-late:
			t.Fatalf("the leader is still %d", c.Leader())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func anybody(int) bool { return true }

func TestQuorum(t *testing.T) {
	c := etcdtest.StartCluster(t)
	client := connect(t, c.Endpoints())
	put(t, client, "three")
	first := awaitLeader(t, c, anybody)
	c.Stop(first)
	put(t, client, "two")
	second := awaitLeader(t, c, func(i int) bool { return i != first })
	c.Stop(second)
	refused(t, client)
	if err := c.Restart(first, second); err != nil {
		t.Fatal(err)
	}
	put(t, client, "three again")
	if got := eventually(t, client, "key"); got != "three again" {
		t.Errorf("the key is %q", got)
	}
}

func TestIsolatedLeader(t *testing.T) {
	c := etcdtest.StartCluster(t)
	leader := awaitLeader(t, c, anybody)
	alone, rest := connect(t, c.Members[leader].Endpoints()), connect(t, c.Members[(leader+1)%3].Endpoints())
	c.Isolate(leader)
	awaitLeader(t, c, func(i int) bool { return i != leader })
	put(t, rest, "without it")
	refused(t, alone)
	c.Mend()
	if got := eventually(t, alone, "key"); got == "" {
		t.Error("it does not hear of what happened")
	}
	put(t, alone, "with it")
}

// A leader that hears nobody hears of no agreement; one whose followers do not hear it is replaced.
func TestOneWay(t *testing.T) {
	for name, hold := range map[string]func(c *etcdtest.Cluster, leader, other int){
		"deaf": func(c *etcdtest.Cluster, leader, other int) { c.Hold(other, leader) },
		"mute": func(c *etcdtest.Cluster, leader, other int) { c.Hold(leader, other) },
	} {
		t.Run(name, func(t *testing.T) {
			c := etcdtest.StartCluster(t)
			leader := awaitLeader(t, c, anybody)
			for other := range c.Members {
				if other != leader {
					hold(c, leader, other)
				}
			}
			awaitLeader(t, c, func(i int) bool { return i != leader })
			put(t, connect(t, c.Members[(leader+1)%3].Endpoints()), "without it")
		})
	}
}

func TestDelayBetweenMembers(t *testing.T) {
	c := etcdtest.StartCluster(t)
	client := connect(t, c.Members[awaitLeader(t, c, anybody)].Endpoints())
	put(t, client, "fast")
	const delay = 100 * time.Millisecond // less than an election takes to begin
	c.Delay(delay)
	start := time.Now()
	put(t, client, "slow")
	if took := time.Since(start); took < delay {
		t.Errorf("agreement took %v", took)
	}
}

func TestMoveLeader(t *testing.T) {
	c := etcdtest.StartCluster(t)
	to := (awaitLeader(t, c, anybody) + 1) % 3
	if err := c.MoveLeader(to); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, c, func(i int) bool { return i == to })
}

// orderly notes what a test is asked for.
type orderly struct {
	testing.TB
	asked []string
}

func (o *orderly) TempDir() string {
	o.asked = append(o.asked, "directory")
	return o.TB.TempDir()
}

func (o *orderly) Cleanup(f func()) {
	o.asked = append(o.asked, "cleanup")
	o.TB.Cleanup(f)
}

// Servers are closed before their data goes: what is asked for last is undone first.
func TestDataOutlivesItsServers(t *testing.T) {
	for name, start := range map[string]func(testing.TB){
		"a server":  func(tb testing.TB) { etcdtest.Start(tb) },
		"a cluster": func(tb testing.TB) { etcdtest.StartCluster(tb) },
	} {
		o := &orderly{TB: t}
		if start(o); !slices.Equal(o.asked, []string{"directory", "cleanup"}) {
			t.Errorf("%s asks for %q", name, o.asked)
		}
	}
}
