package discordsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxPayload is the largest message a client may send.
	// See https://discord.com/developers/docs/events/gateway#sending-events.
	maxPayload = 4096
	// maxControls bounds the answers waiting for a client that does not read. It is above what sendLimit lets a client
	// ask for, so only a storm from the server's own controls can reach it.
	maxControls = 2 * sendLimit
	// burstBytes is about how much goes out between two looks at the control queue.
	burstBytes = 256 << 10
	// closePatience is how long a closing connection waits for a writer stuck on a client that does not read.
	closePatience = 5 * time.Second
)

// conn is one WebSocket connection. Its reader, the goroutine of the HTTP handler, answers what the client sends; its
// writer sends answers and the session's dispatches at the pace the client reads them; a third goroutine waits for the
// first cause to end, says goodbye accordingly and so unblocks the other two.
type conn struct {
	server *Server
	id     uint64
	ws     *websocket.Conn
	link   *link
	path   string // basePath or resumePath
	host   string // base of the URLs the client is given

	version string // of the gateway

	ctx    context.Context // ends with the connection; its cause says why
	cancel context.CancelCauseFunc
	wake   chan struct{} // the writer has something to do

	sends     sendClock   // the reader's
	presences sendClock   // the reader's
	silence   *time.Timer // the reader's; fires when heartbeats stop

	mu       sync.Mutex
	encoder  encoder
	controls [][]byte // messages that are not dispatches
	acks     []int64  // heartbeats to acknowledge, each when this number was sent; only with AcksBehindBacklog
	session  *session // nil before IDENTIFY or RESUME, and after the session was invalidated
	sent     int64    // the session's last sequence number handed to the writer
	mangled  *Fault   // happens to the next message it concerns
}

func newConn(s *Server, ws *websocket.Conn, l *link) *conn {
	return &conn{
		server: s, ws: ws, link: l, wake: make(chan struct{}, 1),
		sends: newSendClock(sendLimit, sendPeriod), presences: newSendClock(presenceLimit, presencePeriod),
	}
}

// run serves the connection until it ends.
func (c *conn) run() {
	c.silence = time.AfterFunc(c.patience(), c.silent)
	defer c.silence.Stop()
	c.greet()

	var rest sync.WaitGroup
	written := make(chan struct{})
	rest.Go(func() {
		defer close(written)
		c.write()
	})
	rest.Add(1)
	context.AfterFunc(c.ctx, func() { // no goroutine until then: there are tests with as many connections as the race detector bears
		defer rest.Done()
		c.hangUp(written)
	})
	c.read()
	rest.Wait()
}

// greet sends HELLO.
func (c *conn) greet() {
	if c.server.struck(c, StageHello, -1) {
		return
	}
	c.control(hello(c.server.opts.HeartbeatInterval))
	c.server.struck(c, StageAfterHello, -1)
}

// read answers client messages until the connection ends.
func (c *conn) read() {
	for {
		message, err := c.receive()
		if c.ctx.Err() != nil {
			return // closing: Discord ignores what comes now
		}
		if err == nil {
			err = c.answer(decodeMessage(message))
		}
		if err != nil {
			c.cancel(err)
			return
		}
	}
}

// answer has a message handled, unless a hook keeps it.
func (c *conn) answer(m incoming) error {
	if m.op == opHeartbeat {
		c.silence.Reset(c.patience())
	}
	if c.server.intercept(c, m) {
		return nil
	}
	return c.server.handle(c, m)
}

// patience is how long the client may go without a heartbeat.
func (c *conn) patience() time.Duration {
	return c.server.opts.HeartbeatInterval + c.server.opts.HeartbeatGrace
}

// receive reads one message. Both text and binary are taken, as Discord does.
func (c *conn) receive() ([]byte, error) {
	_, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	message, err := io.ReadAll(io.LimitReader(r, maxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return message, nil
}

// hangUp ends the connection, which there is a cause for.
func (c *conn) hangUp(written <-chan struct{}) {
	cause := context.Cause(c.ctx)
	c.server.detach(c, cause)

	var bye *closeError
	if !errors.As(cause, &bye) {
		_ = c.ws.CloseNow() // the client is gone, or to be cut off
		return
	}
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-written:
		if bye == errCut {
			_ = c.ws.CloseNow()
			return
		}
		_ = c.ws.Close(websocket.StatusCode(bye.code), bye.reason) // best effort by nature
	case <-patience.C:
		_ = c.ws.CloseNow()
	}
}

// silent runs when no heartbeat came in time.
func (c *conn) silent() {
	if !c.link.gone() { // or they were sent, and swallowed
		c.server.violation(c, RuleHeartbeatSilence, "no heartbeat within the interval and its grace")
	}
	c.cancel(closeWith(c.server.opts.SilenceCode, "heartbeat timed out"))
}

// reconnect sends op 7.
func (c *conn) reconnect() {
	c.control(appendMessage(opReconnect, "null"))
	if u := c.server.opts.Unspecified; u.ReconnectPatience > 0 {
		c.later(u.ReconnectPatience, func() { c.cancel(closeWith(u.GoingAwayCode, "reconnect was asked for")) })
	}
}

// later calls do after a time, unless the connection has ended by then; at once if there is nothing to wait for.
func (c *conn) later(after time.Duration, do func()) {
	if after == 0 {
		do()
		return
	}
	timer := time.AfterFunc(after, do)
	context.AfterFunc(c.ctx, func() { timer.Stop() })
}

// serve makes the connection send the session's dispatches after seq.
func (c *conn) serve(s *session, seq int64) {
	c.mu.Lock()
	c.session, c.sent = s, seq
	c.mu.Unlock()
	c.notify()
}

// unserve undoes serve.
func (c *conn) unserve() {
	c.mu.Lock()
	c.session = nil
	c.mu.Unlock()
}

// current returns the session the connection serves, nil if none.
func (c *conn) current() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// compressPayloads starts payload compression, unless the transport is compressed already.
func (c *conn) compressPayloads() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, uncompressed := c.encoder.(plain); uncompressed {
		c.encoder = new(payloads)
	}
}
