package shard

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const untilNext = identifyWindow + identifyJitter

// identified is who identified when, counted from the beginning of the test.
type identified struct {
	shard int
	at    time.Duration
}

// identifyAll lets so many shards identify, which write so long after they got leave, and returns them in order.
func identifyAll(t *testing.T, q *IdentifyQueue, shards int, write time.Duration) []identified {
	begin := time.Now()
	var mu sync.Mutex
	var all []identified
	var group sync.WaitGroup
	for i := range shards {
		group.Go(func() {
			p, err := q.Permit(t.Context(), ID{i, shards})
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(write)
			mu.Lock()
			all = append(all, identified{i, time.Since(begin)})
			mu.Unlock()
			if time.Now().Before(p.Deadline) {
				p.Sent()
			}
		})
		synctest.Wait() // the first has its permit before the others ask
	}
	group.Wait()
	return all
}

// TestIdentifyQueueSpacing: in each bucket one after the other, the lowest shard first, as soon as Discord allows.
func TestIdentifyQueueSpacing(t *testing.T) {
	for name, c := range map[string]struct {
		concurrency, shards int
		write               time.Duration
		round               time.Duration // from one IDENTIFY of a bucket to the next
	}{
		"one bucket":       {1, 4, 0, untilNext},
		"a bucket unset":   {0, 3, 0, untilNext},
		"buckets":          {16, 1000, 0, untilNext},
		"slow writes":      {2, 6, time.Second, untilNext + time.Second},
		"permits run out":  {1, 4, permitValidity, permitValidity + untilNext},
		"more than shards": {64, 8, 0, untilNext},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := NewIdentifyQueue(IdentifyLimits{MaxConcurrency: c.concurrency})
				got := identifyAll(t, q, c.shards, c.write)
				slices.SortFunc(got, func(a, b identified) int { return a.shard - b.shard })
				for i, g := range got {
					if want := c.write + time.Duration(i/max(c.concurrency, 1))*c.round; g.at != want {
						t.Fatalf("shard %d at %s, want %s", g.shard, g.at, want)
					}
				}
			})
		})
	}
}

// TestIdentifyQueueBudget: what the budget does not cover waits for its reset, and the period after that has a whole one.
func TestIdentifyQueueBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewIdentifyQueue(IdentifyLimits{MaxConcurrency: 4, Total: 3, Remaining: 1, ResetAfter: time.Hour})
		var at []time.Duration
		for _, g := range identifyAll(t, q, 8, 0) {
			at = append(at, g.at.Truncate(time.Minute))
		}
		day := time.Hour + identifyPeriod
		want := []time.Duration{0, time.Hour, time.Hour, time.Hour, day, day, day, day + identifyPeriod}
		if !slices.Equal(at, want) {
			t.Errorf("identified at %v, want %v", at, want)
		}
	})
}

// TestIdentifyQueueWithAnUnspentBudget: Discord says then that it resets after 0 ms, which must not make it endless.
func TestIdentifyQueueWithAnUnspentBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewIdentifyQueue(IdentifyLimits{MaxConcurrency: 4, Total: 2, Remaining: 2})
		got := identifyAll(t, q, 3, 0)
		if got[1].at > time.Minute || got[2].at != identifyPeriod {
			t.Errorf("identified at %v", got)
		}
	})
}

// TestIdentifyQueueUpdate: a new budget wakes those who wait for one; a new number of buckets keeps the spacing.
func TestIdentifyQueueUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewIdentifyQueue(IdentifyLimits{MaxConcurrency: 1, Total: 10, ResetAfter: time.Hour})
		time.AfterFunc(time.Minute, func() {
			q.Update(IdentifyLimits{MaxConcurrency: 1, Total: 10, Remaining: 10, ResetAfter: time.Hour})
		})
		time.AfterFunc(time.Minute+time.Second, func() {
			q.Update(IdentifyLimits{MaxConcurrency: 8, Total: 10, Remaining: 9, ResetAfter: time.Hour})
		})
		got := identifyAll(t, q, 3, 0)
		for i, want := range []time.Duration{time.Minute, time.Minute + untilNext, time.Minute + untilNext} {
			if got[i].at != want {
				t.Errorf("identified at %v", got)
			}
		}
	})
}

// TestIdentifyQueueForgetsWhoLeaves: who no longer waits is not waited for.
func TestIdentifyQueueForgetsWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewIdentifyQueue(IdentifyLimits{MaxConcurrency: 1, Total: 1, ResetAfter: time.Minute})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Permit(ctx, ID{0, 2}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Permit: %v", err)
		}
		begin := time.Now()
		if _, err := q.Permit(t.Context(), ID{1, 2}); err != nil || time.Since(begin) > time.Minute {
			t.Errorf("Permit after %s: %v", time.Since(begin), err)
		}
	})
}

// TestIdentifyTurnsLateSent: who tells late that it wrote frees nothing for the one after the next, whose turn is another's.
func TestIdentifyTurnsLateSent(t *testing.T) {
	now := time.Unix(1e9, 0)
	var turns identifyTurns
	turns.update(IdentifyLimits{MaxConcurrency: 1}, now)
	first, _ := turns.take(ID{0, 3}, now)
	now = now.Add(permitValidity + untilNext)
	second, _ := turns.take(ID{1, 3}, now)
	turns.sent(ID{0, 3}, first, now) // the goroutine was held up
	now = now.Add(untilNext)
	if third, at := turns.take(ID{2, 3}, now); second == 0 || third != 0 || at.Sub(now) != permitValidity {
		t.Errorf("a permit %d while the one before may still be used; next %s later", third, at.Sub(now))
	}
}

// TestIdentifyTurnsProperties: whatever shards come, go, write late or never, two IDENTIFYs of a bucket are never within the
// window, and no more are sent in a period than its budget has.
func TestIdentifyTurnsProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := time.Unix(1e9, 0)
		now := begin
		limits := IdentifyLimits{
			MaxConcurrency: rapid.IntRange(1, 4).Draw(t, "concurrency"),
			Total:          rapid.IntRange(5, 20).Draw(t, "total"), Remaining: 5, ResetAfter: time.Minute,
		}
		var turns identifyTurns
		turns.update(limits, now)
		type pending struct {
			id     ID
			number int
			at     time.Time
		}
		var open []pending
		written := map[int]time.Time{} // by bucket: when the last was written
		given := 0
		t.Repeat(map[string]func(*rapid.T){
			"time":  func(t *rapid.T) { now = now.Add(rapid.Custom(drawDuration).Draw(t, "passes")) },
			"join":  func(t *rapid.T) { turns.waiting[ID{rapid.IntRange(0, 9).Draw(t, "shard"), 10}]++ },
			"leave": func(t *rapid.T) { turns.leave(ID{rapid.IntRange(0, 9).Draw(t, "shard"), 10}) },
			"take": func(t *rapid.T) {
				for id := range maps.Clone(turns.waiting) {
					if number, _ := turns.take(id, now); number != 0 {
						turns.leave(id)
						open = append(open, pending{id, number, now})
						given++
					}
				}
			},
			"write": func(t *rapid.T) {
				for _, p := range open {
					if now.Sub(p.at) >= permitValidity {
						continue // too late
					}
					bucket := p.id.Bucket(limits.MaxConcurrency)
					if last, ok := written[bucket]; ok && now.Sub(last) < identifyWindow {
						t.Fatalf("shard %s writes %s after the one before", p.id, now.Sub(last))
					}
					written[bucket] = now
					if rapid.Bool().Draw(t, "told") {
						turns.sent(p.id, p.number, now)
					}
				}
				open = nil
			},
			"": func(t *rapid.T) {
				periods := 1
				if now.Sub(begin) >= limits.ResetAfter {
					periods = 2 + int(now.Sub(begin)/identifyPeriod)
				}
				if most := limits.Remaining + (periods-1)*limits.Total; given > most {
					t.Fatalf("%d permits after %s, want at most %d", given, now.Sub(begin), most)
				}
			},
		})
	})
}

// drawDuration is mostly about as long as the waits of a queue.
func drawDuration(t *rapid.T) time.Duration {
	most := rapid.SampledFrom([]time.Duration{3 * time.Second, 6 * time.Second, 30 * time.Hour}).Draw(t, "most")
	return time.Duration(rapid.Int64Range(0, int64(most)).Draw(t, "duration"))
}
