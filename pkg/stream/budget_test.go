package stream

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// Whatever the Logs take and give back, whoever comes and goes: the bound holds
// but for one entry each, no account is refused what fits its share, what waits
// waits for a reason, and the books are right.
func TestBudgetIsFair(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const maxBytes = 1000
		b := newBudget(maxBytes)
		var open []*account
		held := map[*account][]int64{} // entries
		waits := map[*account]*claim{} // as a Log has one goroutine
		ahead := map[*account]int64{}  // of those who hold one entry that is larger than their share
		pick := func(rt *rapid.T) *account {
			if len(open) == 0 {
				rt.Skip("nobody there")
			}
			return rapid.SampledFrom(open).Draw(rt, "account")
		}
		collect := func() { // what was granted meanwhile
			for a, c := range waits {
				select {
				case <-c.granted:
					held[a] = append(held[a], c.bytes)
					delete(waits, a)
				default:
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"open": func(*rapid.T) {
				if len(open) < 5 {
					open = append(open, b.open())
				}
			},
			"close": func(rt *rapid.T) {
				a := pick(rt)
				if waits[a] != nil || len(held[a]) > 0 && rapid.Bool().Draw(rt, "rather not") {
					return
				}
				a.close()
				for _, bytes := range held[a] {
					a.release(bytes)
				}
				delete(held, a)
				delete(ahead, a)
				open = slices.DeleteFunc(open, func(other *account) bool { return other == a })
				collect()
			},
			"take": func(rt *rapid.T) {
				a := pick(rt)
				if waits[a] != nil {
					return
				}
				bytes := rapid.OneOf(rapid.Int64Range(1, 50), rapid.Int64Range(1, 2000)).Draw(rt, "bytes")
				fits := a.held+bytes <= b.share || a.held == 0
				if a.held == 0 {
					ahead[a] = bytes
				}
				queue := len(b.waiting) > 0
				switch c := a.claim(bytes); {
				case c == nil:
					if queue && !fits {
						rt.Fatal("one that came later was served first")
					}
					held[a] = append(held[a], bytes)
				case fits:
					rt.Fatalf("refused %d bytes to an account that holds %d of its %d", bytes, a.held, b.share)
				default:
					waits[a] = c
				}
			},
			"give up": func(rt *rapid.T) {
				a := pick(rt)
				if c := waits[a]; c != nil && c.withdraw() {
					rt.Fatal("it was granted unnoticed")
				}
				delete(waits, a)
				collect()
			},
			"release": func(rt *rapid.T) {
				a := pick(rt)
				if len(held[a]) == 0 {
					return
				}
				bytes := held[a][0]
				held[a] = held[a][1:]
				a.release(bytes)
				collect()
			},
			"": func(rt *rapid.T) {
				var beyond, extra int64
				for _, a := range open {
					var sum int64
					for _, bytes := range held[a] {
						sum += bytes
					}
					if sum != a.held {
						rt.Fatalf("an account says that it holds %d instead of %d", a.held, sum)
					}
					beyond += max(0, sum-b.share)
					extra += ahead[a]
				}
				if beyond != b.beyond {
					rt.Fatalf("the common half says that %d are taken instead of %d", b.beyond, beyond)
				}
				for i, c := range b.waiting {
					a := c.account
					switch {
					case a.held == 0 || a.held+c.bytes <= b.share:
						rt.Fatalf("an account waits that holds %d of its %d and wants %d", a.held, b.share, c.bytes)
					case i == 0 && b.beyond+max(0, a.held+c.bytes-b.share)-a.excess() <= b.common:
						rt.Fatal("the first that waits need not")
					}
				}
			},
		})
	})
}

// With as many Logs all the time, what they hold together is bounded.
func TestBudgetIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const maxBytes, size = 10_000, 100
		b := newBudget(maxBytes)
		accounts := make([]*account, rapid.IntRange(1, 20).Draw(rt, "accounts"))
		for i := range accounts {
			accounts[i] = b.open()
		}
		var total int64
		for range 500 {
			bytes := rapid.Int64Range(1, size).Draw(rt, "bytes")
			if rapid.SampledFrom(accounts).Draw(rt, "account").try(bytes) {
				total += bytes
			}
		}
		if total > maxBytes {
			rt.Fatalf("%d bytes are held", total)
		}
	})
}

// One shard that sends without end while Redis takes nothing fills the common half
// and its own share. All others still have theirs.
func TestBusyShardLeavesTheOthersTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, client := newFake(t)
		resume := f.pause()
		defer resume()
		const maxBytes, size, quiet = 400_000, 1000, 9
		w := NewWriter(client, Options{Cluster: "test", MaxBytes: maxBytes})
		start(t, w)
		busy := mustOpen(t, w, 0)
		logs := make([]*Log, quiet)
		for i := range logs {
			logs[i] = mustOpen(t, w, 1+i)
		}
		ctx, stop := context.WithCancel(t.Context())
		full := make(chan error, 1)
		go func() {
			for {
				if err := busy.Append(ctx, entryAfter(busy.last, size)); err != nil {
					full <- err
					return
				}
			}
		}()
		synctest.Wait()
		if held, want := busy.room.held, int64(maxBytes/2+maxBytes/2/(quiet+1)); held > want || held < want-2*(size+entryOverhead) {
			t.Errorf("the busy one holds %d, want about %d", held, want)
		}
		for _, l := range logs {
			for l.room.held+size+entryOverhead+4 < maxBytes/2/(quiet+1) {
				if err := l.Append(t.Context(), entryAfter(l.last, size)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if held := w.Stats().Buffered; held > maxBytes {
			t.Errorf("%d bytes are held", held)
		}
		stop()
		if err := <-full; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// Who waits for a large part of the common half is not overtaken for ever by
// those who want little of it, and whom he kept waiting goes on when he gives up.
func TestBudgetIsFirstComeFirstServed(t *testing.T) {
	b := newBudget(1000)
	large, small := b.open(), b.open() // 250 each
	for _, a := range []*account{large, small} {
		if !a.try(300) {
			t.Fatal("there is no room at all")
		}
	}
	first := large.claim(450)
	if first == nil || small.try(50) {
		t.Fatal("one that came later was served first")
	}
	second := small.claim(50)
	if second == nil {
		t.Fatal("one that came later was served first")
	}
	if first.withdraw() {
		t.Error("it was served")
	}
	if !second.withdraw() {
		t.Error("who waited behind it still waits")
	}
}

// An account may be closed while an entry is still on its way in.
func TestBudgetOfAClosedAccount(t *testing.T) {
	b := newBudget(1000)
	a, other := b.open(), b.open()
	a.try(400)
	a.close()
	if b.beyond != 150 || b.share != 250 {
		t.Errorf("%d beyond shares of %d", b.beyond, b.share)
	}
	a.release(400)
	if b.beyond != 0 || b.share != 500 || !other.try(1000) {
		t.Errorf("afterwards %d beyond shares of %d", b.beyond, b.share)
	}
}
