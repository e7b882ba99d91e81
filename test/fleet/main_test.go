// Package fleet runs whole clusters, on real time, through what operators do with them: start them for the first time, replace every
// worker, make them larger and smaller, and run out of identify budget.
package fleet

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The sizes of tests that are made for more than a passing machine has time for: see `make fleet`.
var (
	rollWorkers = flag.Int("roll.workers", 6, "TestRollingRestart: workers, each of which is replaced")
	rollShards  = flag.Int("roll.shards", 96, "TestRollingRestart: shards")
	rollBuckets = flag.Int("roll.buckets", 0, "TestRollingRestart: max_concurrency; 0: all shards identify at once")
	coldShards  = flag.Int("cold.shards", 0, "TestColdStart: shards; 0: not run")
	coldBuckets = flag.Int("cold.buckets", 4, "TestColdStart: max_concurrency")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		_, _ = os.Stderr.WriteString(err.Error())
		code = 1
	}
	os.Exit(code)
}
