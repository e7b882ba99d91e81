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

// inflater undoes the compression of one connection. It keeps state from message to message, and after an error it
// is of no more use.
type inflater interface {
	// inflate takes one binary WebSocket message and appends what it unpacks to, at most limit bytes, to dst. complete
	// is false if the gateway message goes on in the next WebSocket message.
	inflate(dst, src []byte, limit int) (msg []byte, complete bool, err error)
	// release gives the memory back for another connection.
	release()
}

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

func (plainInflater) release() {}
