package shard

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// streams are the two compressed transports.
var streams = []Compression{CompressionZlib, CompressionZstd}

// inflateAll takes messages through a compressor and an inflater, and compares.
func inflateAll(t *testing.T, c Compression, in inflater, messages [][]byte) {
	t.Helper()
	pack := packer(string(c))
	var scratch []byte
	for i, want := range messages {
		got, complete, err := in.inflate(scratch[:0], pack(want), DefaultMaxMessageBytes)
		if err != nil || !complete || !bytes.Equal(got, want) {
			t.Fatalf("message %d of %d bytes: %d bytes, complete %v, %v", i, len(want), len(got), complete, err)
		}
		scratch = got
	}
}

// noise is text that compresses a little, of n bytes.
func noise(rng *rand.Rand, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = "abcdefghijklmnopqrstuvwxyz{}:,\"0123456789"[rng.IntN(41)]
	}
	return out
}

func TestInflateSizes(t *testing.T) {
	for _, c := range streams {
		t.Run(string(c), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			messages := sampleMessages(200)
			// Sizes round those of windows and blocks, small ones between, and some that compress to almost nothing.
			for _, size := range []int{2, 32 << 10, 64 << 10, 128 << 10, 256 << 10} {
				for _, off := range []int{-1, 0, 1} {
					messages = append(messages, noise(rng, size+off), bytes.Repeat([]byte("a"), size+off), noise(rng, 10))
				}
			}
			in := newInflater(c)
			inflateAll(t, c, in, messages)
			in.reset()
			inflateAll(t, c, in, messages[:210])
		})
	}
}

// TestZlibWindowBoundary ends messages exactly where the decompressor's 32 KiB window is full, which it would not
// survive without a restart; what follows refers to bytes from before it.
func TestZlibWindowBoundary(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var messages [][]byte
	for range 20 {
		left := deflateWindow
		for left > 0 {
			message := noise(rng, min(left, 1+rng.IntN(9000)))
			if len(messages) > 0 && left > 20_000 { // something to refer back to
				message = bytes.Clone(messages[rng.IntN(len(messages))])
			}
			left -= len(message)
			messages = append(messages, message)
		}
	}
	in := newInflater(CompressionZlib)
	inflateAll(t, CompressionZlib, in, messages)
}

func TestInflateLimit(t *testing.T) {
	for _, c := range streams {
		in := newInflater(c)
		bomb := packer(string(c))(bytes.Repeat([]byte("a"), 10<<20))
		msg, _, err := in.inflate(nil, bomb, 1<<20)
		if !errors.Is(err, errTooBig) || len(msg) > 1<<20+zstdBlock {
			t.Errorf("%s: %d bytes, %v", c, len(msg), err)
		}
	}
	if _, _, err := (plainInflater{}).inflate(nil, []byte("abc"), 2); !errors.Is(err, errTooBig) {
		t.Error(err)
	}
	in := newInflater(CompressionZlib) // a message that never ends
	var err error
	for range 20 {
		if _, _, err = in.inflate(nil, make([]byte, 100), 1000); err != nil {
			break
		}
	}
	if !errors.Is(err, errTooBig) {
		t.Error(err)
	}
}

// TestZlibSplit: a gateway message may come in several WebSocket messages.
func TestZlibSplit(t *testing.T) {
	in, pack := newInflater(CompressionZlib), packer(string(CompressionZlib))
	for i := range 10 {
		want := fmt.Sprintf(`{"n":%d,"x":%q}`, i, strings.Repeat("y", i*100))
		packed := pack([]byte(want))
		for j := range packed[:len(packed)-1] {
			if _, complete, err := in.inflate(nil, packed[j:j+1], 1<<20); complete || err != nil {
				t.Fatalf("byte %d: complete %v, %v", j, complete, err)
			}
		}
		got, complete, err := in.inflate(nil, packed[len(packed)-1:], 1<<20)
		if !complete || err != nil || string(got) != want {
			t.Fatalf("%q, complete %v, %v", got, complete, err)
		}
	}
}

// TestInflaterSurvivesAbuse: after garbage and a reset, an inflater is as good as new.
func TestInflaterSurvivesAbuse(t *testing.T) {
	for _, c := range streams {
		in := newInflater(c)
		if _, _, err := in.inflate(nil, append([]byte("this is no compressed stream"), syncFlush...), 1<<20); !errors.Is(err, errCompress) {
			t.Errorf("%s: %v", c, err)
		}
		in.reset()
		inflateAll(t, c, in, sampleMessages(50))
	}
}

// FuzzInflate: nothing that Discord could send makes an inflater panic, hang, or give more than the limit allows.
func FuzzInflate(f *testing.F) {
	for _, c := range streams {
		pack := packer(string(c))
		f.Add(c == CompressionZlib, bytes.Clone(pack([]byte(`{"op":10}`))), pack([]byte(`{"op":11}`)))
		f.Add(c == CompressionZlib, []byte{}, []byte("garbage\x00\x00\xff\xff"))
	}
	f.Add(true, []byte("\x78\x9c\x00\x00\xff\xff"), []byte("\x00\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, isZlib bool, first, second []byte) {
		in := newInflater(CompressionZstd)
		if isZlib {
			in = newInflater(CompressionZlib)
		}
		const limit = 1 << 20
		for _, packed := range [][]byte{first, second} {
			msg, complete, err := in.inflate(nil, packed, limit)
			if complete && len(msg) > limit {
				t.Fatalf("%d bytes", len(msg))
			}
			if err != nil {
				return
			}
		}
	})
}
