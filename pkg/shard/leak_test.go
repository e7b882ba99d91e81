//go:build !race

// With the race detector these take minutes, and measure its memory too. TestThousandReconnects is for it.

package shard

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
)

// TestReconnectsLeaveNothing: after ten thousand connections a session holds what it held after one thousand. A decompressor, a
// goroutine or a timer left behind by each would show; goleak, in TestMain, sees what is left when it has ended.
func TestReconnectsLeaveNothing(t *testing.T) {
	for _, compression := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
		inBubble(t, string(compression), func(t *testing.T) {
			r := start(t, nil, func(c *Config) {
				c.Compression = compression
				c.Deliver = func(context.Context, Event) error { return nil }
			})
			c := r.live()
			seq := int64(1)
			reconnect := func(times int) {
				for range times {
					c.send(`{"t":null,"s":null,"op":7,"d":null}`)
					c = r.next()
					c.hello()
					c.expectResume("session-secret", seq)
					seq++
					c.dispatch(seq, "RESUMED", `{}`)
					synctest.Wait()
				}
			}
			reconnect(1000)
			heap, goroutines := heapInUse(), runtime.NumGoroutine()
			reconnect(9000)
			if n := runtime.NumGoroutine(); n != goroutines {
				t.Errorf("%d goroutines after 10,000 reconnects, %d after 1,000", n, goroutines)
			}
			if ratio := heapInUse() / heap; ratio > 1.1 {
				t.Errorf("the heap grew by a factor of %.2f from 1,000 to 10,000 reconnects", ratio)
			}
			if s := r.session.Status(); s.Resumes != 10_000 || s.Identifies != 1 {
				t.Errorf("status %+v", s)
			}
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// heapInUse collects until the pools are empty too.
func heapInUse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
