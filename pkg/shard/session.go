package shard

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// saveTimeout bounds telling the store where the session stands in the end.
const saveTimeout = 5 * time.Second

// Session is one shard's session with Discord. Make it with [New] and call [Session.Run].
type Session struct {
	cfg      Config
	log      hclog.Logger
	position position
	board    board
	outbox   *outbox
	history  history
	pace     pace
	unpack   inflater // for one connection after the other
	running  atomic.Bool
	asked    chan chan bool // from CaughtUp to the loop of a connection
}

// New checks the configuration and makes a session; it connects to nothing. The error names the field that is wrong.
func New(cfg Config) (*Session, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("shard config: %w", err)
	}
	return newSession(cfg), nil
}

func newSession(cfg Config) *Session {
	s := &Session{cfg: cfg, outbox: newOutbox(), pace: newPace(), asked: make(chan chan bool), log: cfg.Logger.Named("shard").With("shard", cfg.ID.String())}
	s.board.status = Status{State: StateStopped, Since: time.Now()}
	return s
}

// ID names the shard.
func (s *Session) ID() ID { return s.cfg.ID }

// String names the shard only, since a Session holds the token.
func (s *Session) String() string { return "shard.Session(" + s.cfg.ID.String() + ")" }

// GoString is String.
func (s *Session) GoString() string { return s.String() }

// Status returns how the session is doing. It is safe to call from any goroutine at any time.
func (s *Session) Status() Status {
	status := s.board.get()
	status.Seq = s.position.seq.Load()
	status.Queued = s.outbox.len()
	return status
}

// Resume returns where the session stands, for going on with it elsewhere, and whether there is a session at all.
// While Run runs the answer may be out of date at once; after Run it is exact.
func (s *Session) Resume() (Resume, bool) {
	r := s.position.get()
	return r, r.SessionID != ""
}

// Run connects and stays connected, resuming or identifying as needed, until one of these, and then returns with all
// it started ended and every event it delivered delivered:
//
//   - the context ends: it closes with a code that keeps the session, for somebody else to resume, and returns nil. If
//     the cause is [ErrEndSession] the session ends too (if there is a connection to say so on).
//   - Discord refuses for good: it returns a [*FatalError].
//   - a callback returns an error: it returns that, wrapped, and closes as for the end of the context.
//
// It begins with the session that [Config.Store] has, if any. Errors on the way, of whatever kind, are retried with
// backoff for as long as the context lives. Run may be called again after it has returned, but not at the same time.
func (s *Session) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return fmt.Errorf("shard %s: Run is already running", s.cfg.ID)
	}
	defer s.running.Store(false)
	s.outbox.begin()
	defer s.outbox.end()
	err := s.load(ctx)
	switch {
	case err == nil:
		err = s.run(ctx)
		if late := s.save(ctx); err == nil {
			err = late
		}
	case comesFrom(ctx, err):
		err = nil
	}
	if err != nil {
		s.enter(StateFailed)
		return err
	}
	s.enter(StateStopped)
	return nil
}

// load begins with what the store has.
func (s *Session) load(ctx context.Context) error {
	session, err := s.cfg.Store.Load(ctx, s.cfg.ID)
	if err != nil {
		return fmt.Errorf("shard %s: load session: %w", s.cfg.ID, err)
	}
	if session.SessionID == "" {
		session = Resume{}
	}
	s.history = history{held: session.SessionID != ""}
	s.unpack = newInflater(s.cfg.Compression)
	s.position.set(session)
	return nil
}

// save tells the store where the session stands in the end.
func (s *Session) save(ctx context.Context) error {
	s.unpack = nil
	if endsSession(ctx) {
		s.position.set(Resume{})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	err := s.cfg.Store.End(ctx, s.cfg.ID, s.position.get())
	if err != nil {
		err = fmt.Errorf("shard %s: save session: %w", s.cfg.ID, err)
		s.log.Warn("session not saved: it cannot be resumed later", "error", err)
	}
	return err
}

func (s *Session) run(ctx context.Context) error {
	for {
		o := s.connect(ctx)
		if o.cause == failed && !comesFrom(ctx, o.err) {
			return fmt.Errorf("shard %s: %w", s.cfg.ID, o.err)
		}
		if ctx.Err() != nil {
			return nil
		}
		held := s.history.held || o.began
		next := s.history.after(o)
		lostSession := held && !s.history.held
		if lostSession {
			s.position.set(Resume{})
		}
		s.report(o, lostSession)
		if next.fatal {
			return &FatalError{Shard: s.cfg.ID, Code: o.code, Reason: o.reason, Cure: ruleFor(lost, o.code).cure}
		}
		s.enter(StateWaiting)
		if sleep(ctx, next.wait.draw()) != nil {
			return nil
		}
	}
}

// comesFrom says whether a callback's error is the context's end passed on.
func comesFrom(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}

// connect lives through one connection.
func (s *Session) connect(ctx context.Context) outcome {
	s.enter(StateWaiting)
	if err := s.cfg.Gate(ctx); err != nil {
		return outcome{cause: failed, err: fmt.Errorf("gate: %w", err)}
	}
	s.enter(StateConnecting)
	c, err := s.open(ctx)
	if err != nil {
		return outcome{cause: unreachable, err: err}
	}
	s.board.update(func(st *Status) { st.Connects++ })
	c.loop(ctx, nil)
	return c.finish(ctx)
}

// open takes the standby's connection, if there is one that is of use, or dials.
func (s *Session) open(ctx context.Context) (*conn, error) {
	if b := s.cfg.Standby; b != nil && b.fits(s) {
		if c := b.take(ctx); c != nil {
			c.change(ctx, s)
			return c, nil
		}
	}
	sock, err := dial(ctx, &s.cfg, s.target())
	if err != nil {
		return nil, err
	}
	c := newConn(s, sock)
	c.begin(ctx)
	return c, nil
}

// target is the URL for the next connection.
func (s *Session) target() string {
	url := s.position.get().URL
	if s.history.held && !s.history.avoidURL && usable(url, s.cfg.GatewayURL) {
		return url
	}
	return s.cfg.GatewayURL
}

// enter notes a change of state and tells the observer.
func (s *Session) enter(state State) {
	changed := false
	s.board.update(func(st *Status) {
		changed = st.State != state
		if changed {
			st.State, st.Since = state, time.Now()
		}
	})
	if changed {
		s.cfg.Observe(s.Status())
	}
}

// report puts the end of a connection on the board and in the log.
func (s *Session) report(o outcome, lostSession bool) {
	rule := ruleFor(o.cause, o.code)
	s.board.update(func(st *Status) {
		st.LastEnd = rule.text
		if o.code != 0 {
			st.LastClose, st.LastCloseText = o.code, rule.text
		}
		if lostSession {
			st.Lost++
		}
	})
	level := hclog.Debug
	if lostSession || rule.level == hclog.Warn {
		level = hclog.Warn
	}
	s.log.Log(level, "connection ended", "why", rule.text, "code", o.code, "reason", o.reason, "error", o.err,
		"seq", s.position.seq.Load(), "session-lost", lostSession)
}
