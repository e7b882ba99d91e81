package shard

import (
	"bytes"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// zstdMaxWindow bounds the memory a connection can make us allocate. Discord has been seen to use 256 KiB.
	zstdMaxWindow = 8 << 20
	// zstdBlock is the largest block zstd has (RFC 8878, 3.1.1.2.4).
	zstdBlock = 128 << 10
)

// zstdDecoders are decoders without a stream. A decoder is large and costly to make; with concurrency 1 it has no
// goroutine, so those nobody needs any more may simply be collected.
var zstdDecoders sync.Pool

// zstdInflater reads a zstd stream that never ends, in which each WebSocket message is flushed and so complete.
type zstdInflater struct {
	decoder *zstd.Decoder
	// source is what is left of the present message. It must not be something with a method Bytes, such as a
	// bytes.Buffer: zstd would take that for a whole file.
	source  bytes.Reader
	started bool
}

func newZstdInflater() *zstdInflater {
	z := new(zstdInflater)
	z.decoder, _ = zstdDecoders.Get().(*zstd.Decoder)
	if z.decoder == nil {
		var err error
		z.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdMaxWindow))
		if err != nil {
			panic("shard: zstd refuses constant options: " + err.Error())
		}
	}
	return z
}

func (z *zstdInflater) release() {
	// Resetting to nothing cannot fail on a decoder that was not closed, and if it did the next Reset would say so.
	_ = z.decoder.Reset(nil)
	zstdDecoders.Put(z.decoder)
	z.decoder = nil
}

// inflate reads block by block until the message is used up. The decoder never asks for more than one block at a
// time, and a block always fits into the spare room, so it is never asked to read beyond the flush, where it would
// meet an end of file that it could not forget.
func (z *zstdInflater) inflate(dst, src []byte, limit int) ([]byte, bool, error) {
	begin := len(dst)
	z.source.Reset(src)
	if !z.started {
		if err := z.decoder.Reset(&z.source); err != nil {
			return dst, false, errCompress
		}
		z.started = true
	}
	for z.source.Len() > 0 {
		dst = slices.Grow(dst, zstdBlock+1)
		n, err := z.decoder.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst)-begin > limit {
			return dst, false, errTooBig
		}
		if err != nil && err != io.EOF || n == 0 {
			return dst, false, errCompress
		}
	}
	return dst, true, nil
}
