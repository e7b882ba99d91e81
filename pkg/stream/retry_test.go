package stream

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

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
		began := time.Now()
		appendN(t, good, 1)
		for range 100 {
			appendN(t, bad, 1)
			appendN(t, good, 1)
			if err := good.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		wantRun(t, f.ids(1), 101)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("it took %v, want no waiting for the other shard", waited)
		}
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
		if !errors.As(err, &refused) || refused.Behind() || *refused != (RefusedError{Shard: 0, Want: ID{1, 1}, Tail: ID{1, 3}}) {
			t.Fatalf("error is %v", err)
		}
		if want := "shard 0: append after 1-1: refused, the stream ends with 1-3: another owner has written"; err.Error() != want {
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

// What Redis lost though it had confirmed it is appended again, and the caller
// notices nothing.
func TestLostTailIsAppendedAgain(t *testing.T) {
	for name, back := range map[string]int{"one batch": 1, "some": 3, "all": 100} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, client := newFake(t)
				var logged logBuffer
				w := NewWriter(client, Options{Cluster: "test", Logger: logged.logger()})
				start(t, w)
				l, other := mustOpen(t, w, 0), mustOpen(t, w, 1)
				for range 10 {
					for _, l := range []*Log{l, other} {
						appendN(t, l, 3)
						if err := l.Flush(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
				}
				f.lose(EventsKey("test", 0), back)
				resume := f.pause()
				appendN(t, l, 1)
				synctest.Wait()
				appendN(t, l, 5) // wait behind the one that is refused
				resume()
				if err := l.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				wantRun(t, f.ids(0), 36)
				wantRun(t, f.ids(1), 30)
				if l.Tail() != (ID{1, 36}) {
					t.Errorf("the tail is %v", l.Tail())
				}
				if s := w.Stats(); s.Rewinds != 1 || s.Refused != 0 || s.Buffered != 0 {
					t.Errorf("stats are %+v", s)
				}
				if lines := logged.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "[WARN]") {
					t.Errorf("logged %q", lines)
				}
			})
		})
	}
}

func TestLostTailBeyondWhatIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test", ReplayBytes: 200})
		start(t, w)
		l := mustOpen(t, w, 0)
		for range 10 {
			appendN(t, l, 2)
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.lose(EventsKey("test", 0), 8)
		appendN(t, l, 1)
		err := l.Flush(t.Context())
		var refused *RefusedError
		if !errors.As(err, &refused) || !refused.Behind() || *refused != (RefusedError{Shard: 0, Want: ID{1, 20}, Tail: ID{1, 4}}) {
			t.Fatalf("error is %v", err)
		}
		if want := "shard 0: append after 1-20: refused, the stream ends with 1-4: redis lost entries"; err.Error() != want {
			t.Errorf("error is %q, want %q", err, want)
		}
		wantRun(t, f.ids(0), 4)
		if s := w.Stats(); s.Refused != 1 || s.Rewinds != 0 {
			t.Errorf("stats are %+v", s)
		}
	})
}

// A log that is closed while the refusal is on its way stays closed.
func TestLostTailAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		w := NewWriter(client, Options{Cluster: "test"})
		start(t, w)
		l := mustOpen(t, w, 0)
		for range 3 {
			appendN(t, l, 2)
			if err := l.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		f.lose(EventsKey("test", 0), 1)
		resume := f.pause()
		appendN(t, l, 1)
		synctest.Wait()
		appendN(t, l, 1)
		l.Close()
		resume()
		if again := mustOpen(t, w, 0); again.Tail() != (ID{1, 4}) {
			t.Errorf("the next log begins with tail %v", again.Tail())
		}
		wantRun(t, f.ids(0), 4)
		if s := w.Stats(); s.Buffered != 0 {
			t.Errorf("stats are %+v", s)
		}
	})
}

// TestJudge: only what sending the same batch again cannot mend ends a log. All else passes, with time or with an operator's hand.
func TestJudge(t *testing.T) {
	for text, want := range map[string]outcome{
		"LOADING Redis is loading the dataset in memory":                    unsettled,
		"READONLY You can't write against a read only replica.":             unsettled,
		"CLUSTERDOWN The cluster is down":                                   unsettled,
		"TRYAGAIN Multiple keys request during rehashing of slot":           unsettled,
		"MOVED 3999 127.0.0.1:6381":                                         unsettled,
		"ASK 3999 127.0.0.1:6381":                                           unsettled,
		"NOREPLICAS Not enough good replicas to write.":                     unsettled,
		"MASTERDOWN Link with MASTER is down":                               unsettled,
		"MISCONF Redis is configured to save RDB snapshots":                 unsettled,
		"BUSY Redis is busy running a script.":                              unsettled,
		"OOM command not allowed when used memory > 'maxmemory'.":           unsettled,
		"NOAUTH Authentication required.":                                   unsettled,
		"NOPERM this user has no permissions to run the 'evalsha' command":  unsettled,
		"ERR something that nobody has thought of":                          unsettled,
		"NOSCRIPT No matching script. Please use EVAL.":                     unknownScript,
		"WRONGTYPE Operation against a key holding the wrong kind of value": failed,
	} {
		cmd := redis.NewCmd(t.Context())
		cmd.SetErr(redisError(text))
		got, err := judge(shipment{log: &Log{}, batch: newBatch(ID{}), cmd: cmd})
		if got != want || (err == nil) != (want == unknownScript) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
