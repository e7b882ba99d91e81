package stream

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// batchOf returns a batch of entries that follow prev, of the given size each.
func batchOf(prev ID, entries, size int) *batch {
	b := newBatch(prev)
	for range entries {
		e := entryAfter(b.last, size)
		for i := range e.Data {
			e.Data[i] = byte(e.ID.Seq)
		}
		b.add(e, 1)
	}
	return b
}

// The ring holds the newest batches, however they are mixed and whatever their
// sizes, gives each back as it was, and never more than all between two ends.
func TestHistoryKeepsTheNewest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const size, shards = 4000, 3
		h := history{size: size}
		type kept struct {
			shard int
			b     *batch
			bytes int
		}
		var all []kept
		tails := make([]ID, shards)
		rt.Repeat(map[string]func(*rapid.T){
			"keep": func(rt *rapid.T) {
				shard := rapid.IntRange(0, shards-1).Draw(rt, "shard")
				b := batchOf(tails[shard], rapid.IntRange(1, 5).Draw(rt, "entries"), rapid.IntRange(0, 400).Draw(rt, "bytes"))
				tails[shard] = b.last
				h.keep(shard, b)
				all = append(all, kept{shard, b, len(b.buf) + 5*len(b.ends)})
			},
			"lose the tail": func(rt *rapid.T) {
				shard := rapid.IntRange(0, shards-1).Draw(rt, "shard")
				var of []*batch // all the shard ever had
				mustHave := 0   // of its newest
				room := size / 2
				for _, k := range slices.Backward(all) {
					if room -= k.bytes; k.shard == shard {
						of = append(of, k.b)
						if room > 0 {
							mustHave++
						}
					}
				}
				if len(of) == 0 {
					return
				}
				back := rapid.IntRange(0, len(of)-1).Draw(rt, "batches")
				first, last := h.between(shard, of[back].prev, tails[shard])
				if first == nil && back < mustHave {
					rt.Fatalf("batch %d of shard %d from the end is gone", back, shard)
				}
				if first == nil {
					return
				}
				for b := first; b != nil; b = b.next {
					want := of[back]
					if b.prev != want.prev || b.last != want.last || !bytes.Equal(b.buf, want.buf) || !slices.Equal(b.ends, want.ends) {
						rt.Fatalf("batch %v to %v came back as %v to %v", want.prev, want.last, b.prev, b.last)
					}
					back--
					if b.next == nil && b != last {
						rt.Fatal("the last is not the last")
					}
				}
				if back != -1 {
					rt.Fatalf("%d batches are missing", back+1)
				}
			},
			"": func(rt *rapid.T) {
				if len(h.ring) > size || len(h.records) > 2*size {
					rt.Fatalf("it holds %d bytes and %d records", len(h.ring), len(h.records))
				}
			},
		})
	})
}

func TestHistoryEndsAtABatchTooLarge(t *testing.T) {
	h := history{size: 1000}
	small := batchOf(ID{1, 1}, 1, 10)
	large := batchOf(small.last, 1, 2000)
	after := batchOf(large.last, 1, 10)
	for _, b := range []*batch{small, large, after} {
		h.keep(0, b)
	}
	if first, _ := h.between(0, large.last, after.last); first == nil {
		t.Error("what came after it is not there")
	}
	for _, from := range []ID{small.prev, small.last} {
		if first, _ := h.between(0, from, after.last); first != nil {
			t.Errorf("there is a way from %v, without the large batch", from)
		}
	}
}
