package stream

import "sync"

const (
	// A batch is sealed at either bound. Beyond some hundred entries a larger
	// batch saves nothing, and the script that writes it keeps Redis from
	// everybody else.
	batchEntries = 256
	batchBytes   = 256 << 10

	// entryOverhead is what an entry is counted for beside its type and data:
	// its id and the views of its fields.
	entryOverhead = 128

	// poolBytes is the largest buffer kept for reuse. Larger ones belong to a
	// rare event, and a thousand shards would hold on to a thousand of them.
	poolBytes = 2 * batchBytes
)

// batch is a run of entries that one script call appends. Its bytes lie in one
// buffer, and everything is reused, so that an entry costs no allocation.
type batch struct {
	prev, last ID    // the entry it continues, and its own last
	bytes      int64 // what it was counted for in the writer's budget
	eval       bool  // the server did not know the script: send all of it
	next       *batch

	buf  []byte // prev, then id, type, data of each entry
	ends []int  // where each of these ends in buf

	fields []field // views into buf, made when the batch is sent
	args   []any
}

// field is a view that go-redis writes as it stands. A pointer to it fits an
// interface without an allocation, which neither a string nor a []byte does.
type field []byte

// MarshalBinary implements encoding.BinaryMarshaler, for go-redis.
func (f *field) MarshalBinary() ([]byte, error) { return *f, nil }

var batches = sync.Pool{New: func() any { return new(batch) }}

// newBatch returns an empty batch that continues prev.
func newBatch(prev ID) *batch {
	b := batches.Get().(*batch)
	b.prev, b.last = prev, prev
	b.buf = prev.append(b.buf)
	b.ends = append(b.ends, len(b.buf))
	return b
}

// recycle gives b back. Nothing may refer to it afterwards.
func (b *batch) recycle() {
	if cap(b.buf) > poolBytes {
		return
	}
	clear(b.fields)
	*b = batch{buf: b.buf[:0], ends: b.ends[:0], fields: b.fields[:0], args: b.args[:0]}
	batches.Put(b)
}

func (b *batch) entries() int { return len(b.ends) / 3 }

func (b *batch) full() bool {
	return b.entries() >= batchEntries || len(b.buf) >= batchBytes
}

func (b *batch) add(e Entry, bytes int64) {
	b.buf = e.ID.append(b.buf)
	b.ends = append(b.ends, len(b.buf))
	b.buf = append(b.buf, e.Type...)
	b.ends = append(b.ends, len(b.buf))
	b.buf = append(b.buf, e.Data...)
	b.ends = append(b.ends, len(b.buf))
	b.last = e.ID
	b.bytes += bytes
}

// command returns the arguments of the script call that appends b to the stream
// key, valid until b is recycled. What it is given must be boxed already.
func (b *batch) command(key, maxLen any) []any {
	b.fields = b.fields[:0]
	start := 0
	for _, end := range b.ends {
		b.fields = append(b.fields, field(b.buf[start:end:end]))
		start = end
	}
	b.args = append(b.args[:0], "evalsha", appendHash, 1, key, &b.fields[0], maxLen)
	if b.eval {
		b.args[0], b.args[1] = "eval", appendText
	}
	for i := range b.fields[1:] {
		b.args = append(b.args, &b.fields[1+i])
	}
	return b.args
}
