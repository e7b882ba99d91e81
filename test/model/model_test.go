// Package model runs real coordinators and workers on virtual time, over etcd, Redis and Discord in memory, lets everything happen to
// them that may, and holds them to what muster promises: see witness for what is watched all the time, and world.settle for what
// is looked at in the end.
//
// What it cannot show: a process that is paused is one whose network stands still, while its clocks go on; and nobody
// has a wall clock of his own. The first is tried with real processes (test/e2e).
package model

import (
	"flag"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/stream"
)

// logs shows what every process says, at debug level: go test ./test/model -run TestModel -model.logs
var logs = flag.Bool("model.logs", false, "show the processes' logs")

// checks is how many scripts are tried of each kind, if the command line does not say (-rapid.checks): what takes twelve seconds with the race detector.
const checks = "10"

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", checks); err != nil { // before the command line is read
		panic(err)
	}
	// On several processors the timers of a bubble crash the race detector now and then (Go 1.26: a CHECK of ThreadSanitizer's, or a
	// segmentation fault in it). On one it finds as much: it goes by what happened before what.
	runtime.GOMAXPROCS(1)
	stream.LogClientTo(hclog.NewNullLogger()) // what the client says of broken connections, workers say themselves
	goleak.VerifyTestMain(m)
}

func TestModel(t *testing.T) { check(t, nil, scripts(5)) }

// The number of shards changes while everything happens.
func TestReshards(t *testing.T) {
	first := rapid.Custom(func(t *rapid.T) []step {
		who, wait := rapid.IntRange(0, len(sizes)-1), rapid.SampledFrom([]time.Duration{time.Second, 30 * time.Second, time.Minute})
		return []step{{"nothing", 0, 0, wait.Draw(t, "start")}, {"reshard", who.Draw(t, "to"), 0, wait.Draw(t, "then")}}
	})
	check(t, first, scripts(1))
}

// check plays scripts, of which each may have a beginning of its own.
func check(t *testing.T, first, then *rapid.Generator[[]step]) {
	total := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		s := setup{
			Shards:      rapid.SampledFrom([]int{4, 8}).Draw(rt, "shards"),
			Concurrency: rapid.SampledFrom([]int{1, 2, 4}).Draw(rt, "max_concurrency"),
			Workers:     rapid.IntRange(1, 3).Draw(rt, "workers"),
			Budget:      rapid.SampledFrom([]int{1000, 30}).Draw(rt, "budget"),
			Strict:      rapid.Bool().Draw(rt, "strict"),
		}
		var script []step
		if first != nil {
			script = first.Draw(rt, "beginning")
		}
		script = append(script, then.Draw(rt, "script")...)
		wrong, counts := run(t, s, script)
		for what, n := range counts {
			total[what] += n
		}
		if len(wrong) > 0 {
			rt.Fatalf("%s\n\nrun(t, %#v, []step{\n%s\n})", strings.Join(wrong, "\n"), s, show(script))
		}
	})
	t.Log("happened:", total)
}
