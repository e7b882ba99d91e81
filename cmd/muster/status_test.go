package main

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
)

// What is wrong is said first.
func TestPrintStatus(t *testing.T) {
	var out strings.Builder
	err := printStatus(&out, &api.Cluster{
		Cluster: "muster", Generation: 1, Shards: 2, Term: 7,
		Halted:  []api.Halt{{Worker: "w1", Reason: "token refused"}},
		Budget:  api.Budget{Total: 1000, Remaining: 990, MaxConcurrency: 1, ResetAt: time.Unix(0, 0).UTC()},
		Workers: []api.Worker{{ID: "w1", Shards: 2, Draining: true}},
		ShardStates: []api.Shard{
			{Shard: 0, Worker: "w1", State: "live"}, {Shard: 1, Worker: "w1", State: "failed", Error: "close 4004"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if lines[0] != "HALTED by w1: token refused; then restart w1, and the others go on" || !strings.HasPrefix(lines[1], "NO LEADER") {
		t.Errorf("what is wrong is not first:\n%s", out.String())
	}
	for _, want := range []string{"2 shards, 1 failed, 1 live", "budget 990 of 1000", "w1 (draining)", "shard 1 is failed: close 4004"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
}

// Of a plan that Discord refuses it says what a person has to do, or that nothing has to be done.
func TestPrintRefusedPlan(t *testing.T) {
	c := &api.Cluster{Leader: "one", Refused: []api.Refusal{{Worker: "w1", Shard: 3, Code: 4010, Reason: "shard 3/6: close 4010"}}}
	for alarm, want := range map[string]string{
		"":                     "REFUSED to w1: shard 3/6: close 4010\nthe leader asks Discord for another number of shards: nothing has to be done\ncluster ",
		"set MUSTER_SHARDS to": "REFUSED to w1: shard 3/6: close 4010\nALARM: set MUSTER_SHARDS to\ncluster ",
	} {
		var out strings.Builder
		c.Alarm = alarm
		if err := printStatus(&out, c); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), want) {
			t.Errorf("with alarm %q:\n%s", alarm, out.String())
		}
	}
}

// Bad input is exit code 2, whichever command.
func TestBadInput(t *testing.T) {
	t.Setenv("DISCORD_TOKEN", "")
	for _, args := range [][]string{
		{}, {"bogus"}, {"dev", "--bogus"}, {"dev", "--workers", "0"}, {"dev", "--duration", "soon"}, {"sim", "--rate", "fast"},
		{"tail", "--redis-url", "ftp://x"}, {"tail", "--from", "yesterday"}, {"send"}, {"send", "--shard", "1"},
		{"send", "--shard", "1", "--all", "--op", "3", "--data", "{}"}, {"send", "--all", "--op", "3"}, {"send", "--all", "--presence", "{}"},
		{"send", "--all", "--op", "3", "--data", "{}", "--expires", "-1s"}, {"send", "--guild", "x", "--op", "3", "--data", "{}"},
		{"drain"}, {"drain", "a", "b"}, {"up", "--admin-token-file", "/none"}, {"reshard"}, {"reshard", "4", "--abort"}, {"reshard", "many"},
		{"coordinator"}, {"worker", "--lease-ttl", "1s"},
	} {
		if code := run(args); code != 2 {
			t.Errorf("muster %s: exit code %d, want 2", strings.Join(args, " "), code)
		}
	}
	if code := run([]string{"--help"}); code != 0 {
		t.Errorf("muster --help: exit code %d, want 0", code)
	}
}
