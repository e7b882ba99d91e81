package embedetcd

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
)

func TestLog(t *testing.T) {
	var out strings.Builder
	life, end := context.WithCancel(t.Context())
	log := zap.New(newCore(hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Trace, DisableTime: true}), life))
	log.Info("noise")
	log.With(zap.String("member", "m")).Warn("slow", zap.Int("took-ms", 12))
	log.Error("broken", zap.Error(errors.New("disk full")))
	end()
	log.Error("listener closed")
	const want = "[DEBUG] slow: member=m took-ms=12\n[ERROR] broken: error=\"disk full\"\n" +
		"[DEBUG] listener closed\n"
	if out.String() != want {
		t.Errorf("logged %q, want %q", out.String(), want)
	}
	zap.New(newCore(nil, life)).Error("to nobody")
}
