package shard

import (
	"bytes"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

const (
	// zstdMaxWindow bounds the memory a connection can make us allocate. Discord has been seen to use 256 KiB.
	zstdMaxWindow = 8 << 20
	// zstdBlock is the largest block zstd has (RFC 8878, 3.1.1.2.4).
	zstdBlock = 128 << 10
)

// zstdInflater reads a zstd stream that never ends, in which each WebSocket message is flushed and so complete.
type zstdInflater struct {
	decoder *zstd.Decoder
	// source is what is left of the present message. It must not be something with a method Bytes, such as a
	// bytes.Buffer: zstd would take that for a whole file.
	source  bytes.Reader
	started bool
}

func newZstdInflater() *zstdInflater {
	// With concurrency 1 the decoder has no goroutines and need not be closed.
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdMaxWindow))
	if err != nil {
		panic("shard: zstd refuses constant options: " + err.Error())
	}
	return &zstdInflater{decoder: decoder}
}

func (z *zstdInflater) reset() {
	z.source.Reset(nil)
	z.started = false
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
