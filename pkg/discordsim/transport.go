package discordsim

import (
	"bytes"
	"fmt"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// encoder turns gateway messages into the WebSocket messages of one connection. It is used by one goroutine; the bytes
// it returns are valid until its next call.
type encoder interface {
	encode(message []byte) (websocket.MessageType, []byte, error)
}

// newEncoder serves the compress parameter of the gateway URL.
// See https://discord.com/developers/docs/events/gateway#compressing-payloads.
func newEncoder(compress string) (encoder, error) {
	switch compress {
	case "":
		return plain{}, nil
	case "zlib-stream":
		return newZlibStream()
	case "zstd-stream":
		return newZstdStream()
	}
	return nil, fmt.Errorf("unknown compression %q", compress)
}

// plain sends messages as they are, in text frames.
type plain struct{}

func (plain) encode(message []byte) (websocket.MessageType, []byte, error) {
	return websocket.MessageText, message, nil
}

// flusher is a compressor that can end a message without ending its stream.
type flusher interface {
	Write([]byte) (int, error)
	Flush() error
}

// stream is transport compression: one compressor for the life of the connection, flushed after each message so that
// the client can decode it at once.
type stream struct {
	out bytes.Buffer
	w   flusher
}

// newZlibStream makes messages end in 00 00 FF FF, the marker of a zlib sync flush.
func newZlibStream() (*stream, error) {
	s := new(stream)
	w, err := zlib.NewWriterLevel(&s.out, zlib.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("zlib-stream: %w", err)
	}
	s.w = w
	return s, nil
}

// newZstdStream uses the frame parameters captured from Discord: a window of 256 KiB, no checksum, no content size. The
// zstd frame never ends.
func newZstdStream() (*stream, error) {
	s := new(stream)
	w, err := zstd.NewWriter(&s.out, zstd.WithWindowSize(256<<10), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("zstd-stream: %w", err)
	}
	s.w = w
	return s, nil
}

func (s *stream) encode(message []byte) (websocket.MessageType, []byte, error) {
	s.out.Reset()
	if _, err := s.w.Write(message); err != nil {
		return 0, nil, fmt.Errorf("compress: %w", err)
	}
	if err := s.w.Flush(); err != nil {
		return 0, nil, fmt.Errorf("compress: flush: %w", err)
	}
	return websocket.MessageBinary, s.out.Bytes(), nil
}

// payloadThreshold is the size from which payload compression pays. Discord's is not documented.
const payloadThreshold = 1024

// payloads is the older payload compression that IDENTIFY asks for with "compress": large messages become binary ones,
// each a zlib stream of its own, and the rest stay text.
type payloads struct {
	out bytes.Buffer
	w   *zlib.Writer
}

func (p *payloads) encode(message []byte) (websocket.MessageType, []byte, error) {
	if len(message) < payloadThreshold {
		return websocket.MessageText, message, nil
	}
	p.out.Reset()
	if p.w == nil {
		p.w = zlib.NewWriter(&p.out)
	} else {
		p.w.Reset(&p.out)
	}
	if _, err := p.w.Write(message); err != nil {
		return 0, nil, fmt.Errorf("compress payload: %w", err)
	}
	if err := p.w.Close(); err != nil {
		return 0, nil, fmt.Errorf("compress payload: %w", err)
	}
	return websocket.MessageBinary, p.out.Bytes(), nil
}
