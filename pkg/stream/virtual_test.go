package stream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// The tests here run in virtual time against fakeRedis, which makes what goes
// wrong, and when, exact.

// start runs a writer until the test ends, or stop is called.
func start(t testing.TB, w *Writer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func mustOpen(t testing.TB, w *Writer, shard int) *Log {
	t.Helper()
	l, err := w.Open(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// appendN appends n entries after those there are.
func appendN(t testing.TB, l *Log, n int) {
	t.Helper()
	for range n {
		if err := l.Append(t.Context(), entryAfter(l.last, 10)); err != nil {
			t.Fatal(err)
		}
	}
}

// entryAfter returns an entry of the given size that may follow last.
func entryAfter(last ID, size int) Entry {
	id := ID{max(last.Epoch, 1), last.Seq + 1}
	return Entry{ID: id, Type: "TEST", Data: make([]byte, size)}
}

func wantRun(t rapid.TB, ids []ID, n int) {
	t.Helper()
	if len(ids) != n {
		t.Errorf("%d entries in redis, want %d", len(ids), n)
	}
	for i, id := range ids {
		if id != (ID{1, int64(i) + 1}) {
			t.Fatalf("entry %d in redis is %v", i, id)
		}
	}
}

func TestRetriesTheSameBatchUntilRedisTakesIt(t *testing.T) {
	for name, what := range map[string]fault{"lost call": lostCall, "lost reply": lostReply, "out of memory": outOfMemory} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, client := newFake(t)
				failures := 100
				f.fault = func(string) fault {
					if failures--; failures >= 0 {
						return what
					}
					return noFault
				}
				var logged logBuffer
				w := NewWriter(client, Options{Cluster: "test", Logger: logged.logger()})
				start(t, w)
				l := mustOpen(t, w, 0)
				began := time.Now()
				appendN(t, l, 1)
				synctest.Wait()
				appendN(t, l, 2) // goes into a later batch, not the one on its way
				if err := w.Stats().Failing; err == nil || !strings.HasPrefix(err.Error(), "shard 0: append: ") {
					t.Errorf("Stats().Failing is %v", err)
				}
				if err := l.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}

				wantRun(t, f.ids(0), 3)
				if l.Tail() != (ID{1, 3}) {
					t.Errorf("tail is %v", l.Tail())
				}
				for i, call := range f.calls[:100] {
					if call != f.calls[0] {
						t.Fatalf("attempt %d sent %q instead of %q", i, call, f.calls[0])
					}
				}
				if waited := time.Since(began); waited < 100*backoffMax/2-10*time.Second || waited > 100*backoffMax {
					t.Errorf("100 attempts took %v", waited)
				}
				lines := logged.lines()
				if len(lines) != 2 || !strings.HasPrefix(lines[0], "[WARN]") || !strings.HasPrefix(lines[1], "[INFO]") {
					t.Errorf("logged %q, want one warning and one line when it is over", lines)
				}
				if s := w.Stats(); s.Retries != 100 || s.Entries != 3 || s.Buffered != 0 || s.Failing != nil || !s.FailingSince.IsZero() {
					t.Errorf("stats are %+v", s)
				}
			})
		})
	}
}

func TestUnknownScriptIsSentWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		f.fault = func(string) fault { return scriptForgot }
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		l := mustOpen(t, w, 0)
		began := time.Now()
		appendN(t, l, 1)
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantRun(t, f.ids(0), 1)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("it took %v, want no backing off", waited)
		}
	})
}

func TestOneFailingShardHoldsNoOtherUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		f.fault = func(key string) fault {
			if key == EventsKey("test", 0) {
				return lostCall
			}
			return noFault
		}
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		bad, good := mustOpen(t, w, 0), mustOpen(t, w, 1)
		appendN(t, good, 1)
		for range 100 {
			appendN(t, bad, 1)
			appendN(t, good, 1)
			if err := good.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		wantRun(t, f.ids(1), 101)
		if !bad.Tail().IsZero() || bad.Err() != nil {
			t.Errorf("the failing log: tail %v, error %v", bad.Tail(), bad.Err())
		}
	})
}

func TestRefusalFailsOneLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		mine, other := mustOpen(t, w, 0), mustOpen(t, w, 1)
		appendN(t, mine, 1)
		if err := mine.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.append(EventsKey("test", 0), "1-1", []string{"1-2", "", "", "1-3", "", ""}) // somebody else

		appendN(t, mine, 1)
		err := mine.Flush(t.Context())
		var refused *RefusedError
		if !errors.As(err, &refused) || *refused != (RefusedError{Shard: 0, Want: ID{1, 1}, Tail: ID{1, 3}}) {
			t.Fatalf("error is %v", err)
		}
		if want := "shard 0: append after 1-1: refused, the stream ends with 1-3"; err.Error() != want {
			t.Errorf("error is %q, want %q", err, want)
		}
		select {
		case <-mine.Failed():
		default:
			t.Error("Failed is not closed")
		}
		if err := mine.Append(t.Context(), entryAfter(mine.last, 1)); !errors.As(err, &refused) {
			t.Errorf("Append returns %v", err)
		}
		appendN(t, other, 1)
		if err := other.Flush(t.Context()); err != nil {
			t.Errorf("another shard: %v", err)
		}

		again := mustOpen(t, w, 0) // a failed log is no obstacle, closed or not
		if again.Tail() != (ID{1, 3}) {
			t.Errorf("opened again the tail is %v", again.Tail())
		}
		appendN(t, again, 1)
		if err := again.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		wantRun(t, f.ids(0), 4)
		if s := w.Stats(); s.Refused != 1 || s.Buffered != 0 {
			t.Errorf("stats are %+v", s)
		}
	})
}

func TestWrongTypeFailsTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		f.fault = func(string) fault { return wrongType }
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		l := mustOpen(t, w, 3)
		appendN(t, l, 1)
		err := l.Flush(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "shard 3: append to test:{3}:events: WRONGTYPE") {
			t.Errorf("error is %v", err)
		}
	})
}

func TestOrderErrorTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		l := mustOpen(t, w, 0)
		appendN(t, l, 1)
		err := l.Append(t.Context(), Entry{ID: ID{1, 3}, Type: "TEST"})
		var order *OrderError
		if !errors.As(err, &order) || order.Last != (ID{1, 1}) || order.ID != (ID{1, 3}) {
			t.Errorf("error is %v", err)
		}
		appendN(t, l, 1) // the log goes on
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantRun(t, f.ids(0), 2)
	})
}

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
		if held := w.Stats().Buffered; held > maxBytes || held < maxBytes-2*size {
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
				if err := other.Append(t.Context(), entryAfter(ID{}, 1000)); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				got := make(chan error, 1)
				go func() { got <- l.Append(ctx, entryAfter(ID{}, 10)) }()
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
				if err := l.Append(t.Context(), entryAfter(ID{}, 10)); err != nil {
					t.Errorf("afterwards Append returns %v", err)
				}
			})
		})
	}
}

func TestCloseDropsAndReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		l := mustOpen(t, w, 0)
		if _, err := w.Open(t.Context(), 0); !errors.Is(err, ErrOpen) {
			t.Errorf("a second Open returns %v", err)
		}

		resume := f.pause()
		appendN(t, l, 1)
		synctest.Wait() // the first batch is on its way
		appendN(t, l, 1000)
		l.Close()
		if err := l.Append(t.Context(), entryAfter(l.last, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("Append returns %v", err)
		}
		if err := l.Flush(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Flush returns %v", err)
		}

		// The next log of the shard must know of what is on its way.
		opened := make(chan *Log, 1)
		go func() { opened <- mustOpen(t, w, 0) }()
		synctest.Wait()
		select {
		case <-opened:
			t.Fatal("Open did not wait for the batch on its way")
		default:
		}
		resume()
		if again := <-opened; again.Tail() != (ID{1, 1}) {
			t.Errorf("the next log begins with tail %v", again.Tail())
		}
		wantRun(t, f.ids(0), 1)
		if held := w.Stats().Buffered; held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
}

func TestRunEndsWithNothingInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		l := mustOpen(t, w, 0)
		resume := f.pause()
		appendN(t, l, 1)
		synctest.Wait()
		appendN(t, l, 1) // waits behind the first
		cancel()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("Run returned while a batch was on its way")
		default:
		}
		resume()
		if err := <-done; err != nil {
			t.Error(err)
		}
		wantRun(t, f.ids(0), 1)
		if err := l.Flush(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("Flush returns %v", err)
		}
		if l.Tail() != (ID{1, 1}) {
			t.Errorf("the tail is %v", l.Tail())
		}
		if _, err := w.Open(t.Context(), 1); !errors.Is(err, ErrStopped) {
			t.Errorf("Open returns %v", err)
		}
		if err := w.Run(t.Context()); err == nil {
			t.Error("a second Run returns no error")
		}
		if held := w.Stats().Buffered; held != 0 {
			t.Errorf("%d bytes are still held", held)
		}
	})
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

// Two writers that both believe they own a shard, a server that fails in every
// way, and owners that go on from the stream's end when refused: the stream is
// always the whole log, each entry once.
func TestStreamIsAlwaysWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const last = 60
		faults := rapid.SliceOfN(rapid.IntRange(int(noFault), int(scriptForgot)), 1, 40).Draw(rt, "faults")
		pauses := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 300), 1, 10), 2, 2).Draw(rt, "pauses")

		var ids []ID
		errs := make([]error, len(pauses))
		synctest.Test(t, func(t *testing.T) {
			f, client := newFake(t)
			f.fault = func(string) fault {
				if len(faults) == 0 {
					return noFault
				}
				next := faults[0]
				faults = faults[1:]
				return fault(next)
			}
			var owners sync.WaitGroup
			for i := range pauses {
				w := NewWriter(client, Options{Cluster: "test", MaxBytes: 2000})
				owners.Go(func() { errs[i] = own(w, last, pauses[i]) })
			}
			owners.Wait()
			ids = f.ids(0)
		})
		if err := errors.Join(errs...); err != nil {
			rt.Fatal(err)
		}
		wantRun(rt, ids, last)
	})
}

// own appends to shard 0 what is missing of 1-1 to 1-last, beginning again from
// the stream's end whenever it is refused. It pauses now and then.
func own(w *Writer, last int64, pauses []int) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for {
		l, err := w.Open(ctx, 0)
		if err != nil {
			return err
		}
		for err == nil && l.last.Seq < last {
			err = l.Append(ctx, entryAfter(l.last, 50))
			if i := int(l.last.Seq); i%5 == 0 {
				time.Sleep(time.Duration(pauses[i%len(pauses)]) * time.Millisecond)
			}
		}
		if err == nil {
			err = l.Flush(ctx)
		}
		if !errors.As(err, new(*RefusedError)) {
			return err
		}
	}
}

func TestBackoff(t *testing.T) {
	for attempt := range 100 {
		full := backoffMax
		if attempt < 6 {
			full = min(backoffMin<<attempt, backoffMax)
		}
		var got []time.Duration
		for range 100 {
			d := backoff(attempt)
			if d <= full/2 || d > full {
				t.Fatalf("after attempt %d it is %v, want up to half less than %v", attempt, d, full)
			}
			got = append(got, d)
		}
		if slices.Min(got) == slices.Max(got) {
			t.Errorf("after attempt %d it is always %v", attempt, got[0])
		}
	}
}
