package shard

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// interval is the heartbeat interval the peer asks for.
const interval = 40 * time.Second

// peer is a Discord that does what a test tells it to, over net.Pipe, so that it works on virtual time.
type peer struct {
	t       testing.TB
	conns   chan net.Conn
	opened  chan *peerConn
	refuse  atomic.Int64 // answer this many upgrades with status 503
	dropped atomic.Int64 // let this many dials fail
	moved   atomic.Int64 // answer this many upgrades with a redirect to another host
	closed  chan struct{}
	secure  atomic.Pointer[tls.Config] // what a connection meets, if set
}

func newPeer(t testing.TB) *peer {
	p := &peer{t: t, conns: make(chan net.Conn), opened: make(chan *peerConn, 16), closed: make(chan struct{})}
	server := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0), ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, rawConn{}, conn)
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(p)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return p
}

// Accept, Close and Addr make the peer a net.Listener.
func (p *peer) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		if secure := p.secure.Load(); secure != nil {
			return tls.Server(conn, secure), nil
		}
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *peer) Close() error {
	close(p.closed)
	return nil
}

func (p *peer) Addr() net.Addr { return &net.UnixAddr{Name: "peer"} }

func (p *peer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if p.dropped.Load() > 0 {
		p.dropped.Add(-1)
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.refuse.Load() > 0 {
		p.refuse.Add(-1)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if p.moved.Load() > 0 {
		p.moved.Add(-1)
		http.Redirect(w, r, "ws://elsewhere.test/", http.StatusFound)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		p.t.Errorf("accept: %v", err)
		return
	}
	ws.SetReadLimit(-1)
	raw, _ := r.Context().Value(rawConn{}).(net.Conn)
	c := &peerConn{t: p.t, ws: ws, raw: raw, host: r.Host, query: r.URL.Query().Encode(), inbox: make(chan peerMessage, 10_000),
		writing: make(chan struct{}, 1)}
	c.pack = packer(r.URL.Query().Get("compress"))
	c.ack.Store(true)
	go c.read()
	p.opened <- c
}

// next waits for the session's next connection.
func (p *peer) next() *peerConn {
	p.t.Helper()
	select {
	case c := <-p.opened:
		return c
	case <-time.After(24 * time.Hour): // virtual
		p.t.Fatal("no connection came")
		return nil
	}
}

// rawConn is the key of a request's network connection.
type rawConn struct{}

// peerMessage is what the session sent.
type peerMessage struct {
	Op   int             `json:"op"`
	Data json.RawMessage `json:"d"`
}

// peerConn is the peer's end of one connection.
type peerConn struct {
	t           testing.TB
	ws          *websocket.Conn
	raw         net.Conn // below ws
	host, query string
	pack        func([]byte) []byte
	ack         atomic.Bool // answer heartbeats
	beats       atomic.Int64
	lastBeat    atomic.Value // string, d of the last heartbeat
	inbox       chan peerMessage

	// writing is held while a message is written. It is no mutex, because synctest's clock stands still while a
	// goroutine waits for one.
	writing chan struct{}
	ended   error // how the session ended the connection; to be read once inbox is closed
}

func (c *peerConn) read() {
	defer close(c.inbox)
	for {
		_, raw, err := c.ws.Read(context.Background())
		if err != nil {
			c.ended = err
			return
		}
		var m peerMessage
		if err := json.Unmarshal(raw, &m); err != nil {
			c.t.Errorf("the session sent %q: %v", raw, err)
		}
		if m.Op == opHeartbeat {
			c.beats.Add(1)
			c.lastBeat.Store(string(m.Data))
			if c.ack.Load() {
				go c.send(`{"t":null,"s":null,"op":11,"d":null}`)
			}
			continue
		}
		c.inbox <- m
	}
}

// send writes one gateway message, compressed as the session asked. A session that has gone is no error.
func (c *peerConn) send(message string) { c.sendBytes([]byte(message)) }

func (c *peerConn) sendBytes(message []byte) {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	kind, packed := websocket.MessageText, message
	if c.pack != nil {
		kind, packed = websocket.MessageBinary, c.pack(message)
	}
	_ = c.ws.Write(context.Background(), kind, packed)
}

func (c *peerConn) hello() {
	c.send(fmt.Sprintf(`{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":%d,"_trace":["x"]}}`, interval.Milliseconds()))
}

func (c *peerConn) dispatch(seq int64, typ, d string) {
	c.send(fmt.Sprintf(`{"t":%q,"s":%d,"op":0,"d":%s}`, typ, seq, d))
}

func (c *peerConn) ready(session string) {
	c.dispatch(1, "READY", fmt.Sprintf(`{"v":10,"session_id":%q,"resume_gateway_url":"ws://resume.test"}`, session))
}

// expect waits for the session's next message, heartbeats apart, which must have this op.
func (c *peerConn) expect(op int) peerMessage {
	c.t.Helper()
	m, ok := c.receive()
	if !ok {
		c.t.Fatalf("connection ended (%v) where op %d was due", c.ended, op)
	}
	if m.Op != op {
		c.t.Fatalf("op %d came where op %d was due", m.Op, op)
	}
	return m
}

// expectResume checks the RESUME the session sends.
func (c *peerConn) expectResume(session string, seq int64) {
	c.t.Helper()
	m := c.expect(opResume)
	want := fmt.Sprintf(`{"token":"token-secret","session_id":%q,"seq":%d}`, session, seq)
	if string(m.Data) != want {
		c.t.Fatalf("RESUME with %s, want %s", m.Data, want)
	}
}

// expectClose waits for the session to close the connection, and returns the code; -1 if it went without one.
func (c *peerConn) expectClose() int {
	c.t.Helper()
	if m, ok := c.receive(); ok {
		c.t.Fatalf("op %d came where a close was due", m.Op)
	}
	return int(websocket.CloseStatus(c.ended))
}

// receive waits for the session's next message, heartbeats apart. ok is false once the connection has ended.
func (c *peerConn) receive() (m peerMessage, ok bool) {
	c.t.Helper()
	select {
	case m, ok = <-c.inbox:
	case <-time.After(24 * time.Hour): // virtual
		c.t.Fatal("neither a message nor a close came")
	}
	return m, ok
}

// silent fails the test if the session has sent anything but heartbeats.
func (c *peerConn) silent() {
	c.t.Helper()
	select {
	case m, ok := <-c.inbox:
		c.t.Fatalf("op %d came (open: %v) where nothing was due", m.Op, ok)
	default:
	}
}

func (c *peerConn) close(code int) { _ = c.ws.Close(websocket.StatusCode(code), "") }
func (c *peerConn) cut()           { _ = c.ws.CloseNow() }

// packer compresses a stream as Discord does. What it returns is good until the next message.
func packer(compress string) func([]byte) []byte {
	var out bytes.Buffer
	var writer interface {
		io.Writer
		Flush() error
	}
	switch Compression(compress) {
	case CompressionZlib:
		writer = zlib.NewWriter(&out)
	case CompressionZstd:
		w, err := zstd.NewWriter(&out, zstd.WithWindowSize(1<<18), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
		if err != nil {
			panic(err)
		}
		writer = w
	default:
		return nil
	}
	return func(message []byte) []byte {
		out.Reset()
		if _, err := writer.Write(message); err != nil {
			panic(err)
		}
		if err := writer.Flush(); err != nil {
			panic(err)
		}
		return out.Bytes()
	}
}

// rig is a running session with its peer.
type rig struct {
	*peer
	session *Session
	cancel  context.CancelCauseFunc
	done    chan error

	mu     sync.Mutex
	events []string // "seq TYPE data"
}

func (r *rig) deliver(_ context.Context, e Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf("%d %s %s", e.Seq, e.Type, e.Data))
	return nil
}

// seen returns what was delivered.
func (r *rig) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.events...)
}

// identifier is an Identifier made of a function.
type identifier func(context.Context) (Permit, error)

func (f identifier) Permit(ctx context.Context, _ ID) (Permit, error) { return f(ctx) }

// always gives leave at once.
var always = identifier(func(context.Context) (Permit, error) { return Permit{}, nil })

// storeFuncs is a MemoryStore that asks functions first, those that are set.
type storeFuncs struct {
	MemoryStore
	load  func() error
	begin func(Resume) error
	end   func(context.Context, Resume) error
}

func (s *storeFuncs) Load(ctx context.Context, id ID) (Resume, error) {
	if s.load != nil {
		if err := s.load(); err != nil {
			return Resume{}, err
		}
	}
	return s.MemoryStore.Load(ctx, id)
}

func (s *storeFuncs) Begin(ctx context.Context, id ID, r Resume) error {
	if s.begin != nil {
		if err := s.begin(r); err != nil {
			return err
		}
	}
	return s.MemoryStore.Begin(ctx, id, r)
}

func (s *storeFuncs) End(ctx context.Context, id ID, r Resume) error {
	if s.end != nil {
		if err := s.end(ctx, r); err != nil {
			return err
		}
	}
	return s.MemoryStore.End(ctx, id, r)
}

// start runs a session against a new peer, beginning with the session to resume if there is one. change may be nil.
func start(t testing.TB, resume *Resume, change func(*Config)) *rig {
	t.Helper()
	r := &rig{peer: newPeer(t), done: make(chan error, 1)}
	cfg := Config{
		ID: ID{3, 16}, Token: "token-secret", Intents: IntentGuilds, GatewayURL: "ws://base.test",
		Compression: CompressionNone,
		Identifier:  always,
		Deliver:     r.deliver,
		DialContext: r.dial,
	}
	if change != nil {
		change(&cfg)
	}
	if cfg.Store == nil {
		cfg.Store = new(storeFuncs)
	}
	if resume != nil {
		_ = cfg.Store.(*storeFuncs).save(cfg.ID, *resume)
	}
	session, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.session = session
	ctx, cancel := context.WithCancelCause(context.Background())
	r.cancel = cancel
	go func() { r.done <- session.Run(ctx) }()
	return r
}

// stop ends the session's context and returns what Run returns.
func (r *rig) stop(cause error) error {
	r.cancel(cause)
	return <-r.done
}

// live brings a new session up to its READY.
func (r *rig) live() *peerConn {
	r.t.Helper()
	c := r.next()
	c.hello()
	c.expect(opIdentify)
	c.ready("session-secret")
	synctest.Wait()
	return c
}
