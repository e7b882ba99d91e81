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
		Cluster: "muster", Generation: 1, Shards: 2, Term: 7, At: time.Unix(0, 0).UTC().Add(-90 * time.Minute),
		Halted:  []api.Halt{{Worker: "w1", Reason: "token refused"}},
		Budget:  api.Budget{Total: 1000, Remaining: 990, MaxConcurrency: 1, ResetAt: time.Unix(0, 0).UTC()},
		Workers: []api.Worker{{ID: "w1", Zone: "east", Shards: 2, Draining: true}},
		ShardStates: []api.Shard{
			{Shard: 0, Worker: "w1", State: "live"}, {Shard: 1, Worker: "w1", State: "failed", Error: "close 4004"},
		},
	}
	c.Troubles = api.Troubles(c)
	var out, coloured strings.Builder
	if err := printStatus(&out, c, screen{}); err != nil {
		t.Fatal(err)
	}
	const first = "CRITICAL  halted by w1: token refused\n          to do: correct that and restart w1; the others go on by themselves\nCRITICAL  there is no leader"
	if !strings.HasPrefix(out.String(), first) {
		t.Errorf("what is wrong is not first:\n%s", out.String())
	}
	for _, want := range []string{
		"WARNING   shard 1: close 4004\n", "shards    2: 1 failed, 1 live\n", "budget    990 of 1000 IDENTIFYs left, 1 at a time; reset in 1h30m (00:00 UTC)",
		"w1 (draining)  east       2 ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
	if err := printStatus(&coloured, c, screen{colours: true}); err != nil || !strings.HasPrefix(coloured.String(), "\x1b[1;31mCRITICAL") {
		t.Errorf("%v:\n%q", err, coloured.String())
	}
}

func TestUntilReset(t *testing.T) {
	for left, want := range map[time.Duration]string{
		-time.Hour: "less than a minute", 0: "less than a minute", 29 * time.Second: "less than a minute", 31 * time.Second: "1m", 24 * time.Hour: "24h0m",
	} {
		now := time.Unix(0, 0)
		if got := untilReset(&api.Cluster{At: now, Budget: api.Budget{ResetAt: now.Add(left)}}); got != want {
			t.Errorf("%v before the reset: %q, want %q", left, got, want)
		}
	}
}

// On a narrow screen nothing is wider than that: texts are broken between words, and columns are left out, the least important first.
func TestPrintStatusOnANarrowScreen(t *testing.T) {
	c := &api.Cluster{
		Cluster: "muster", Generation: 1, Shards: 2, Leader: "muster-coordinator-7d9f8b6c5-x2k4p",
		Directives: api.Directives{Down: &api.Down{}},
		Workers: []api.Worker{
			{ID: "muster-worker-7d9f8b6c5-x2k4p", Zone: "europe-west1-b", Shards: 16, Draining: true, EventsPerSecond: 12345, BytesPerSecond: 1e7},
			{ID: "muster-worker-7d9f8b6c5-aaaaa", Zone: "europe-west1-c", Shards: 16},
		},
	}
	c.Troubles = api.Troubles(c)
	for width, want := range map[int]string{
		60:  "worker                                    shards  events/s",
		80:  "worker                                    shards  events/s  buffered KB  gaps",
		100: "worker                                    zone            shards  events/s  buffered KB  gaps",
		0:   "worker                                    zone            shards  events/s  KB/s  buffered KB  resumes  identifies  gaps",
	} {
		var out strings.Builder
		if err := printStatus(&out, c, screen{width: width}); err != nil {
			t.Fatal(err)
		}
		for text := range strings.Lines(out.String()) {
			if n := len([]rune(strings.TrimSuffix(text, "\n"))); width > 0 && n > width {
				t.Errorf("%d columns in %d: %s", n, width, text)
			}
		}
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("the table's head is not %q:\n%s", want, out.String())
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
