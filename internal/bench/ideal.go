//go:build unix

package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// runIdeal is what the job costs with the same libraries and nothing more: no heartbeats, no resume, no order, no bounds, and a gateway
// that writes its members in one order only.
func runIdeal(ctx context.Context, s spec, m *meter) error {
	sink := newSink(s)
	for i := range s.Shards {
		r, err := dialIdeal(ctx, s, i)
		if err != nil {
			return err
		}
		go func() {
			sink.fail(r.read(func(kind string, seq int64, data []byte) error {
				m.event(seq)
				return sink.add(i, kind, seq, data)
			}))
		}()
	}
	return sink.run(ctx)
}

// idealReader reads one shard's messages.
type idealReader struct {
	ws      *websocket.Conn
	packed  bytes.Buffer
	left    []byte // of packed, not yet unpacked
	message []byte // unpacked so far
	deliver func(message []byte) error
	kinds   map[string]string
}

func dialIdeal(ctx context.Context, s spec, shard int) (*idealReader, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return bufferedConn{conn, bufio.NewReaderSize(conn, 64<<10)}, err
	}}
	ws, _, err := websocket.Dial(ctx, s.url()+"?v=10&encoding=json&compress="+s.Transport, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	ws.SetReadLimit(-1)
	identify := fmt.Sprintf(`{"op":2,"d":{"token":"%s","intents":1,"properties":{},"shard":[%d,%d]}}`, token, shard, s.Shards)
	if err := ws.Write(ctx, websocket.MessageText, []byte(identify)); err != nil {
		return nil, fmt.Errorf("identify: %w", err)
	}
	return &idealReader{ws: ws, kinds: map[string]string{}}, nil
}

// bufferedConn reads more from the network at a time than the library asks for.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

// read delivers events until something fails.
func (r *idealReader) read(deliver func(kind string, seq int64, data []byte) error) error {
	r.deliver = func(message []byte) error {
		kind, seq, data, err := fixedScan(message)
		if err != nil || seq == 0 {
			return err
		}
		name, ok := r.kinds[string(kind)]
		if !ok {
			name = string(kind)
			r.kinds[name] = name
		}
		return deliver(name, seq, data)
	}
	if err := r.fetch(); err != nil {
		return err
	}
	inflater, err := r.inflater()
	if err != nil {
		return err
	}
	for {
		r.message = slices.Grow(r.message, 129<<10) // a block of zstd, or a window of zlib
		n, err := inflater.Read(r.message[len(r.message):cap(r.message)])
		if err != nil {
			return fmt.Errorf("inflate: %w", err)
		}
		r.message = r.message[:len(r.message)+n]
		if len(r.left) == 0 {
			if err := r.finish(); err != nil {
				return err
			}
		}
	}
}

// inflater reads from r. The first bytes are those of zlib or of zstd.
func (r *idealReader) inflater() (io.Reader, error) {
	if bytes.HasPrefix(r.left, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	}
	return zlib.NewReader(r)
}

// Read gives the inflater what is packed. When it wants more than a message has, the message is complete: zlib does so when a message
// ends where its window does.
func (r *idealReader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		if err := errors.Join(r.finish(), r.fetch()); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// ReadByte is for zlib, which would otherwise put a buffer before r.
func (r *idealReader) ReadByte() (byte, error) {
	if len(r.left) == 0 {
		if err := errors.Join(r.finish(), r.fetch()); err != nil {
			return 0, err
		}
	}
	b := r.left[0]
	r.left = r.left[1:]
	return b, nil
}

func (r *idealReader) finish() error {
	if len(r.message) == 0 {
		return nil
	}
	err := r.deliver(r.message)
	r.message = r.message[:0]
	return err
}

func (r *idealReader) fetch() error {
	_, reader, err := r.ws.Reader(context.Background())
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	r.packed.Reset()
	if _, err := r.packed.ReadFrom(reader); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	r.left = r.packed.Bytes()
	return nil
}

// fixedScan takes apart {"t":…,"s":…,"op":0,"d":…}, and only that. For HELLO the number is 0.
func fixedScan(message []byte) (kind []byte, seq int64, data []byte, err error) {
	rest, ok := bytes.CutPrefix(message, []byte(`{"t":"`))
	if !ok {
		return nil, 0, nil, nil
	}
	kind, rest, _ = bytes.Cut(rest, []byte(`","s":`))
	number, rest, ok := bytes.Cut(rest, []byte(`,"op":0,"d":`))
	if !ok || len(rest) == 0 {
		return nil, 0, nil, errors.New("a message in another form")
	}
	if seq, err = strconv.ParseInt(string(number), 10, 64); err != nil {
		return nil, 0, nil, err
	}
	return kind, seq, rest[:len(rest)-1], nil
}
