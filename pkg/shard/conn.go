package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"
)

const (
	// writeTimeout bounds each write. What we send is small, so a write that takes longer means the connection is dead.
	writeTimeout = 5 * time.Second
	// closeTimeout bounds the closing handshake. Its use is only that the close code arrives.
	closeTimeout = 2 * time.Second
	// inboxSize is how many of Discord's control messages may wait for the loop before the reader waits too.
	inboxSize = 16
)

// The close codes we send. Sending 1000 or 1001 destroys the session, any other code keeps it (Discord: Gateway,
// Initiating a Disconnect).
const (
	closeResumable  = 4000
	closeEndSession = 1000
)

// conn is the loop of one connection: it owns the machine, the timer and all writes.
type conn struct {
	cfg      *Config
	log      hclog.Logger
	socket   socket
	position *position
	board    *board
	outbox   *outbox
	pace     *pace       // the session's, but the loop's while the connection lives
	observe  func(State) // told of each phase that is a state of its own

	machine machine
	timer   *time.Timer
	sending *time.Timer // goes off when a command that was held back may be sent
	reader  *reader
	inbox   chan input
	deaf    bool      // the reader has ended
	asking  *question // the wait for leave to speak; nil if there is none
	permit  Permit
	err     error // from a callback

	asked             <-chan chan bool
	inquiry           inquiry
	beatSent          time.Time
	heard, dispatches int64 // the reader's counts at the last heartbeat
	firstSeq          int64 // the position when the connection began
	resumeSent        bool
}

// newConn makes the loop of an open connection, for a session.
func newConn(s *Session, sock socket) *conn {
	inbox := make(chan input, inboxSize)
	c := &conn{
		socket:  sock,
		timer:   stoppedTimer(),
		sending: stoppedTimer(),
		inbox:   inbox,
		reader:  &reader{ws: sock.ws, unpack: s.unpack, limit: s.cfg.MaxMessageBytes, types: make(map[string]string), out: inbox},
	}
	s.pace.connected()
	c.join(s)
	return c
}

// join makes the connection the session's. Nothing but heartbeats may have been sent on it.
func (c *conn) join(s *Session) {
	c.cfg, c.log, c.position, c.board, c.outbox, c.pace, c.observe = &s.cfg, s.log, &s.position, &s.board, s.outbox, &s.pace, s.enter
	c.asked = s.asked
	c.machine.resume = s.history.held
	c.firstSeq = s.position.seq.Load()
}

// begin starts the reader, and the wait for HELLO.
func (c *conn) begin(ctx context.Context) {
	c.reader.to = audience{ctx, c.cfg, c.position}
	go c.reader.run()
	c.take(ctx, input{kind: inOpened})
}

// change makes a standby's connection the session's.
func (c *conn) change(ctx context.Context, s *Session) {
	c.asking.stop()
	c.asking = nil
	s.unpack = c.reader.unpack
	s.pace.goesOn(c.pace)
	c.join(s)
	c.reader.to = audience{ctx, c.cfg, c.position}
	if c.machine.phase == asking {
		c.do(ctx, action{do: doAsk})
	}
	c.observe(c.state())
}

// loop goes on until the connection is over, or until somebody takes it from the offer: then it is no longer ours to touch.
func (c *conn) loop(ctx context.Context, offer chan<- *conn) (taken bool) {
	for c.machine.phase != over {
		select { // a heartbeat that is due comes first, whatever else there is to do
		case <-c.timer.C:
			c.take(ctx, c.tick())
			continue
		default:
		}
		select {
		case offer <- c:
			return true
		case <-ctx.Done():
			c.take(ctx, input{kind: inStop})
		case in, ok := <-c.inbox:
			if !ok {
				c.deaf = true
				in = input{kind: inEnded, cause: endCause(c.reader.seen.end)}
			}
			c.take(ctx, in)
		case answer := <-c.asking.answer():
			c.answered(ctx, answer)
		case <-c.timer.C:
			c.take(ctx, c.tick())
		case <-c.mail():
			c.sendCommand()
		case asked := <-c.inquiries():
			c.inquiry.waiting = append(c.inquiry.waiting, asked)
			c.take(ctx, input{kind: inBeatRequest})
		case <-c.sending.C:
			c.sendCommand()
		}
	}
	return false
}

// finish closes a connection that is over, and waits until all it started has ended.
func (c *conn) finish(ctx context.Context) outcome {
	c.timer.Stop()
	c.sending.Stop()
	c.asking.stop()
	c.inquiry.over()
	c.reader.quit.Store(true)
	c.close(ctx)
	for !c.deaf { // what the reader still says changes nothing; that it has ended is what matters
		_, more := <-c.inbox
		c.deaf = !more
	}
	return c.outcome()
}

// take feeds the machine and does what it says.
func (c *conn) take(ctx context.Context, in input) {
	if in.kind == inAck {
		c.inquiry.acked()
	}
	if in.kind == inAck && !c.beatSent.IsZero() {
		now := time.Now()
		took := now.Sub(c.beatSent)
		c.beatSent = time.Time{}
		c.board.update(func(s *Status) { s.acked(took, now) })
	}
	switch in.kind {
	case inResumed:
		c.board.update(func(s *Status) { s.Resumes++ })
	case inHello:
		c.pace.greeted(in.interval)
	case inLimited:
		c.pace.limited(in.guild, in.interval, time.Now())
	}
	actions := c.machine.step(in)
	c.observe(c.state())
	if in.kind == inReady || in.kind == inResumed {
		c.outbox.ring()
	}
	for _, a := range actions {
		c.do(ctx, a)
	}
}

// do carries out one action. A write that fails closes the connection, which the reader then reports.
func (c *conn) do(ctx context.Context, a action) {
	var err error
	switch a.do {
	case doTimer:
		c.timer.Reset(a.delay.draw())
	case doAsk:
		c.asking = ask(ctx, c.cfg, !c.machine.resume, a.delay.draw())
	case doBeat, doBeatAsked:
		err = c.sendBeat(a.do == doBeatAsked)
	case doIdentify:
		err = c.sendIdentify()
	case doResume:
		err = c.sendResume()
	}
	if err != nil {
		c.log.Debug("write failed", "error", err)
		_ = c.socket.raw.Close() // it is to be given up either way
	}
}

func (c *conn) sendBeat(asked bool) error {
	now := time.Now()
	if asked {
		if !c.pace.beat(now) {
			c.log.Debug("heartbeat left out: discord asked for so many that more would break its limit")
			return nil
		}
		c.pace.sent(now)
	}
	c.beatSent = now
	c.inquiry.sent()
	return c.write(heartbeatPayload(c.position.seq.Load()), time.Time{})
}

// mail says that commands may wait. While the session is not live nobody looks.
func (c *conn) mail() <-chan struct{} {
	if c.machine.phase != live {
		return nil
	}
	return c.outbox.wake
}

// inquiries are taken while the session is live.
func (c *conn) inquiries() <-chan chan bool {
	if c.machine.phase != live {
		return nil
	}
	return c.asked
}

// sendCommand sends one command, if one may be sent now, and sees to it that the next is thought of in time.
func (c *conn) sendCommand() {
	now := time.Now()
	out, wait := c.outbox.take(c.pace, now)
	if out == nil {
		if wait > 0 {
			c.sending.Reset(wait)
		}
		return
	}
	c.pace.commanded(out, now)
	if err := c.write(out.payload, time.Time{}); err != nil {
		out.done <- fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		_ = c.socket.raw.Close() // the reader reports it
		return
	}
	c.board.update(func(s *Status) { s.Commands++ })
	out.done <- nil
	c.outbox.ring()
}

func (c *conn) sendIdentify() error {
	payload, err := identifyPayload(*c.cfg)
	if err != nil {
		return fmt.Errorf("identify: %w", err)
	}
	c.reader.stage.Store(int32(stageIdentifying))
	c.pace.sent(time.Now())
	if err := c.write(payload, c.permit.Deadline); err != nil {
		return fmt.Errorf("identify: %w", err)
	}
	if c.permit.Sent != nil {
		c.permit.Sent()
	}
	c.board.update(func(s *Status) { s.Identifies++ })
	return nil
}

func (c *conn) sendResume() error {
	payload, err := resumePayload(c.cfg.Token, c.position.get())
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	c.reader.stage.Store(int32(stageResuming))
	c.pace.sent(time.Now())
	c.resumeSent = true
	if err := c.write(payload, time.Time{}); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}

// write sends one message, before deadline if that is not zero. Its context is not the caller's: the library closes
// the connection without a close code when the context of a write ends.
func (c *conn) write(payload []byte, deadline time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	return c.socket.ws.Write(ctx, websocket.MessageText, payload)
}

// tick says what the timer's going off means, in the light of what the reader did since the last heartbeat.
func (c *conn) tick() input {
	heard, dispatches := c.reader.heard.Load(), c.reader.dispatches.Load()
	busy := c.reader.delivering.Load()
	in := input{kind: inTimer, heard: busy || heard != c.heard, dispatched: busy || dispatches != c.dispatches}
	c.heard, c.dispatches = heard, dispatches
	return in
}

func (c *conn) answered(ctx context.Context, a answer) {
	c.asking = nil
	if a.err != nil {
		c.err = a.err
		c.take(ctx, input{kind: inEnded, cause: failed})
		return
	}
	c.permit = a.permit
	late := !a.permit.Deadline.IsZero() && !time.Now().Before(a.permit.Deadline)
	if late {
		c.log.Debug("identify permit ran out")
	}
	c.take(ctx, input{kind: inGranted, late: late})
}

// close ends the connection with a code that keeps the session, unless the session is to end with it. When Discord
// has closed already, the library has answered with the same code, as RFC 6455 (5.5.1) wants.
func (c *conn) close(ctx context.Context) {
	code := websocket.StatusCode(closeResumable)
	if endsSession(ctx) {
		code = closeEndSession
	}
	// The library's Close waits five seconds, twice, for a peer that does not answer.
	force := time.AfterFunc(closeTimeout, func() { _ = c.socket.raw.Close() })
	defer force.Stop()
	if err := c.socket.ws.Close(code, ""); err != nil {
		c.log.Trace("close", "error", err)
	}
}

// stoppedTimer is a timer that is not running.
func stoppedTimer() *time.Timer {
	timer := time.NewTimer(0)
	timer.Stop()
	return timer
}

func (c *conn) state() State {
	switch c.machine.phase {
	case asking:
		return StateAsking
	case answering:
		if c.machine.resume {
			return StateResuming
		}
		return StateIdentifying
	case live:
		return StateLive
	case over:
		return StateWaiting
	}
	return StateConnecting
}

// outcome says how it went, once the reader has ended.
func (c *conn) outcome() outcome {
	seen := &c.reader.seen
	o := outcome{
		cause:       c.machine.end,
		err:         seen.end,
		greeted:     seen.hello,
		resumed:     c.resumeSent,
		began:       seen.ready,
		established: seen.ready || seen.resumed,
		progressed:  c.position.seq.Load() != c.firstSeq,
	}
	if o.established {
		o.stayed = time.Since(seen.liveSince)
	}
	var failure *callbackError
	var closed websocket.CloseError
	switch {
	case c.err != nil:
		o.err = c.err
	case errors.As(seen.end, &failure):
		o.cause = failed // even if the connection was over for another reason first: Run has to return it
	case o.cause == lost && errors.As(seen.end, &closed) && closed.Code != websocket.StatusNoStatusRcvd:
		o.code, o.reason = int(closed.Code), closed.Reason
	}
	return o
}

// endCause tells apart what can end the reader.
func endCause(err error) cause {
	var failure *callbackError
	var trouble *brokenError
	switch {
	case errors.As(err, &failure):
		return failed
	case errors.As(err, &trouble):
		return broken
	}
	return lost
}

// endsSession says whether the context has ended and asked for the session to end with it.
func endsSession(ctx context.Context) bool {
	return ctx.Err() != nil && errors.Is(context.Cause(ctx), ErrEndSession)
}
