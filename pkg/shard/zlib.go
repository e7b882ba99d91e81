package shard

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/klauspost/compress/flate"
)

// deflateWindow is how far back a deflate stream can refer (RFC 1951).
const deflateWindow = 32 << 10

// syncFlush ends every gateway message in a zlib stream (Discord: Gateway, zlib-stream): an empty stored block.
var syncFlush = []byte{0x00, 0x00, 0xFF, 0xFF}

// zlibInflater reads a zlib stream that never ends, in which each gateway message ends with a sync flush.
type zlibInflater struct {
	reader  io.ReadCloser
	source  bytes.Reader
	pending []byte // the beginning of a gateway message that goes on in the next WebSocket message
	started bool   // the two bytes of zlib header are behind us

	// The last bytes unpacked, for restart: a ring, full once filled, whose oldest byte is then at next. It is an allocation of its
	// own because with anything beside it it would take up 40 KiB instead of 32.
	window *[deflateWindow]byte
	next   int
	filled bool
}

func newZlibInflater() *zlibInflater {
	z := &zlibInflater{window: new([deflateWindow]byte)}
	z.reader = flate.NewReader(&z.source)
	return z
}

func (z *zlibInflater) reset() {
	z.pending = nil
	z.started = false
	z.next, z.filled = 0, false
	z.restart()
}

func (z *zlibInflater) inflate(dst, src []byte, limit int) ([]byte, bool, error) {
	if len(z.pending)+len(src) > limit {
		return dst, false, errTooBig
	}
	if len(z.pending) > 0 || !bytes.HasSuffix(src, syncFlush) {
		z.pending = append(z.pending, src...)
		src = z.pending
		if !bytes.HasSuffix(src, syncFlush) {
			return dst, false, nil
		}
		z.pending = nil
	}
	if !z.started {
		if !zlibHeader(src) {
			return dst, false, errCompress
		}
		z.started = true
		src = src[2:]
	}
	msg, err := z.unpack(dst, src, limit)
	return msg, err == nil, err
}

// zlibHeader says whether src begins as a zlib stream without a preset dictionary (RFC 1950, 2.2).
func zlibHeader(src []byte) bool {
	return len(src) >= 2 && src[0]&0x0f == 8 && src[0]>>4 <= 7 && src[1]&0x20 == 0 &&
		(uint(src[0])<<8|uint(src[1]))%31 == 0
}

func (z *zlibInflater) unpack(dst, src []byte, limit int) ([]byte, error) {
	begin := len(dst)
	z.source.Reset(src)
	for z.source.Len() > 0 {
		dst = slices.Grow(dst, deflateWindow+1) // more than the reader returns at once, so nothing stays behind in it
		n, err := z.reader.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst)-begin > limit {
			return dst, errTooBig
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			// The reader asked for bytes beyond the flush. That is no error of the stream if it has used up the message;
			// but the reader would not forget it.
			if z.source.Len() > 0 {
				return dst, errCompress
			}
			z.remember(dst[begin:])
			z.restart()
			return dst, nil
		}
		if err != nil {
			return dst, errCompress
		}
	}
	z.remember(dst[begin:])
	return dst, nil
}

// remember puts what was unpacked into the window.
func (z *zlibInflater) remember(unpacked []byte) {
	unpacked = unpacked[max(0, len(unpacked)-deflateWindow):]
	n := copy(z.window[z.next:], unpacked)
	z.next += n
	if z.next == deflateWindow {
		z.next = copy(z.window[:], unpacked[n:])
		z.filled = true
	}
}

// restart gives the reader a fresh start at a flush, with the same window behind it. flate returns what it has
// unpacked when it meets a flush or when its own window is full. If both fall together, about once in 32,768
// messages, nothing is left to return at the flush, so the reader goes on past it, meets the end of the message and
// holds that error for ever. A flush ends on a byte boundary and between blocks, so a new start there is exact.
func (z *zlibInflater) restart() {
	window := slices.Clone(z.window[:z.next])
	if z.filled {
		window = slices.Concat(z.window[z.next:], window)
	}
	// Reset of a flate reader has no way to fail.
	_ = z.reader.(flate.Resetter).Reset(&z.source, window)
}
