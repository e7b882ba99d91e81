package worker

import (
	"fmt"
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// etcd is shared by all tests that need no outage; each has a cluster of its own in it.
var etcd *etcdtest.Server

func TestMain(m *testing.M) { os.Exit(runWithEtcd(m)) }

func runWithEtcd(m *testing.M) int {
	stream.LogClientTo(hclog.NewNullLogger()) // outages are what some tests are about
	dir, err := os.MkdirTemp("", "worker")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if etcd, err = etcdtest.Open(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	etcd.Close()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
