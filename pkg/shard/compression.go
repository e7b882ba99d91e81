package shard

import (
	"errors"
	"fmt"
)

// Compression is a transport compression: how Discord packs what it sends, for the whole connection (Discord:
// Gateway, Transport Compression).
type Compression string

// The transports. Zstd costs the least processor time and zlib the least memory.
const (
	CompressionZstd Compression = "zstd-stream"
	CompressionZlib Compression = "zlib-stream"
	CompressionNone Compression = "none"
)

// ParseCompression reads "zstd-stream", "zlib-stream" or "none".
func ParseCompression(s string) (Compression, error) {
	switch c := Compression(s); c {
	case CompressionZstd, CompressionZlib, CompressionNone:
		return c, nil
	}
	return "", fmt.Errorf("%q is none of %s, %s, %s", s, CompressionZstd, CompressionZlib, CompressionNone)
}

var (
	errTooBig   = errors.New("message exceeds the limit")
	errCompress = errors.New("message cannot be decompressed")
)

// inflater undoes the compression of a connection. It keeps state from message to message, and after an error only a
// reset makes it of use again. It holds much memory, so a session keeps its own for the next connection. (Sharing
// them between sessions would save nothing, since each connected one needs its own.)
type inflater interface {
	// inflate takes one binary WebSocket message and appends what it unpacks to, at most limit bytes, to dst. complete
	// is false if the gateway message goes on in the next WebSocket message.
	inflate(dst, src []byte, limit int) (msg []byte, complete bool, err error)
	// reset makes it ready for a new connection.
	reset()
}

// newInflater makes an inflater that is ready for a connection.
func newInflater(c Compression) inflater {
	switch c {
	case CompressionZstd:
		return newZstdInflater()
	case CompressionZlib:
		return newZlibInflater()
	}
	return plainInflater{}
}

// plainInflater is for connections without compression.
type plainInflater struct{}

func (plainInflater) inflate(dst, src []byte, limit int) ([]byte, bool, error) {
	if len(src) > limit {
		return dst, false, errTooBig
	}
	return append(dst, src...), true, nil
}

func (plainInflater) reset() {}
