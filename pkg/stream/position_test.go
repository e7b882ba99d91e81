package stream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/internal/redistest"
)

func TestPositionScript(t *testing.T) {
	tests := []struct {
		name     string
		stream   string // ids
		noted    string // before
		tail     ID     // that the caller believes
		position ID
		reply    int
		want     string // noted afterwards
	}{
		{"first", "1-1 1-5", "", ID{1, 5}, ID{1, 9}, 1, "1-5 1-9"},
		{"forward", "1-1 1-5", "1-5 1-9", ID{1, 5}, ID{1, 10}, 1, "1-5 1-10"},
		{"again", "1-1 1-5", "1-5 1-9", ID{1, 5}, ID{1, 9}, 1, "1-5 1-9"},
		{"back", "1-1 1-5", "1-5 1-10", ID{1, 5}, ID{1, 9}, 1, "1-5 1-10"},
		{"beside a new end", "1-1 1-5 1-12", "1-5 1-11", ID{1, 12}, ID{1, 13}, 1, "1-12 1-13"},
		{"in a new epoch", "1-1 1-50 2-0 2-1", "1-50 1-90", ID{2, 1}, ID{2, 9}, 1, "2-1 2-9"},
		{"another has written", "1-1 1-5 1-6", "1-5 1-9", ID{1, 5}, ID{1, 10}, 0, "1-5 1-9"},
		{"another epoch", "1-1 1-5 2-0 2-1", "", ID{1, 5}, ID{1, 10}, 0, ""},
		{"redis is behind", "1-1 1-3", "", ID{1, 5}, ID{1, 10}, 0, ""},
		{"no stream", "", "", ID{1, 5}, ID{1, 10}, 0, ""},
		{"garbage there", "1-1 1-5", "garbage", ID{1, 5}, ID{1, 9}, 1, "1-5 1-9"},
	}
	servers := map[string]*redistest.Server{"miniredis": redistest.StartMini(t), "redis": redistest.Start(t)}
	for name, server := range servers {
		client := openTest(t, server.URL())
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				fill(t, client, strings.Fields(tt.stream))
				client.Del(t.Context(), PositionKey("test", 0))
				if tt.noted != "" {
					client.Set(t.Context(), PositionKey("test", 0), tt.noted, 0)
				}
				reply, err := savePosition(t.Context(), client, "test", 0, tt.tail, tt.position).Int()
				if err != nil || reply != tt.reply {
					t.Errorf("the reply is %d, error %v", reply, err)
				}
				if got := client.Get(t.Context(), PositionKey("test", 0)).Val(); got != tt.want {
					t.Errorf("noted is %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestBeyond(t *testing.T) {
	tail := ID{2, 10}
	for text, want := range map[string]ID{
		"2-10 2-17": {2, 17},
		"2-10 2-10": tail, "2-10 2-9": tail, "2-10 3-17": tail, "2-9 2-17": tail, "2-11 2-17": tail,
		"": tail, "2-10": tail, "2-10 ": tail, "2-10 x": tail, "2-10 2-17 ": tail,
	} {
		if got := beyond(tail, text); got != want {
			t.Errorf("%q is read as %v, want %v", text, got, want)
		}
	}
}

func FuzzBeyond(f *testing.F) {
	f.Add("1-5 1-9")
	f.Add("1-5")
	f.Add("1-5 2-9")
	f.Fuzz(func(t *testing.T, text string) {
		tail := ID{1, 5}
		if got := beyond(tail, text); got.Epoch != tail.Epoch || got.Seq < tail.Seq || got != tail && text != "1-5 "+got.String() {
			t.Errorf("%q is read as %v", text, got)
		}
	})
}

func skipN(t testing.TB, l *Log, n int) {
	t.Helper()
	for range n {
		at := l.Position()
		if err := l.Skip(ID{at.Epoch, at.Seq + 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// Only what was skipped may be missing between two entries.
func TestSkipKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		l := mustOpen(t, w, 0)
		wrong := func(what string, err error) {
			t.Helper()
			if !errors.As(err, new(*OrderError)) {
				t.Errorf("%s: error is %v", what, err)
			}
		}
		wrong("skip before a session", l.Skip(ID{1, 1}))
		appendN(t, l, 1)
		wrong("skip too far", l.Skip(ID{1, 3}))
		wrong("skip what is there", l.Skip(ID{1, 1}))
		wrong("skip into another epoch", l.Skip(ID{2, 2}))
		skipN(t, l, 2)
		wrong("append what was skipped", l.Append(t.Context(), Entry{ID: ID{1, 3}, Type: "TEST"}))
		wrong("append beyond", l.Append(t.Context(), Entry{ID: ID{1, 5}, Type: "TEST"}))
		if err := l.Append(t.Context(), Entry{ID: ID{1, 4}, Type: "TEST"}); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(t.Context(), NewGap(2, Gap{})); err != nil {
			t.Fatal(err)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []ID{{1, 1}, {1, 4}, {2, 0}}
		if ids := f.ids(0); len(ids) != 3 || ids[0] != want[0] || ids[1] != want[1] || ids[2] != want[2] {
			t.Errorf("the stream is %v", ids)
		}
		l.Close()
		if err := l.Skip(ID{2, 1}); !errors.Is(err, ErrClosed) {
			t.Errorf("closed, Skip returns %v", err)
		}
	})
}

// Positions are saved every few seconds and by Flush, and a log that is opened
// later goes on from there, unless the stream has grown or shrunk since.
func TestPositionIsSaved(t *testing.T) {
	open := func(t *testing.T, w *Writer, l *Log, want ID) *Log {
		t.Helper()
		l.Close()
		again := mustOpen(t, w, 0)
		if again.Position() != want {
			t.Errorf("the next log goes on from %v, want %v", again.Position(), want)
		}
		return again
	}
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		l := mustOpen(t, w, 0)
		appendN(t, l, 3)
		skipN(t, l, 4)
		time.Sleep(upkeepEvery + time.Second)
		skipN(t, l, 5) // not saved when the worker crashes
		l = open(t, w, l, ID{1, 7})
		skipN(t, l, 1)
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		l = open(t, w, l, ID{1, 8})
		skipN(t, l, 1)
		if err := l.Append(t.Context(), Entry{ID: ID{1, 10}, Type: "TEST"}); err != nil {
			t.Fatal(err)
		}
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		l = open(t, w, l, ID{1, 10}) // the stream's end is further
		skipN(t, l, 5)
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.lose(EventsKey("test", 0), 1)
		f.mu.Unlock()
		open(t, w, l, ID{1, 3}) // what came after it was lost with the tail
	})
}

// A position that is ahead of entries on their way would be one of events that are
// not in the stream yet.
func TestPositionWaitsForEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		l := mustOpen(t, w, 0)
		appendN(t, l, 1)
		if err := l.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.fault = func(string) fault { return lostCall }
		f.mu.Unlock()
		appendN(t, l, 1)
		skipN(t, l, 5)
		time.Sleep(10 * upkeepEvery)
		if _, _, ok := l.unsaved(); ok || len(f.positions) > 0 {
			t.Errorf("saved: %v", f.positions)
		}
	})
}

// With a filter, owners that crash, a server that fails in every way and loses its
// tail, and two owners at once: exactly the wanted events are in the stream.
func TestFilteredStreamIsAlwaysWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const last = 80
		keep := rapid.Int64Range(2, 20).Draw(rt, "one in")
		faults := rapid.SliceOfN(rapid.IntRange(int(noFault), int(lostTail)), 1, 30).Draw(rt, "faults")
		pauses := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 9000), 1, 10), 2, 2).Draw(rt, "pauses")
		crashes := rapid.SliceOfN(rapid.SliceOfN(rapid.Int64Range(1, last), 0, 5), 2, 2).Draw(rt, "crashes")
		wanted := func(seq int64) bool { return seq == 1 || seq%keep == 0 }

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
				w := NewWriter(client, Options{Cluster: "test", ReplayBytes: 1000})
				owners.Go(func() { errs[i] = ownFiltered(w, last, wanted, pauses[i], crashes[i]) })
			}
			owners.Wait()
			ids = f.ids(0)
		})
		if err := errors.Join(errs...); err != nil {
			rt.Fatal(err)
		}
		for seq := int64(1); seq <= last; seq++ {
			if !wanted(seq) {
				continue
			}
			if len(ids) == 0 || ids[0] != (ID{1, seq}) {
				rt.Fatalf("where %d should be the stream goes on with %v", seq, ids)
			}
			ids = ids[1:]
		}
		if len(ids) > 0 {
			rt.Fatalf("beyond the end there is %v", ids)
		}
	})
}

// ownFiltered is own for an owner that filters, and crashes at some events: it
// begins again without having flushed.
func ownFiltered(w *Writer, last int64, wanted func(int64) bool, pauses []int, crashes []int64) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() { cancel(); <-done }()
	for {
		l, err := w.Open(ctx, 0)
		if err != nil {
			return err
		}
		crashed := false
		for err == nil && !crashed && l.Position().Seq < last {
			id := ID{1, l.Position().Seq + 1}
			if wanted(id.Seq) {
				err = l.Append(ctx, Entry{ID: id, Type: "TEST", Data: make([]byte, 50)})
			} else {
				err = l.Skip(id)
			}
			if i := int(id.Seq); i%5 == 0 {
				time.Sleep(time.Duration(pauses[i%len(pauses)]) * time.Millisecond)
			}
			if len(crashes) > 0 && id.Seq >= crashes[0] {
				crashes, crashed = crashes[1:], true
			}
		}
		if crashed {
			l.Close()
			continue
		}
		if err == nil {
			err = l.Flush(ctx)
		}
		if err == nil || !errors.As(err, new(*RefusedError)) && !strings.Contains(err.Error(), "save position") {
			return err
		}
		l.Close()
	}
}

// What is there under the position's key and is no position of ours keeps no shard from running.
func TestPositionOfAnotherType(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	client.LPush(t.Context(), PositionKey("test", 0), "x")
	if got, err := readPosition(t.Context(), client, "test", 0, ID{1, 3}); err != nil || got != (ID{1, 3}) {
		t.Errorf("position %v, %v", got, err)
	}
}
