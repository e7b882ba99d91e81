package etcdtest

import (
	"io"
	"net"
	"sync"
	"time"
)

// Link is a TCP proxy that stands for the network between clients and a member, or between a member and the others. It is safe for
// concurrent use.
type Link struct {
	listener    net.Listener
	target      func() string // empty: nobody listens
	running     sync.WaitGroup
	there, back gate // what clients send, and what they are sent
	route       route

	mu    sync.Mutex
	cut   bool
	pairs map[*pair]struct{}
}

// pair is one client's connection and its continuation to the server.
type pair struct {
	client, server net.Conn
	there, back    *gate
	known          chan struct{} // closed once there and back are final
	once           sync.Once
	done           chan struct{}
}

func (p *pair) close() {
	p.once.Do(func() {
		close(p.done)
		_ = p.client.Close() // an error to close means that it is closed
		_ = p.server.Close()
	})
}

// route says by the first bytes of a connection which way it takes; not ok: more of them are needed to tell.
type route func(head []byte) (there, back *gate, ok bool)

// newLink starts a link; without a route everything takes the link's own gates.
func newLink(target func() string, route route) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{listener: listener, target: target, route: route, pairs: map[*pair]struct{}{}}
	l.running.Go(l.accept)
	return l, nil
}

// Endpoints is where the link's clients connect.
func (l *Link) Endpoints() []string { return []string{l.listener.Addr().String()} }

// Cut closes the connections there are, and every new one at once, until Mend.
func (l *Link) Cut() {
	l.mu.Lock()
	l.cut = true
	l.mu.Unlock()
	l.drop()
}

// Hold lets nothing pass in either direction, until Mend, and keeps the connections: a network that lost its way. What
// was sent meanwhile arrives after Mend, as it does by TCP's retransmission.
func (l *Link) Hold() {
	l.HoldRequests()
	l.HoldAnswers()
}

// HoldRequests is Hold for what clients send only: the server goes on talking, and hears nothing.
func (l *Link) HoldRequests() { l.there.hold() }

// HoldAnswers is Hold for what clients are sent only: they are heard, and hear nothing.
func (l *Link) HoldAnswers() { l.back.hold() }

// Delay keeps what passes for a while, in either direction, until Mend.
func (l *Link) Delay(d time.Duration) {
	l.there.slow(d)
	l.back.slow(d)
}

// Mend ends everything that was done to the link.
func (l *Link) Mend() {
	l.mu.Lock()
	l.cut = false
	l.mu.Unlock()
	l.there.mend()
	l.back.mend()
}

// drop closes the connections there are.
func (l *Link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.pairs {
		p.close()
	}
}

func (l *Link) close() {
	_ = l.listener.Close() // it fails only when closed before
	l.Cut()
	l.running.Wait()
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", l.target())
		if err != nil {
			_ = client.Close() // the client sees that nobody listens
			continue
		}
		l.join(&pair{
			client: client, server: server, there: &l.there, back: &l.back, known: make(chan struct{}), done: make(chan struct{}),
		})
	}
}

func (l *Link) join(p *pair) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		p.close()
		return
	}
	l.pairs[p] = struct{}{}
	l.running.Go(func() { l.carryThere(p) })
	l.running.Go(func() { l.carryBack(p) })
}

// carryThere finds out which way the connection takes, and copies what the client sends until either side closes.
func (l *Link) carryThere(p *pair) {
	defer l.end(p)
	head, ok := l.routed(p)
	if !ok {
		return
	}
	close(p.known)
	if !p.there.pass(p.done) {
		return
	}
	if _, err := p.server.Write(head); err == nil {
		carry(p.there, p.done, p.server, p.client)
	}
}

func (l *Link) carryBack(p *pair) {
	defer l.end(p)
	select {
	case <-p.known:
		carry(p.back, p.done, p.client, p.server)
	case <-p.done:
	}
}

// routed reads as much of what the client sends as it takes to know the connection's way, and sets that.
func (l *Link) routed(p *pair) (head []byte, ok bool) {
	for l.route != nil {
		more := make([]byte, 4<<10)
		n, err := p.client.Read(more)
		if err != nil {
			return nil, false
		}
		head = append(head, more[:n]...)
		if there, back, ok := l.route(head); ok {
			p.there, p.back = there, back
			break
		}
	}
	return head, true
}

// end takes note that one direction has ended, and ends the other.
func (l *Link) end(p *pair) {
	p.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pairs, p)
}

// carry copies one direction until either side closes, or until done.
func carry(g *gate, done <-chan struct{}, to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !g.pass(done) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
