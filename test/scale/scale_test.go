//go:build unix

package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain has the role of another process, if the benchmark under test gave it one.
func TestMain(m *testing.M) {
	if ok, err := playRole(os.Args[1:]); ok {
		if err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-workers", "0"}, {"-shards", "x"}, {"-workers", "3", "-join", "2", "-die", "5"}, {"-coordinators", "0"}, {"more"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	o, err := parse([]string{"-workers", "3", "-join", "2", "-die", "4", "-steady", "5s"})
	if err != nil || o.workers != 3 || o.steady != 5*time.Second || o.shards != 100_000 {
		t.Errorf("options are %+v, %v", o, err)
	}
}

// The first scene at a small size: the processes start, workers get their shards, and what that took is counted.
func TestFirstScene(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		var out strings.Builder
		s := &stage{
			options: options{workers: 4, shards: 40, concurrency: 1, replicas: 1}, began: time.Now(), out: &out, table: &table{}, sessions: sessions,
		}
		if err := s.play(t.Context(), []func(*stage, context.Context) error{(*stage).assign}); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		m := s.table.scenes[0]
		if m.etcd[etcdPuts] < 40 || m.etcd[etcdEvents] < 40 || m.leader[decisions] < 1 || m.rss["etcd"] == 0 || m.etcd[cpuSeconds] == 0 {
			t.Errorf("measured %+v", m)
		}
		var tables strings.Builder
		s.table.print(&tables)
		if !strings.Contains(tables.String(), "all registered after") {
			t.Errorf("the tables are %s", &tables)
		}
	}
}
