package worker

import (
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// etcd is shared by all tests that need no outage; each has a cluster of its own in it.
var etcd *etcdtest.Server

func TestMain(m *testing.M) {
	stream.LogClientTo(hclog.NewNullLogger()) // outages are what some tests are about
	os.Exit(etcdtest.Main(m, &etcd))
}
