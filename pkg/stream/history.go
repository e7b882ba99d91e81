package stream

import (
	"encoding/binary"
	"slices"
)

// history keeps the batches that were appended last, of all shards together, in
// one ring of bytes: the newest are there, as many as fit. A failover that loses
// the end of the streams loses the same last moments of all of them, so what
// counts is how far back the ring reaches in time, not how much each shard has
// of it.
//
// It belongs to the goroutine of Writer.Run.
type history struct {
	size int
	ring []byte // made when first used
	next int    // where the next record goes

	records []record // by age, the oldest first, from head on
	head    int
}

// record says where a batch is in the ring. There it is the batch's pieces, each
// with its length before it.
type record struct {
	shard      int
	prev, last ID
	start, end int
}

// keep copies a batch that was appended into the ring, over the oldest. One that
// is larger than the ring is left out, and with it the way back beyond it.
func (h *history) keep(shard int, b *batch) {
	size := len(b.buf) + len(b.ends)*binary.MaxVarintLen32
	if size > h.size {
		return
	}
	if h.ring == nil {
		h.ring = make([]byte, h.size)
	}
	if h.next+size > len(h.ring) {
		h.evict(h.next, len(h.ring))
		h.next = 0
	}
	h.evict(h.next, h.next+size)

	to, start := h.ring[h.next:h.next], 0
	for _, end := range b.ends {
		to = binary.AppendUvarint(to, uint64(end-start))
		to = append(to, b.buf[start:end]...)
		start = end
	}
	r := record{shard: shard, prev: b.prev, last: b.last, start: h.next, end: h.next + len(to)}
	h.next = r.end
	if h.head > len(h.records)/2 {
		h.records = slices.Delete(h.records, 0, h.head)
		h.head = 0
	}
	h.records = append(h.records, r)
}

// evict forgets what lies in a part of the ring, which is always the oldest.
func (h *history) evict(from, to int) {
	for h.head < len(h.records) {
		if r := h.records[h.head]; r.start >= to || r.end <= from {
			return
		}
		h.head++
	}
}

// between returns, oldest first, the batches that lead a shard's stream from one
// entry it ended with to a later one, or nil if they are not all there.
func (h *history) between(shard int, from, to ID) (first, last *batch) {
	for i := len(h.records) - 1; i >= h.head && to != from; i-- {
		r := h.records[i]
		if r.shard != shard || r.last != to {
			continue
		}
		b := h.restore(r)
		b.next = first
		if first = b; last == nil {
			last = b
		}
		to = r.prev
	}
	if to == from {
		return first, last
	}
	for first != nil { // the way back is not all there
		b := first
		first, b.next = b.next, nil
		b.recycle()
	}
	return nil, nil
}

// restore makes the batch of a record again. It counts for nothing in the
// writer's budget: the ring bounds it.
func (h *history) restore(r record) *batch {
	b := batches.Get().(*batch)
	b.prev, b.last = r.prev, r.last
	for data := h.ring[r.start:r.end]; len(data) > 0; {
		n, width := binary.Uvarint(data)
		end := width + int(n)
		b.buf = append(b.buf, data[width:end]...)
		b.ends = append(b.ends, len(b.buf))
		data = data[end:]
	}
	return b
}
