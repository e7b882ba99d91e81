package main

import (
	"strings"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
)

// What is wrong is said first, the worst before the rest, with what to do about it.
func TestPrintStatus(t *testing.T) {
	c := &api.Cluster{
		Cluster: "muster", Generation: 1, Shards: 2, Term: 7,
		Halted:  []api.Halt{{Worker: "w1", Reason: "token refused"}},
		Budget:  api.Budget{Total: 1000, Remaining: 990, MaxConcurrency: 1, ResetAt: time.Unix(0, 0).UTC()},
		Workers: []api.Worker{{ID: "w1", Zone: "east", Shards: 2, Draining: true}},
		ShardStates: []api.Shard{
			{Shard: 0, Worker: "w1", State: "live"}, {Shard: 1, Worker: "w1", State: "failed", Error: "close 4004"},
		},
	}
	c.Troubles = api.Troubles(c)
	var out, coloured strings.Builder
	if err := printStatus(&out, c, false); err != nil {
		t.Fatal(err)
	}
	const first = "CRITICAL  halted by w1: token refused\n          to do: correct that and restart w1; the others go on by themselves\nCRITICAL  there is no leader"
	if !strings.HasPrefix(out.String(), first) {
		t.Errorf("what is wrong is not first:\n%s", out.String())
	}
	for _, want := range []string{"WARNING   shard 1: close 4004\n", "2 shards, 1 failed, 1 live", "budget 990 of 1000", "w1 (draining)", "east"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
	if err := printStatus(&coloured, c, true); err != nil || !strings.HasPrefix(coloured.String(), "\x1b[1;31mCRITICAL") {
		t.Errorf("%v:\n%q", err, coloured.String())
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
		{"status", "--watch", "1ms"}, {"status", "--watch", "1s", "--json"}, {"coordinator"}, {"worker", "--lease-ttl", "1s"},
	} {
		if code := run(args); code != 2 {
			t.Errorf("muster %s: exit code %d, want 2", strings.Join(args, " "), code)
		}
	}
	if code := run([]string{"--help"}); code != 0 {
		t.Errorf("muster --help: exit code %d, want 0", code)
	}
}
