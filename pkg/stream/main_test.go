package stream_test

import (
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/muster-gateway/muster/pkg/stream"
)

func TestMain(m *testing.M) {
	stream.LogClientTo(hclog.NewNullLogger()) // outages are what is tested
	if url := os.Getenv(consumerURL); url != "" {
		consumerMain(url)
		return
	}
	goleak.VerifyTestMain(m)
}
