package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Two writers that both believe they own a shard, a server that fails in every
// way, and owners that go on from the stream's end when refused: the stream is
// always the whole log, each entry once.
func TestStreamIsAlwaysWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const last = 60
		faults := rapid.SliceOfN(rapid.IntRange(int(noFault), int(lostTail)), 1, 40).Draw(rt, "faults")
		replay := rapid.SampledFrom([]int64{1, 400, 4000, 100_000}).Draw(rt, "replay bytes")
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
				w := NewWriter(client, Options{Cluster: "test", MaxBytes: 2000, ReplayBytes: replay})
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
		if errors.Is(err, ErrFull) { // faults for so long: what it holds is Redis' before it goes on
			err = l.Flush(ctx)
		}
		if err == nil && l.last.Seq < last {
			l.Close()
			continue
		}
		if !errors.As(err, new(*RefusedError)) {
			return err
		}
	}
}
