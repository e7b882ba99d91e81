package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// maxTypes bounds how many event types a reader keeps the names of. Discord has about eighty.
const maxTypes = 256

// maxHeartbeatInterval is far above what Discord asks for (41 s); beyond it, HELLO is taken for garbage.
const maxHeartbeatInterval = 24 * time.Hour

// maxHold bounds how long a RATE_LIMITED can hold commands back.
const maxHold = time.Hour

// brokenError is a message we cannot read or that comes out of order. It says what was wrong, never what was sent.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// callbackError is an error a callback returned, which ends Run.
type callbackError struct{ err error }

func (e *callbackError) Error() string { return e.err.Error() }
func (e *callbackError) Unwrap() error { return e.err }

// reader turns the bytes of one connection into delivered events and inputs for the loop. It runs on one goroutine;
// the atomic fields are what the loop looks at meanwhile.
type reader struct {
	ws     *websocket.Conn
	unpack inflater
	limit  int               // bytes of a message
	types  map[string]string // the names of event types met so far
	out    chan<- input
	to     audience // the loop's, until it moves stage on from stageMute; then ours

	// What it has seen, to be looked at once out is closed.
	seen struct {
		hello, ready, resumed bool
		liveSince             time.Time // of READY or RESUMED
		end                   error     // what ended reading; nil if the loop did
	}

	stage      atomic.Int32 // a stage; set by the loop
	quit       atomic.Bool  // set by the loop: stop before the next message
	heard      atomic.Int64 // grows with everything that shows the connection alive
	dispatches atomic.Int64 // grows with each dispatch delivered
	delivering atomic.Bool  // in Deliver, hence deaf
}

// audience is whom dispatches are for.
type audience struct {
	ctx      context.Context // of the callbacks
	cfg      *Config
	position *position
}

// run reads until the connection ends. Then it closes out, so that the loop gets to know of it after all else.
func (r *reader) run() {
	defer close(r.out)
	defer r.unpack.reset()
	for !r.quit.Load() && r.seen.end == nil {
		r.seen.end = r.message()
	}
}

// message reads one WebSocket message and handles it.
func (r *reader) message() error {
	// The context of a read must not be one that can end: to watch it costs the library two allocations a read, and
	// its end would close the connection without a word. The loop ends a read by closing the connection.
	kind, body, err := r.ws.Reader(context.Background())
	if err != nil {
		return err
	}
	packed := getBuffer()
	defer putBuffer(packed)
	packed.b, err = readAll(packed.b, body, r.limit)
	if errors.Is(err, errTooBig) {
		return &brokenError{err}
	}
	if err != nil {
		return err
	}
	r.heard.Add(1)
	if kind == websocket.MessageText {
		return r.handle(packed.b) // only binary messages are compressed
	}
	unpacked := getBuffer()
	defer putBuffer(unpacked)
	var complete bool
	unpacked.b, complete, err = r.unpack.inflate(unpacked.b, packed.b, r.limit)
	if err != nil {
		return &brokenError{err}
	}
	if !complete {
		return nil
	}
	return r.handle(unpacked.b)
}

// handle takes one gateway message.
func (r *reader) handle(msg []byte) error {
	f, err := scan(msg)
	if err != nil {
		return &brokenError{err}
	}
	switch f.op {
	case opDispatch:
		return r.dispatch(f)
	case opHeartbeat:
		r.out <- input{kind: inBeatRequest}
	case opReconnect:
		r.out <- input{kind: inReconnect}
	case opInvalidSession:
		r.out <- input{kind: inInvalid, resumable: string(f.data) == "true"}
	case opHello:
		interval, err := helloInterval(f.data)
		if err != nil {
			return &brokenError{err}
		}
		r.seen.hello = true
		r.out <- input{kind: inHello, interval: interval}
	case opHeartbeatAck:
		r.out <- input{kind: inAck}
	}
	return nil // an opcode we do not know is not for us
}

func helloInterval(d []byte) (time.Duration, error) {
	var hello struct {
		Interval float64 `json:"heartbeat_interval"` // milliseconds
	}
	if err := json.Unmarshal(d, &hello); err != nil {
		return 0, errors.New("HELLO: not readable")
	}
	interval := time.Duration(min(hello.Interval, 1e12) * float64(time.Millisecond))
	if interval < time.Millisecond || interval > maxHeartbeatInterval {
		return 0, errors.New("HELLO: heartbeat_interval out of bounds")
	}
	return interval, nil
}

// dispatch checks an event's place in the order and delivers it.
func (r *reader) dispatch(f frame) error {
	at := stage(r.stage.Load())
	if at == stageMute { // nor is it known for whom it would be
		return &brokenError{fmt.Errorf("dispatch %d came before IDENTIFY or RESUME", f.seq)}
	}
	typ := r.typeName(f.typ)
	last := r.to.position.seq.Load()
	switch admit(at, last, f.seq, typ) {
	case disorder:
		return &brokenError{fmt.Errorf("dispatch %d came where %d was due (stage %d)", f.seq, last+1, at)}
	case begin, deliver:
		if err := r.hand(f, typ, at); err != nil {
			return err
		}
	}
	switch {
	case typ == typeReady && at == stageIdentifying:
		r.seen.ready = true
		r.live(inReady)
	case typ == typeResumed && at == stageResuming:
		r.seen.resumed = true
		r.live(inResumed)
	case typ == typeRateLimited:
		if in, ok := rateLimited(f.data); ok {
			r.out <- in
		}
	}
	return nil
}

// rateLimited reads RATE_LIMITED's d (Discord: Gateway Events, Rate Limited). One in another form is for consumers only.
func rateLimited(d []byte) (in input, ok bool) {
	var limited struct {
		Op         int     `json:"opcode"`
		RetryAfter float64 `json:"retry_after"` // seconds
		Meta       struct {
			GuildID string `json:"guild_id"`
		} `json:"meta"`
	}
	if json.Unmarshal(d, &limited) != nil || limited.Op != opRequestMembers || limited.RetryAfter < 0 {
		return input{}, false
	}
	wait := time.Duration(min(limited.RetryAfter, maxHold.Seconds()) * float64(time.Second))
	return input{kind: inLimited, guild: limited.Meta.GuildID, interval: wait}, true
}

func (r *reader) live(how kind) {
	r.stage.Store(int32(stageLive))
	r.seen.liveSince = time.Now()
	r.out <- input{kind: how}
}

// hand delivers one event and moves the position behind it.
func (r *reader) hand(f frame, typ string, at stage) error {
	event := Event{Seq: f.seq, Type: typ, Data: f.data}
	if typ == typeReady {
		data, err := r.ready(f.data, at)
		if err != nil {
			return err
		}
		event.Data = data
	}
	r.delivering.Store(true)
	err := r.to.cfg.Deliver(r.to.ctx, event)
	r.delivering.Store(false)
	r.heard.Add(1) // the time in Deliver was not Discord's silence
	if err != nil {
		return &callbackError{fmt.Errorf("deliver %s %d: %w", typ, f.seq, err)}
	}
	r.dispatches.Add(1)
	r.to.position.seq.Store(f.seq)
	return nil
}

// ready takes note of a new session, and returns READY's data without the session's id. A READY within a replay (from
// the very beginning of a session) names the session we hold, and is an event like others.
func (r *reader) ready(d []byte, at stage) ([]byte, error) {
	ready, err := readReady(d)
	if err != nil {
		return nil, &brokenError{err}
	}
	if at != stageIdentifying {
		if ready.sessionID != r.to.position.get().SessionID {
			return nil, &brokenError{errors.New("READY of another session came after RESUME")}
		}
		return ready.blanked, nil
	}
	session := Resume{SessionID: ready.sessionID, URL: ready.resumeURL}
	if err := r.to.cfg.Store.Begin(r.to.ctx, r.to.cfg.ID, session); err != nil {
		return nil, &callbackError{fmt.Errorf("save session: %w", err)}
	}
	r.to.position.set(session)
	return ready.blanked, nil
}

// typeName returns t as a string without an allocation for types met before.
func (r *reader) typeName(t []byte) string {
	if name, ok := r.types[string(t)]; ok {
		return name
	}
	name := string(t)
	if len(r.types) < maxTypes {
		r.types[name] = name
	}
	return name
}
