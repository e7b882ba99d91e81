package stream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBufferIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		resume := f.pause()
		const maxBytes, size = 100_000, 1000
		w := NewWriter(client, Options{Cluster: "test", MaxBytes: maxBytes})
		start(t, w)

		const shards, entries = 3, 200
		var appenders sync.WaitGroup
		for shard := range shards {
			l := mustOpen(t, w, shard)
			appenders.Go(func() {
				for range entries {
					if err := l.Append(t.Context(), entryAfter(l.last, size)); err != nil {
						t.Error(err)
					}
				}
				if err := l.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // all of them wait for room
		if held := w.Stats().Buffered; held > maxBytes || held < maxBytes-(shards+1)*(size+entryOverhead) {
			t.Errorf("%d bytes are held, want just under %d", held, maxBytes)
		}
		resume()
		appenders.Wait()
		for shard := range shards {
			wantRun(t, f.ids(shard), entries)
		}
		if held := w.Stats().Buffered; held != 0 {
			t.Errorf("%d bytes are held at the end", held)
		}
	})
}

func TestEntryLargerThanTheBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test", MaxBytes: 1000})
		start(t, w)
		l := mustOpen(t, w, 0)
		for range 3 {
			if err := l.Append(t.Context(), entryAfter(l.last, 1_000_000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantRun(t, f.ids(0), 3)
	})
}

// An Append that waits for room ends with its context, its log or the writer.
func TestWaitingAppendEnds(t *testing.T) {
	errGivenUp := errors.New("given up")
	tests := map[string]struct {
		end  func(l *Log, cancel context.CancelCauseFunc, stop func())
		want error
	}{
		"context": {func(_ *Log, cancel context.CancelCauseFunc, _ func()) { cancel(errGivenUp) }, errGivenUp},
		"close":   {func(l *Log, _ context.CancelCauseFunc, _ func()) { l.Close() }, ErrClosed},
		"stop":    {func(_ *Log, _ context.CancelCauseFunc, stop func()) { stop() }, ErrStopped},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, client := newFake(t)
				f.fault = func(string) fault { return lostCall }
				w := NewWriter(client, Options{Cluster: "test", MaxBytes: 1000})
				stop := start(t, w)
				l, other := mustOpen(t, w, 0), mustOpen(t, w, 1)
				appendN(t, l, 1)
				if err := other.Append(t.Context(), entryAfter(ID{}, 1000)); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				got := make(chan error, 1)
				go func() { got <- l.Append(ctx, entryAfter(ID{1, 1}, 100)) }()
				synctest.Wait()
				select {
				case err := <-got:
					t.Fatalf("Append did not wait but returned %v", err)
				default:
				}
				tt.end(l, cancel, stop)
				if err := <-got; !errors.Is(err, tt.want) {
					t.Errorf("error is %v, want %v", err, tt.want)
				}
				if name != "context" {
					return
				}
				other.Close() // makes room
				if err := l.Append(t.Context(), entryAfter(ID{1, 1}, 100)); err != nil {
					t.Errorf("afterwards Append returns %v", err)
				}
			})
		})
	}
}

func TestBatchesAndRoundsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		resume := f.pause()
		few, large := mustOpen(t, w, 0), mustOpen(t, w, 1)
		appendN(t, few, 1)
		synctest.Wait() // from here on everything gathers
		appendN(t, few, 3*batchEntries)
		for range 100 {
			if err := large.Append(t.Context(), entryAfter(large.last, batchBytes/4)); err != nil {
				t.Fatal(err)
			}
		}
		resume()
		for _, l := range []*Log{few, large} {
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		// One, then three full ones; and 25 of four or five entries each.
		if s := w.Stats(); s.Batches != 1+3+25 || s.Entries != 1+3*batchEntries+100 {
			t.Errorf("stats are %+v", s)
		}
		for _, call := range f.calls {
			if n := strings.Count(call, " TEST "); n > batchEntries {
				t.Errorf("a batch has %d entries", n)
			}
			if len(call) > batchBytes+batchBytes/4+1000 {
				t.Errorf("a batch has %d bytes", len(call))
			}
		}
	})
}

// While Redis takes nothing Append waits for some seconds and says so then. It
// waits on for a Redis that is merely slow. Either way nothing is dropped.
func TestFull(t *testing.T) {
	for name, fails := range map[string]bool{"redis is away": true, "redis is slow": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, client := newFake(t)
				if fails {
					f.fault = func(string) fault { return lostCall }
				}
				resume := f.pause()
				w := NewWriter(client, Options{Cluster: "test", MaxBytes: 10_000})
				start(t, w)
				l := mustOpen(t, w, 0)
				if fails {
					resume()
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				n := 0
				err := error(nil)
				for ; err == nil; n++ {
					err = l.Append(ctx, entryAfter(l.last, 1000))
				}
				waited := time.Since(began)
				switch {
				case fails && (!errors.Is(err, ErrFull) || waited < fullPatience || waited > 3*fullPatience):
					t.Errorf("after %v: %v", waited, err)
				case !fails && (!errors.Is(err, context.DeadlineExceeded) || waited < time.Hour):
					t.Errorf("after %v: %v", waited, err)
				}
				f.mu.Lock()
				f.fault = nil
				f.mu.Unlock()
				if !fails {
					resume()
				}
				if err := l.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				appendN(t, l, 1) // the log goes on
				if err := l.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantRun(t, f.ids(0), n)
			})
		})
	}
}
