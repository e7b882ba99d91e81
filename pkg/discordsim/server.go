package discordsim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"
)

// Server is one simulated Discord with one bot. All methods may be called from any goroutine.
type Server struct {
	opts   Options
	logger hclog.Logger
	world  *world

	ctx     context.Context // of every connection
	cancel  context.CancelCauseFunc
	handler http.Handler
	sockets sync.WaitGroup
	traffic *traffic
	routes  atomic.Pointer[routes]

	messageHooks hooks[MessageHook]
	requestHooks hooks[RequestHook]
	faults       faults

	// mu guards what connections share. It is held for each message of a client, which are few, and never while
	// events are dispatched. Lock order: Server.mu, then conn.mu, then session.mu.
	mu         sync.Mutex
	closed     bool
	tokenReset bool
	identifies identifyClock
	budget     budget
	rest       sendClock            // requests with the bot's token
	requests   map[uint64]time.Time // by guild: when all its members were last asked for
	sessions   []*session           // in order of creation, ended ones too
	byID       map[string]*session
	conns      map[*conn]struct{}
	connected  uint64 // connections so far
	violations []Violation
	counts     Stats
}

// New makes a server. It does nothing until it is served. The error names each option that makes no sense.
func New(opts Options) (*Server, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	w := newWorld(opts)
	s := &Server{
		opts:       opts,
		logger:     opts.Logger,
		world:      w,
		traffic:    newTraffic(opts.Rate, opts.Seed, w),
		identifies: identifyClock{window: opts.IdentifyWindow, last: make(map[int]time.Time)},
		budget:     newBudget(opts.SessionLimit, time.Now()),
		rest:       newSendClock(httpLimit, httpPeriod),
		requests:   make(map[uint64]time.Time),
		byID:       make(map[string]*session),
		conns:      make(map[*conn]struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.routes.Store(&routes{})
	s.handler = s.newHandler()
	return s, nil
}

// Serve answers HTTP and WebSocket on l, and makes the background traffic, until ctx ends; then it closes l, closes
// every socket with [Unspecified.GoingAwayCode] and returns when all goroutines have ended. A server serves once. The error is nil unless l
// failed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	web := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          s.logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	failed := make(chan error, 1)
	go func() {
		defer cancel()
		failed <- web.Serve(l)
	}()
	s.Run(ctx)
	_ = web.Close() // all that can be left are idle connections
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("discordsim: serve %s: %w", l.Addr(), err)
	}
	return nil
}

// Handler returns the HTTP handler, for those who bring their own HTTP server. [Server.Run] must run beside it.
func (s *Server) Handler() http.Handler { return s.handler }

// Run makes the background traffic until ctx ends, closes every socket with [Unspecified.GoingAwayCode] and returns when the
// last has ended.
// After that the server accepts no sockets. [Server.Serve] includes it.
func (s *Server) Run(ctx context.Context) {
	s.traffic.run(ctx, s.emit)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel(closeWith(s.opts.Unspecified.GoingAwayCode, "server is shutting down"))
	s.sockets.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range s.sessions {
		s.endLocked(sess, EndShutdown) // and with it the timer of its lifetime
	}
}

// enter makes Run wait for the caller until it calls sockets.Done; false once the server is closing.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.sockets.Add(1)
	}
	return !s.closed
}

// admit registers a new connection; false once the server is closing.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[c] = struct{}{}
	s.connected++
	c.id = s.connected
	s.sockets.Add(1)
	return true
}

// detach takes a connection that is ending from the books, and from its session, which lives on unless the client gave
// it up.
func (s *Server) detach(c *conn, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	sess := c.current()
	if sess == nil {
		return
	}
	s.logger.Debug("socket ended", "shard", sess.shard, "total", sess.total, "cause", cause)
	c.unserve()
	if endsSession(cause) {
		s.violate(c.id, sess.pair(), RuleSessionThrownAway, fmt.Sprintf("closed with %d at number %d", websocket.CloseStatus(cause), sess.snapshot().Last))
		for _, other := range s.endLocked(sess, EndClosed) {
			if other != c {
				other.control(invalidSession(false))
			}
		}
		return
	}
	sess.detach(c, s.opts.SessionLifetime, func() { s.expire(sess) })
}

// expire ends a session that was left without a socket for its lifetime.
func (s *Server) expire(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sess.expired(time.Now()) {
		s.endLocked(sess, EndExpired)
	}
}

// endLocked ends a session and returns the sockets it had, which no longer serve it. mu is held.
func (s *Server) endLocked(sess *session, why EndReason) []*conn {
	conns := sess.end(why)
	for _, c := range conns {
		c.unserve()
	}
	s.reroute()
	s.logger.Debug("session ended", "shard", sess.shard, "total", sess.total, "reason", string(why))
	return conns
}

// lagged ends a session whose client reads too slowly.
func (s *Server) lagged(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.endLocked(sess, EndLagged) {
		c.control(invalidSession(false))
	}
}

// routes tells the traffic which sessions see which guild. It is never changed, only replaced, so reading it needs no
// lock.
type routes struct {
	totals   []int // every num_shards in use; more than one while a bot reshards
	sessions map[shardPair][]*session
}

type shardPair struct{ shard, total int }

// noPair stands for the shard of somebody who has not said which.
var noPair = shardPair{-1, 0}

// reroute rebuilds the routes from the sessions that have not ended. mu is held.
func (s *Server) reroute() {
	next := &routes{sessions: make(map[shardPair][]*session)}
	seen := make(map[int]bool)
	for _, sess := range s.sessions {
		if !sess.alive() {
			continue
		}
		pair := shardPair{sess.shard, sess.total}
		next.sessions[pair] = append(next.sessions[pair], sess)
		if !seen[sess.total] {
			seen[sess.total] = true
			next.totals = append(next.totals, sess.total)
		}
	}
	s.routes.Store(next)
}

// of appends to dst the sessions that see the guild; guild 0 stands for what belongs to no guild.
func (r *routes) of(guild uint64, dst []*session) []*session {
	for _, total := range r.totals {
		dst = append(dst, r.sessions[shardPair{shardOf(guild, total), total}]...)
	}
	return dst
}

// shardOf is Discord's formula. It sends what has no guild to shard 0.
// See https://discord.com/developers/docs/events/gateway#sharding.
func shardOf(guild uint64, total int) int { return int((guild >> 22) % uint64(total)) }
