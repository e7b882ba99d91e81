package embedetcd_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/internal/embedetcd"
)

const freePort = "127.0.0.1:0"

func start(t *testing.T, dir string) *embedetcd.Server {
	t.Helper()
	server, err := embedetcd.Start(t.Context(), embedetcd.Options{Dir: dir, Listen: freePort})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func connect(t *testing.T, server *embedetcd.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestKeepsItsDataAcrossARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "if missing")
	server := start(t, dir)
	put, err := connect(t, server).Put(t.Context(), "key", "value")
	if err != nil {
		t.Fatal(err)
	}
	server.Close()

	server = start(t, dir)
	defer server.Close()
	got, err := connect(t, server).Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if got.Count != 1 || string(got.Kvs[0].Value) != "value" || got.Header.Revision < put.Header.Revision {
		t.Errorf("after the restart: %v", got)
	}
	if got.Header.ClusterId != put.Header.ClusterId {
		t.Error("it is another cluster")
	}
}

// A second process must not wait for the first one without end, as etcd would.
func TestRefusesWhatIsInUse(t *testing.T) {
	dir := t.TempDir()
	server := start(t, dir)
	defer server.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		opts embedetcd.Options
		want string
	}{
		"directory":           {embedetcd.Options{Dir: dir, Listen: freePort}, "in use by another process"},
		"address":             {embedetcd.Options{Dir: t.TempDir(), Listen: server.Endpoint()}, "address already in use"},
		"no directory":        {embedetcd.Options{Listen: freePort}, "directory"},
		"a file":              {embedetcd.Options{Dir: file, Listen: freePort}, "not a directory"},
		"address of no sense": {embedetcd.Options{Dir: t.TempDir(), Listen: "nowhere"}, "nowhere"},
	} {
		other, err := embedetcd.Start(t.Context(), test.opts)
		if err == nil {
			other.Close()
			t.Errorf("%s: started", name)
		} else if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever failed to start leaves nothing behind that would keep the next one from starting.
func TestAFailedStartLeavesTheDirectory(t *testing.T) {
	taken, err := net.Listen("tcp", freePort)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	if _, err := embedetcd.Start(t.Context(), embedetcd.Options{Dir: dir, Listen: taken.Addr().String()}); err == nil {
		t.Fatal("started on an address that is taken")
	}
	start(t, dir).Close()
}

func TestWait(t *testing.T) {
	server := start(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Wait(ctx); err != nil {
		t.Errorf("the context ended: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait(t.Context()) }()
	server.Close()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the end of etcd is no error")
		}
	case <-time.After(30 * time.Second):
		t.Error("the end of etcd was not noticed")
	}
}
