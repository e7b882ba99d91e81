package model

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What a cluster goes through every day costs no IDENTIFY, no gap and no needless move.
func TestScenarios(t *testing.T) {
	start := step{"nothing", 0, 0, time.Minute}
	for name, c := range map[string]struct {
		workers int
		script  []step
		resumes int // at most
	}{
		"nothing happens": {3, []step{{"nothing", 0, 0, 5 * time.Minute}}, 0},
		"a rolling restart": {3, []step{
			{"stop and restart", 0, 0, time.Minute}, {"stop and restart", 0, 0, time.Minute}, {"stop and restart", 0, 0, time.Minute},
		}, 4 * shards},
		"a crash":                      {3, []step{{"crash", 1, 0, time.Minute}}, shards},
		"a crash and a restart":        {3, []step{{"crash and restart", 1, 0, time.Minute}}, shards},
		"a worker joins and leaves":    {2, []step{{"join", 0, 0, time.Minute}, {"stop", 2, 0, time.Minute}}, shards},
		"leaders die":                  {3, []step{{"leader is killed", 0, 0, time.Minute}, {"leader is killed", 0, 0, time.Minute}}, 0},
		"a leader pauses":              {3, []step{{"leader pauses", 0, time.Minute, 2 * time.Minute}}, 0},
		"ten minutes without a quorum": {3, []step{{"no quorum", 0, 10 * time.Minute, 11 * time.Minute}}, 0},
		"compactions":                  {3, []step{{"leader is cut", 0, 2 * time.Second, 0}, {"compaction", 0, 0, time.Minute}}, 0},
		"a worker without etcd":        {3, []step{{"etcd is held", 1, 30 * time.Second, 2 * time.Minute}}, 2 * shards},
		"a worker pauses":              {3, []step{{"worker pauses", 1, 30 * time.Second, 2 * time.Minute}}, 3 * shards},
		"two minutes without redis":    {3, []step{{"no redis", 0, 2 * time.Minute, 5 * time.Minute}}, shards},
		"a worker without redis":       {3, []step{{"redis is held", 1, time.Minute, 5 * time.Minute}}, 2 * shards},
		"events that etcd loses":       {3, []step{{"etcd loses events", 0, 20 * time.Second, 0}, {"crash", 1, 0, 4 * time.Minute}}, shards},
		"events the leader misses":     {3, []step{{"leader loses events", 0, 20 * time.Second, 0}, {"crash", 1, 0, 4 * time.Minute}}, shards},
		"discord breaks all sockets":   {3, []step{{"discord drops all", 0, 0, time.Minute}}, shards},
		"a slow clock and broken sockets": {3, append(
			[]step{{"etcd is held", 1, 20 * time.Second, 8 * time.Second}},
			slices.Repeat([]step{{"discord drops all", 0, 0, 100 * time.Millisecond}}, 40)...,
		), 41 * shards},
		"a leader that etcd is slow to": {3, []step{{"leader is slow", 0, time.Minute, 0}, {"crash", 1, 0, 2 * time.Minute}}, shards},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{Shards: shards, Concurrency: 2, Workers: c.workers, Budget: 1000}
			wrong, counts := run(t, s, append([]step{start}, c.script...))
			if len(wrong) > 0 {
				t.Error(strings.Join(wrong, "\n"))
			}
			if counts["identify"] != shards || counts["session"] != shards || counts["resume"] > c.resumes {
				t.Errorf("it took %v", counts)
			}
		})
	}
}

const shards = 8

// Whatever was once found wrong stays right.
func TestRegressions(t *testing.T) {
	for name, c := range map[string]struct {
		setup  setup
		script []step
	}{
		// A leader that had missed who owns what dropped the requests of shards that waited for ever then.
		"requests dropped in error": {setup{Shards: 4, Concurrency: 4, Workers: 1, Budget: 1000}, []step{
			{"nothing", 0, 0, 500 * time.Millisecond}, {"leader loses events", 0, 3 * time.Second, 20 * time.Second}, {"discord is cut", 0, time.Second, 0},
		}},
		// A candidate that missed the end of the one before it waited for ever, and those behind it waited for it.
		"an election that misses an event": {setup{Shards: 4, Concurrency: 4, Workers: 1, Budget: 1000}, []step{
			{"nothing", 0, 0, time.Second}, {"standby loses events", 0, 20 * time.Second, 0}, {"leader is killed", 0, 0, 0}, {"join", 0, 0, time.Minute},
		}},
		// Shards that waited for a slot kept their sockets until etcd had answered, or five seconds were over.
		"sockets without a session": {setup{Shards: 4, Concurrency: 1, Workers: 1, Budget: 1000, Strict: true}, []step{
			{"nothing", 0, 0, 2 * time.Second}, {"etcd is held", 0, 9 * time.Second, 0},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if wrong, _ := run(t, c.setup, c.script); len(wrong) > 0 {
				t.Error(strings.Join(wrong, "\n"))
			}
		})
	}
}
