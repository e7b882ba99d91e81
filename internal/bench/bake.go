//go:build unix

package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// The transports, as the gateway's URL names them.
const (
	zstdStream = "zstd-stream"
	zlibStream = "zlib-stream"
)

// hello asks for no heartbeats within a run.
const hello = `{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":3600000,"_trace":[]}}`

const ready = `{"t":"READY","s":1,"op":0,"d":{"v":10,"user":{"verified":true,"username":"bench","mfa_enabled":false,"id":"1000000000000000001",` +
	`"global_name":null,"flags":0,"email":null,"discriminator":"0001","bot":true,"avatar":null},"session_type":"normal",` +
	`"session_id":"0123456789abcdef0123456789abcdef","resume_gateway_url":"ws://127.0.0.1:1","relationships":[],"private_channels":[],` +
	`"presences":[],"guilds":[],"guild_join_requests":[],"geo_ordered_rtc_regions":[],"application":{"id":"1000000000000000001","flags":0}}}`

// baked is all that a gateway sends on one connection: WebSocket frames of compressed messages, HELLO, READY and then events. Each
// message is flushed, so that whatever it is cut off after, it is a stream that has come so far.
type baked struct {
	frames []byte
	ends   []int // of each message in frames
}

// messages returns the frames of messages from and up to, but not including, to.
func (b *baked) messages(from, to int) []byte {
	start := 0
	if from > 0 {
		start = b.ends[from-1]
	}
	return b.frames[start:b.ends[to-1]]
}

type compressor interface {
	io.Writer
	Flush() error
}

// newCompressor compresses as Discord does: a zstd window of 256 KiB has been seen, zlib's level is not known.
func newCompressor(transport string, w io.Writer) (compressor, error) {
	switch transport {
	case zstdStream:
		return zstd.NewWriter(w, zstd.WithWindowSize(256<<10), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
	case zlibStream:
		return zlib.NewWriterLevel(w, 6)
	}
	return nil, fmt.Errorf("transport %q: want %s or %s", transport, zstdStream, zlibStream)
}

// bake prepares a connection with so many events.
func bake(corpus []dispatch, transport string, events int) (*baked, error) {
	var packed bytes.Buffer
	c, err := newCompressor(transport, &packed)
	if err != nil {
		return nil, err
	}
	b := &baked{ends: make([]int, 0, events+2)}
	var message []byte
	for i := range events + 2 {
		switch i {
		case 0:
			message = append(message[:0], hello...)
		case 1:
			message = append(message[:0], ready...)
		default:
			d := corpus[(i-2)%len(corpus)]
			message = fmt.Appendf(message[:0], `{"t":"%s","s":%d,"op":0,"d":%s}`, d.kind, i, d.data)
		}
		packed.Reset()
		if _, err := c.Write(message); err != nil {
			return nil, fmt.Errorf("bake %s: %w", transport, err)
		}
		if err := c.Flush(); err != nil {
			return nil, fmt.Errorf("bake %s: %w", transport, err)
		}
		b.frames = appendFrame(b.frames, packed.Bytes())
		b.ends = append(b.ends, len(b.frames))
	}
	return b, nil
}

// appendFrame appends an unmasked binary message (RFC 6455, 5.2).
func appendFrame(dst, payload []byte) []byte {
	const finalBinary = 0x82
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, finalBinary, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, finalBinary, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, finalBinary, 127), uint64(n))
	}
	return append(dst, payload...)
}
