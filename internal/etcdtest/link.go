package etcdtest

import (
	"io"
	"net"
	"sync"
)

// Link is a TCP proxy that stands for the network between a client and the server. It is safe for concurrent use.
type Link struct {
	listener net.Listener
	target   func() string // empty: nobody listens
	running  sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	flow  chan struct{} // closed while bytes may pass
	pairs map[*pair]struct{}
}

// pair is one client's connection and its continuation to the server.
type pair struct {
	client, server net.Conn
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

func newLink(target func() string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{listener: listener, target: target, flow: make(chan struct{}), pairs: map[*pair]struct{}{}}
	close(l.flow)
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
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.flow:
		l.flow = make(chan struct{})
	default: // held already
	}
}

// Mend ends Cut and Hold.
func (l *Link) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
	select {
	case <-l.flow:
	default:
		close(l.flow)
	}
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
		l.join(&pair{client: client, server: server, done: make(chan struct{})})
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
	l.running.Go(func() { l.carry(p, p.server, p.client) })
	l.running.Go(func() { l.carry(p, p.client, p.server) })
}

// carry copies one direction until either side closes.
func (l *Link) carry(p *pair, to io.Writer, from io.Reader) {
	defer func() {
		p.close()
		l.mu.Lock()
		delete(l.pairs, p)
		l.mu.Unlock()
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		flow := l.flow
		l.mu.Unlock()
		select {
		case <-flow:
		case <-p.done:
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
