package worker

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// A worker that is started again right after it was killed waits for its predecessor's registration to expire, however long that was to be.
func TestRestartWithinTTL(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"soon": lease.MinTTL, "late": 4 * lease.MinTTL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{})
			killed, err := c.store.Register(t.Context(), lease.Worker{ID: "a", UUID: "killed"}, ttl)
			must(t, err)
			ctx, kill := context.WithCancel(t.Context())
			var kept sync.WaitGroup
			kept.Go(func() { _ = killed.Keep(ctx) }) // a slow machine may take longer than the TTL to start the next
			c.start("a", func(w *Worker) {
				shortTTL(w)
				w.timings.predecessor = defaultTimings.predecessor
			})
			const waits = "waiting for it to expire"
			c.await(func() string {
				if c.out.count(waits) == 0 {
					return "it says that it waits"
				}
				return ""
			})
			kill()
			kept.Wait()
			c.awaitLive()
			c.expect(c.shards, 0)
			if n := c.out.count(waits); n != 1 {
				t.Errorf("it says %d times that it waits", n)
			}
		})
	}
}

// Whoever has our id is given as long as its registration can last without being renewed, by etcd's own account, and no longer.
func TestTenantOverdue(t *testing.T) {
	const grace = 5 * time.Second
	type look struct {
		after   time.Duration // since the first look
		life    lease.Life
		overdue bool
	}
	s := time.Second
	for name, looks := range map[string][]look{
		"it lives":                 {{0, lease.Life{Incarnation: 7, Left: 8 * s, Term: 2}, false}, {13 * s, lease.Life{Incarnation: 7, Left: 9 * s, Term: 2}, false}, {13*s + 1, lease.Life{Incarnation: 7, Left: 9 * s, Term: 2}, true}},
		"etcd elects a leader":     {{0, lease.Life{Incarnation: 7, Left: s, Term: 2}, false}, {5 * s, lease.Life{Incarnation: 7, Left: 10 * s, Term: 3}, false}, {20 * s, lease.Life{Incarnation: 7, Left: 0, Term: 3}, false}, {20*s + 1, lease.Life{Incarnation: 7, Left: 0, Term: 3}, true}},
		"and another, and another": {{0, lease.Life{Incarnation: 7, Left: s, Term: 2}, false}, {14 * s, lease.Life{Incarnation: 7, Left: 10 * s, Term: 3}, false}, {28 * s, lease.Life{Incarnation: 7, Left: 10 * s, Term: 4}, false}, {42 * s, lease.Life{Incarnation: 7, Left: 10 * s, Term: 5}, false}},
		"another takes the id":     {{0, lease.Life{Incarnation: 7, Left: s, Term: 2}, false}, {14 * s, lease.Life{Incarnation: 9, Left: 10 * s, Term: 2}, false}, {29 * s, lease.Life{Incarnation: 9, Left: 10 * s, Term: 2}, false}},
		"it is gone":               {{0, lease.Life{}, false}, {time.Hour, lease.Life{}, false}},
	} {
		var other tenant
		began := time.Unix(1e9, 0)
		for i, l := range looks {
			if got := other.overdue(l.life, grace, began.Add(l.after)); got != l.overdue {
				t.Errorf("%s: at look %d it is overdue: %v", name, i, got)
			}
		}
	}
}
