package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between clients and a Redis and loses connections when told, at
// the moment that matters: after the server has got the request and before the
// client has the reply.
type Proxy struct {
	Addr string

	conns sync.WaitGroup

	mu     sync.Mutex
	target string
	cut    int // replies still to be lost
	closed bool
	open   map[net.Conn]bool
}

// NewProxy starts a proxy to s that ends with the test.
func NewProxy(tb testing.TB, s *Server) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: s.Addr, open: make(map[net.Conn]bool)}
	p.conns.Go(func() { p.accept(l) })
	tb.Cleanup(func() {
		_ = l.Close()
		p.closeAll()
		p.conns.Wait()
	})
	return p
}

// URL is the proxy's address as a URL, database 0.
func (p *Proxy) URL() string { return "redis://" + p.Addr + "/0" }

// CutReplies loses the next n replies: each is read from the server and thrown
// away, and its connection is closed.
func (p *Proxy) CutReplies(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut += n
}

// Turn makes s the server behind the proxy, as after a failover: whoever is
// connected is cut off, and meets s when he connects again.
func (p *Proxy) Turn(s *Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = s.Addr
	for c := range p.open {
		_ = c.Close()
	}
}

// Cut makes the proxy refuse everybody until it is turned to a server again.
func (p *Proxy) Cut() { p.Turn(&Server{}) }

// Remaining returns how many replies are still to be lost.
func (p *Proxy) Remaining() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		target := p.address()
		server, err := net.Dial("tcp", target)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.track(target, client, server) {
			continue
		}
		p.conns.Go(func() { p.requests(server, client) })
		p.conns.Go(func() { p.replies(client, server) })
	}
}

func (p *Proxy) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

func (p *Proxy) requests(server, client net.Conn) {
	defer p.close(client, server)
	_, _ = io.Copy(server, client)
}

func (p *Proxy) replies(client, server net.Conn) {
	defer p.close(client, server)
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil || p.lose() {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *Proxy) lose() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == 0 {
		return false
	}
	p.cut--
	return true
}

// track remembers conns to be closed with the proxy, or when it is turned. It
// reports false, and has closed them, if that has happened since they were to go
// to the target.
func (p *Proxy) track(target string, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	late := p.closed || p.target != target
	for _, c := range conns {
		if late {
			_ = c.Close()
			continue
		}
		p.open[c] = true
	}
	return !late
}

func (p *Proxy) close(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
		_ = c.Close()
	}
}

func (p *Proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := range p.open {
		_ = c.Close()
	}
}
