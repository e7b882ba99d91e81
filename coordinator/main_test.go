package coordinator

import (
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

// server is shared by all tests that need no outage; each has a cluster of its own in it.
var server *etcdtest.Server

var quiet = hclog.NewNullLogger()

func TestMain(m *testing.M) { os.Exit(etcdtest.Main(m, &server)) }
