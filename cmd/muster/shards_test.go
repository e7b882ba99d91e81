package main

import (
	"strings"
	"testing"

	"github.com/muster-gateway/muster/internal/api"
)

func TestShardsThatAreAskedFor(t *testing.T) {
	shards := []api.Shard{{Shard: 0, State: "live", Worker: "a"}, {Shard: 1, State: "resuming", Worker: "a"}, {Shard: 2, State: "unassigned"}}
	for name, c := range map[string]struct {
		cmd  shardsCmd
		want string
	}{
		"all":              {shardsCmd{}, "012"},
		"of a state":       {shardsCmd{State: "live"}, "0"},
		"of no such state": {shardsCmd{State: "-live"}, "12"},
		"of a worker":      {shardsCmd{Worker: "a"}, "01"},
		"of both":          {shardsCmd{Worker: "a", State: "-live"}, "1"},
	} {
		got := ""
		for _, s := range shards {
			if c.cmd.wants(s) {
				got += string(rune('0' + s.Shard))
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	var text, lines strings.Builder
	if err := (&shardsCmd{}).print(&text, shards); err != nil || strings.Count(text.String(), "\n") != 4 {
		t.Errorf("%v:\n%s", err, &text)
	}
	if err := (&shardsCmd{JSON: true}).print(&lines, shards); err != nil || strings.Count(lines.String(), "\n") != 3 || !strings.Contains(lines.String(), `"state":"resuming"`) {
		t.Errorf("%v:\n%s", err, &lines)
	}
}
