package stream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

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
