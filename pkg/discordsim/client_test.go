package discordsim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a running server and a way to reach it.
type rig struct {
	*Server
	t    testing.TB
	base string // http://host
	http *http.Client
	stop func() // asks the server to end
}

// start serves on an in-memory network until the test ends.
func start(t testing.TB, opts Options) *rig {
	t.Helper()
	l := NewNetwork()
	transport := &http.Transport{
		DialContext: l.DialContext,
	}
	r := startOn(t, opts, l, "http://"+l.Addr().String())
	r.http = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	return r
}

// startTCP serves on loopback, for clients that know nothing else.
func startTCP(t testing.TB, opts Options) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, opts, l, "http://"+l.Addr().String())
}

func startOn(t testing.TB, opts Options, l net.Listener, base string) *rig {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return &rig{Server: s, t: t, base: base, http: http.DefaultClient, stop: cancel}
}

// client is a raw gateway client that does nothing by itself.
type client struct {
	t      testing.TB
	ws     *websocket.Conn
	decode func(websocket.MessageType, []byte) []byte
}

// message is what a server sends.
type message struct {
	T   string          `json:"t"`
	S   *int64          `json:"s"`
	Op  int             `json:"op"`
	D   json.RawMessage `json:"d"`
	raw string
}

const jsonQuery = "?v=10&encoding=json"

// dial connects to the base URL with a query such as jsonQuery.
func (r *rig) dial(query string) *client { return r.dialURL(r.base + "/" + query) }

func (r *rig) dialURL(url string) *client {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: r.http})
	if err != nil {
		r.t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	r.t.Cleanup(func() { _ = ws.CloseNow() })
	return &client{t: r.t, ws: ws, decode: func(_ websocket.MessageType, b []byte) []byte { return b }}
}

// next reads one message, or returns how the connection ended.
func (c *client) next() (message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	kind, b, err := c.ws.Read(ctx)
	if err != nil {
		return message{}, err
	}
	b = c.decode(kind, b)
	m := message{raw: string(b)}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%q: %w", b, err)
	}
	return m, nil
}

func (c *client) must() message {
	c.t.Helper()
	m, err := c.next()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// want reads one message, which must be of this opcode and, if it is a dispatch, of this type.
func (c *client) want(op int, eventType string) message {
	c.t.Helper()
	m := c.must()
	if m.Op != op || m.T != eventType {
		c.t.Fatalf("got op %d %s, want op %d %s: %.200s", m.Op, m.T, op, eventType, m.raw)
	}
	return m
}

// wantClose reads until the connection ends, which must be with this code.
func (c *client) wantClose(code CloseCode) {
	c.t.Helper()
	for {
		_, err := c.next()
		if err == nil {
			continue
		}
		if got := websocket.CloseStatus(err); got != websocket.StatusCode(code) {
			c.t.Fatalf("connection ended with %v, want close %d", err, code)
		}
		return
	}
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := c.trySend(text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) trySend(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, []byte(text))
}

// identifyJSON is a good IDENTIFY.
func identifyJSON(shard, total int, intents Intents) string {
	return fmt.Sprintf(`{"op":2,"d":{"token":%q,"intents":%d,"properties":{"os":"linux","browser":"t","device":"t"},"shard":[%d,%d]}}`,
		DefaultToken, intents, shard, total)
}

func resumeJSON(id string, seq int64) string {
	return fmt.Sprintf(`{"op":6,"d":{"token":%q,"session_id":%q,"seq":%d}}`, DefaultToken, id, seq)
}

// readyData is what tests look at in READY.
type readyData struct {
	SessionID string   `json:"session_id"`
	ResumeURL string   `json:"resume_gateway_url"`
	Trace     []string `json:"_trace"`
	Shard     []int    `json:"shard"`
	Guilds    []struct {
		ID          string `json:"id"`
		Unavailable bool   `json:"unavailable"`
	} `json:"guilds"`
}

// login takes a fresh connection to READY.
func (c *client) login(shard, total int, intents Intents) readyData {
	c.t.Helper()
	c.want(10, "")
	c.send(identifyJSON(shard, total, intents))
	var r readyData
	m := c.want(0, "READY")
	if err := json.Unmarshal(m.D, &r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// drain reads in the background until the connection ends, and gives the messages once it has.
func (c *client) drain() func() ([]message, error) {
	type result struct {
		got []message
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		for {
			m, err := c.next()
			if err != nil {
				r.err = err
				done <- r
				return
			}
			r.got = append(r.got, m)
		}
	}()
	return func() ([]message, error) { r := <-done; return r.got, r.err }
}

// zlibDecoder and zstdDecoder read the compressed transports with decoders that are fed one WebSocket message at a time
// and must yield one gateway message for it.
func zlibDecoder(t testing.TB) func(websocket.MessageType, []byte) []byte {
	feed := new(feeder)
	var r io.ReadCloser
	return func(kind websocket.MessageType, b []byte) []byte {
		if kind != websocket.MessageBinary || !bytes.HasSuffix(b, []byte{0, 0, 0xff, 0xff}) {
			t.Errorf("zlib-stream: a %v message that ends in % x", kind, b[max(0, len(b)-4):])
		}
		feed.Write(b)
		if r == nil {
			var err error
			if r, err = zlib.NewReader(feed); err != nil {
				t.Error(err)
				return nil
			}
		}
		return readMessage(t, r)
	}
}

func zstdDecoder(t testing.TB) func(websocket.MessageType, []byte) []byte {
	feed := new(feeder)
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(256<<10))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	started := false
	return func(kind websocket.MessageType, b []byte) []byte {
		if kind != websocket.MessageBinary {
			t.Errorf("zstd-stream: a %v message", kind)
		}
		feed.Write(b)
		if !started {
			started = true
			if want := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x40}; !bytes.HasPrefix(b, want) {
				t.Errorf("zstd-stream starts % x, Discord's starts % x", b[:6], want)
			}
			if err := r.Reset(feed); err != nil {
				t.Error(err)
				return nil
			}
		}
		return readMessage(t, r)
	}
}

// feeder is a reader that is never at its end, only empty.
type feeder struct{ buf bytes.Buffer }

func (f *feeder) Write(p []byte) { f.buf.Write(p) }

func (f *feeder) Read(p []byte) (int, error) {
	if f.buf.Len() == 0 {
		return 0, errEmpty
	}
	return f.buf.Read(p)
}

func (f *feeder) ReadByte() (byte, error) {
	if f.buf.Len() == 0 {
		return 0, errEmpty
	}
	return f.buf.ReadByte()
}

var errEmpty = errors.New("decoder asked for more than the message holds")

// readMessage takes one JSON value off a decompressor.
func readMessage(t testing.TB, r io.Reader) []byte {
	var v json.RawMessage
	if err := json.NewDecoder(r).Decode(&v); err != nil {
		t.Error(err)
	}
	return v
}
