package shard

import (
	"io"
	"slices"
	"sync"
)

// buffer is scratch memory for one message. Buffers are shared by all sessions of the process, so a thousand idle
// ones hold none.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// maxPooled is the capacity beyond which a buffer is not kept: one huge guild should not hold its memory for ever.
const maxPooled = 1 << 20

func getBuffer() *buffer {
	buf := buffers.Get().(*buffer)
	buf.b = buf.b[:0]
	return buf
}

func putBuffer(buf *buffer) {
	if cap(buf.b) <= maxPooled {
		buffers.Put(buf)
	}
}

// readAll appends all of r, at most limit bytes, to dst.
func readAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	begin := len(dst)
	for {
		dst = slices.Grow(dst, 512)
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst)-begin > limit:
			return dst, errTooBig
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}
