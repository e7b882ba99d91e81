package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a cluster goes through every day costs no IDENTIFY, no gap and no needless move.
func TestScenarios(t *testing.T) {
	start := step{"nothing", 0, 0, time.Minute}
	twelve := step{"reshard", 3, 0, 2 * time.Second} // from 8 to sizes[3]; sessions: 30 s, the overlap: 10 s
	for name, c := range map[string]struct {
		workers int
		script  []step
		resumes int // at most
		more    int // sessions, each with its IDENTIFY, than one for each shard
	}{
		"nothing happens": {3, []step{{"nothing", 0, 0, 5 * time.Minute}}, 0, 0},
		"a rolling restart": {3, []step{
			{"stop and restart", 0, 0, time.Minute}, {"stop and restart", 0, 0, time.Minute}, {"stop and restart", 0, 0, time.Minute},
		}, 4 * shards, 0},
		"a crash":                      {3, []step{{"crash", 1, 0, time.Minute}}, shards, 0},
		"a crash and a restart":        {3, []step{{"crash and restart", 1, 0, time.Minute}}, shards, 0},
		"a worker joins and leaves":    {2, []step{{"join", 0, 0, time.Minute}, {"stop", 2, 0, time.Minute}}, shards, 0},
		"leaders die":                  {3, []step{{"leader is killed", 0, 0, time.Minute}, {"leader is killed", 0, 0, time.Minute}}, 0, 0},
		"a leader pauses":              {3, []step{{"leader pauses", 0, time.Minute, 2 * time.Minute}}, 0, 0},
		"ten minutes without a quorum": {3, []step{{"no quorum", 0, 10 * time.Minute, 11 * time.Minute}}, 0, 0},
		"compactions":                  {3, []step{{"leader is cut", 0, 2 * time.Second, 0}, {"compaction", 0, 0, time.Minute}}, 0, 0},
		"a worker without etcd":        {3, []step{{"etcd is held", 1, 30 * time.Second, 2 * time.Minute}}, 2 * shards, 0},
		"a worker pauses":              {3, []step{{"worker pauses", 1, 30 * time.Second, 2 * time.Minute}}, 3 * shards, 0},
		"two minutes without redis":    {3, []step{{"no redis", 0, 2 * time.Minute, 5 * time.Minute}}, 0, 0},
		"a worker without redis":       {3, []step{{"redis is held", 1, time.Minute, 5 * time.Minute}}, 2 * shards, 0},
		"events that etcd loses":       {3, []step{{"etcd loses events", 0, 20 * time.Second, 0}, {"crash", 1, 0, 4 * time.Minute}}, shards, 0},
		"events the leader misses":     {3, []step{{"leader loses events", 0, 20 * time.Second, 0}, {"crash", 1, 0, 4 * time.Minute}}, shards, 0},
		"discord breaks all sockets":   {3, []step{{"discord drops all", 0, 0, time.Minute}}, shards, 0},
		"a slow clock and broken sockets": {3, append(
			[]step{{"etcd is held", 1, 20 * time.Second, 8 * time.Second}},
			slices.Repeat([]step{{"discord drops all", 0, 0, 100 * time.Millisecond}}, 40)...,
		), 41 * shards, 0},
		"a leader that etcd is slow to": {3, []step{{"leader is slow", 0, time.Minute, 0}, {"crash", 1, 0, 2 * time.Minute}}, shards, 0},
		"twelve shards":                 {3, []step{twelve, {"nothing", 0, 0, 2 * time.Minute}}, 2 * 12, 12},
		"four shards":                   {3, []step{{"reshard", 0, 0, 2 * time.Minute}}, 2 * 4, 4},
		"there and back":                {3, []step{twelve, {"nothing", 0, 0, 2 * time.Minute}, {"reshard", 2, 0, 2 * time.Minute}}, 2 * 20, 20},
		"there and back at once": {3, slices.Concat([]step{twelve, {"nothing", 0, 0, 34 * time.Second}}, // until just before the change
			slices.Repeat([]step{{"reshard", 2, 0, 100 * time.Millisecond}}, 20), []step{{"nothing", 0, 0, 2 * time.Minute}}), 2 * 20, 20},
		"a session is lost, and then twelve shards": {3, []step{{"discord invalidates", 0, 0, 20 * time.Second}, twelve, {"nothing", 0, 0, 2 * time.Minute}}, 2 * 12, 13},
		"twelve shards, and leaders die":            {3, slices.Concat([]step{twelve}, slices.Repeat([]step{{"leader is killed", 0, 0, 12 * time.Second}}, 8)), 2 * 12, 12},
		"twelve shards, and a worker dies":          {3, []step{twelve, {"nothing", 0, 0, 40 * time.Second}, {"crash", 0, 0, 2 * time.Minute}}, 3 * 12, 12},
		"twelve shards, and workers restart":        {3, slices.Concat([]step{twelve}, slices.Repeat([]step{{"stop and restart", 0, 0, 20 * time.Second}}, 4)), 6 * 12, 12},
		"twelve shards given up":                    {3, []step{twelve, {"nothing", 0, 0, 10 * time.Second}, {"abort reshard", 0, 0, time.Minute}}, 0, 6},
		"down and up":                               {3, []step{{"down", 0, time.Minute, 2 * time.Minute}}, shards, 0},
		"down and up, and the leaders die":          {3, []step{{"down", 0, time.Minute, 0}, {"leader is killed", 0, 0, 20 * time.Second}, {"leader is killed", 0, 0, 2 * time.Minute}}, shards, 0},
		"down and up, and a worker dies":            {3, []step{{"down", 0, time.Minute, 5 * time.Second}, {"crash", 0, 0, 2 * time.Minute}}, shards, 0},
		"down with the sessions":                    {3, []step{{"down, sessions ended", 0, time.Minute, 3 * time.Minute}}, 0, shards},
		"a drain by order":                          {3, []step{{"drain", 0, 0, time.Minute}}, shards / 2, 0},
		"a drain by order, and the leader dies":     {3, []step{{"drain", 0, 0, 0}, {"leader is killed", 0, 0, time.Minute}}, shards / 2, 0},
		"rebalancing what is even":                  {3, []step{{"rebalance", 0, 0, time.Minute}}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{Shards: shards, Concurrency: 2, Workers: c.workers, Budget: 1000}
			wrong, counts := run(t, s, append([]step{start}, c.script...))
			if len(wrong) > 0 {
				t.Error(strings.Join(wrong, "\n"))
			}
			t.Log(counts)
			if n := shards + c.more; counts["identify"] != n || counts["session"] != n || counts["resume"] > c.resumes {
				t.Errorf("it took %v", counts)
			}
		})
	}
}

const shards = 8

// Without etcd a strict worker has no sockets past its deadline, and another keeps them; neither costs a session.
func TestStrict(t *testing.T) {
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprint(strict), func(t *testing.T) {
			s := setup{Shards: shards, Concurrency: 2, Workers: 3, Budget: 1000, Strict: strict}
			sockets := -1
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, s)
				w.play([]step{{"nothing", 0, 0, time.Minute}})
				w.etcd.LoseQuorum()
				w.pass(2 * ttl)
				sockets = w.sim.Stats().Sockets
				w.etcd.RegainQuorum()
				w.settle()
				counts, resumes := w.witness.happened(), 0
				w.end()
				if strict {
					resumes = shards
				}
				if wrong := w.witness.found(); len(wrong) > 0 || counts["identify"] != shards || counts["resume"] != resumes {
					t.Errorf("it took %v; %s", counts, strings.Join(wrong, "\n"))
				}
			})
			if want := map[bool]int{false: shards, true: 0}[strict]; sockets != want {
				t.Errorf("%d sockets without etcd", sockets)
			}
		})
	}
}

// A first start that the budget does not cover leaves the reserve alone, and goes on when the budget is reset.
func TestReserve(t *testing.T) {
	wrong, counts := run(t, setup{Shards: 12, Concurrency: 4, Workers: 2, Budget: 10}, []step{{"nothing", 0, 0, time.Minute}})
	if len(wrong) > 0 || counts["identify"] != 12 {
		t.Errorf("it took %v; %s", counts, strings.Join(wrong, "\n"))
	}
}

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
