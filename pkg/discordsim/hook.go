package discordsim

import (
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"sync"
)

// Message is something a client sent, as a hook sees it.
type Message struct {
	Peer *Peer
	// Op and D are the gateway message; Op is -1 if it is none.
	Op int
	D  json.RawMessage
	// Raw is the whole message as it was sent, cut after 4,097 bytes.
	Raw []byte
	// Shard and Total are what IDENTIFY asks for, what the session has that RESUME names, or what the connection's
	// session has; -1 and 0 if nothing of that is known.
	Shard, Total int
}

// MessageHook looks at a message before the simulator does. It reports whether it has dealt with it: then the simulator
// does nothing more, as if the message had got lost, except that it takes a heartbeat for a sign of life.
type MessageHook func(*Message) (handled bool)

// RequestHook looks at an HTTP request, a WebSocket handshake too, before the simulator does. It reports whether it has
// answered.
type RequestHook func(http.ResponseWriter, *http.Request) (handled bool)

// OnMessage has hook called with every message of every client until it is removed. Several hooks are called in the order
// they were added, until one has dealt with the message.
//
// A hook runs on the goroutine that reads the connection, with no lock held, so it may call any method of the server.
// One connection's messages come one after the other, those of several at once. While a hook blocks, its connection is
// not read, and [Server.Run] does not return. A call that has begun goes on when remove returns; none begins after it.
func (s *Server) OnMessage(hook MessageHook) (remove func()) { return s.messageHooks.add(hook) }

// OnRequest has hook called with every HTTP request that is not for the control API until it is removed. It runs on the
// request's goroutine; what [Server.OnMessage] says of hooks holds for these too, but Run does not wait for them.
func (s *Server) OnRequest(hook RequestHook) (remove func()) { return s.requestHooks.add(hook) }

// hooks is a list of functions of one kind.
type hooks[F any] struct {
	mu  sync.Mutex
	all []*F // never changed, only replaced
}

func (h *hooks[F]) add(f F) (remove func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(slices.Clip(h.all), &f)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.all = slices.DeleteFunc(slices.Clone(h.all), func(other *F) bool { return other == &f })
	}
}

func (h *hooks[F]) list() []*F {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all
}

// intercept shows a client's message to the hooks and reports whether one has dealt with it.
func (s *Server) intercept(c *conn, m incoming) bool {
	all := s.messageHooks.list()
	if len(all) == 0 {
		return false
	}
	shown := &Message{Peer: &Peer{c}, Op: -1, D: m.d, Raw: m.raw}
	if m.err == nil {
		shown.Op = int(m.op)
	}
	shown.Shard, shown.Total = s.pairOf(c, m)
	for _, hook := range all {
		if (*hook)(shown) {
			return true
		}
	}
	return false
}

// pairOf is which shard a message is about.
func (s *Server) pairOf(c *conn, m incoming) (shard, total int) {
	if sess := c.current(); sess != nil {
		return sess.shard, sess.total
	}
	switch m.op {
	case opIdentify:
		if id, err := decode[identify](m.d); err == nil {
			pair, _ := id.pair()
			return pair.shard, pair.total
		}
	case opResume:
		if r, err := decode[resume](m.d); err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if sess := s.byID[r.SessionID]; sess != nil {
				return sess.shard, sess.total
			}
		}
	}
	return noPair.shard, noPair.total
}

// hooked shows requests to the hooks before next answers them.
func (s *Server) hooked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, hook := range s.requestHooks.list() {
			if (*hook)(w, r) {
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Peer is one connection of a client. Its methods never block, may be called from any goroutine, and do nothing once the
// connection has ended.
type Peer struct{ conn *conn }

// ID tells connections of one server apart. They are numbered from 1 in the order of their handshakes.
func (p *Peer) ID() uint64 { return p.conn.id }

// RemoteAddr is where the client is, as the listener that accepted it says.
func (p *Peer) RemoteAddr() net.Addr { return p.conn.link.RemoteAddr() }

// Send sends a message that is not a dispatch.
func (p *Peer) Send(op int, d json.RawMessage) {
	p.conn.control(appendMessage(opcode(op), string(d)))
}

// SendRaw sends text as a gateway message, whatever it is, compressed like every other.
func (p *Peer) SendRaw(text string) { p.conn.control([]byte(text)) }

// Close closes the connection with a code. Its session can be resumed.
func (p *Peer) Close(code CloseCode) {
	p.conn.cancel(closeWith(code, "closed by hook"))
}

// Drop cuts the TCP connection. Its session can be resumed.
func (p *Peer) Drop() { p.conn.cancel(errDropped) }
