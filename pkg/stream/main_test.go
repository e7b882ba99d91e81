package stream_test

import (
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/muster-gateway/muster/pkg/stream"
)

func TestMain(m *testing.M) {
	stream.LogClientTo(hclog.NewNullLogger()) // outages are what is tested
	goleak.VerifyTestMain(m)
}
