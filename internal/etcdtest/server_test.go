package etcdtest_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

// TestMain also proves that a closed server leaves nothing running behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, endpoints []string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// eventually reads the key until etcd answers: a client needs a moment to find that it can connect again.
func eventually(t *testing.T, client *clientv3.Client, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		resp, err := client.Get(ctx, key)
		if err == nil && len(resp.Kvs) == 1 {
			return string(resp.Kvs[0].Value)
		}
		if ctx.Err() != nil {
			t.Fatalf("get %s: %v", key, err)
		}
	}
}

func TestRestartKeepsDataAndAddress(t *testing.T) {
	server := etcdtest.Start(t)
	client := connect(t, server.Endpoints())
	if _, err := client.Put(t.Context(), "key", "value"); err != nil {
		t.Fatal(err)
	}
	client.Watch(t.Context(), "key") // an open stream must not hold the stop up

	server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := client.Get(ctx, "key"); err == nil {
		t.Fatal("a stopped server answered")
	}
	server.Restart()
	if got := eventually(t, client, "key"); got != "value" {
		t.Fatalf("after the restart the key is %q", got)
	}
}

func TestLinkFailsAlone(t *testing.T) {
	for name, fail := range map[string]func(*etcdtest.Link){
		"cut": (*etcdtest.Link).Cut, "held": (*etcdtest.Link).Hold,
		"requests held": (*etcdtest.Link).HoldRequests, "answers held": (*etcdtest.Link).HoldAnswers,
		"slow": func(l *etcdtest.Link) { l.Delay(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			server := etcdtest.Start(t)
			link := server.Link(t)
			near, far := connect(t, server.Endpoints()), connect(t, link.Endpoints())
			if _, err := far.Put(t.Context(), "key", "before"); err != nil {
				t.Fatal(err)
			}
			fail(link)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := far.Get(ctx, "key"); err == nil {
				t.Fatal("the failed link answered")
			}
			if _, err := near.Put(t.Context(), "key", "after"); err != nil {
				t.Fatalf("the other link: %v", err)
			}
			link.Mend()
			if got := eventually(t, far, "key"); got != "after" {
				t.Fatalf("after the link was mended the key is %q", got)
			}
		})
	}
}
