package model

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// link is the network between one process and one server, for connections in memory. It is what etcdmem.Link is to etcd.
type link struct {
	name string                   // of the process, which the server sees as its address
	dial func() (net.Conn, error) // opens a connection to the server
	late bool                     // what was held arrives when the link is mended; else the connections break then
	bare bool                     // nothing can fail: connections lead to the server themselves, which saves four goroutines each

	mu    sync.Mutex
	state linkState
	moved chan struct{} // closed, and replaced, when the state changes
	pairs map[*pair]struct{}
}

type linkState int

const (
	whole linkState = iota
	held            // nothing passes, in either direction
	cut             // connections break at once, and none can be made
)

// pair is one connection and its continuation to the server.
type pair struct {
	ends [2]net.Conn
	done chan struct{}
	once sync.Once
}

func (p *pair) close() {
	p.once.Do(func() {
		close(p.done)
		_ = p.ends[0].Close() // pipes do not fail to close
		_ = p.ends[1].Close()
	})
}

var errRefused = errors.New("connection refused by the model's network")

func newLink(name string, late bool, dial func() (net.Conn, error)) *link {
	return &link{name: name, dial: dial, late: late, moved: make(chan struct{}), pairs: map[*pair]struct{}{}}
}

// set changes the state, for good if it is cut by a crash.
func (l *link) set(state linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	broken := state == cut || l.state == held && !l.late
	if broken {
		for p := range l.pairs {
			p.close()
		}
		clear(l.pairs)
	}
	l.state = state
	close(l.moved)
	l.moved = make(chan struct{})
}

// fail is set, and returns what mends it.
func (l *link) fail(state linkState) (mend func()) {
	l.set(state)
	return func() { l.set(whole) }
}

func (l *link) look() (linkState, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.moved
}

// open is how many connections there are, if the network does not keep their ends from being heard of.
func (l *link) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == held {
		return 0
	}
	return len(l.pairs)
}

// DialContext has the form of net.Dialer's.
func (l *link) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	for {
		state, moved := l.look()
		if state == whole {
			return l.connect()
		}
		wait := moved
		if state == cut {
			wait = nil
		}
		refused := time.NewTimer(100 * time.Millisecond)
		select {
		case <-wait:
		case <-refused.C:
			if state == cut {
				return nil, errRefused
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		refused.Stop()
	}
}

func (l *link) connect() (net.Conn, error) {
	server, err := l.dial()
	if err != nil {
		return nil, err
	}
	if l.bare {
		return server, nil
	}
	near, far := net.Pipe()
	p := &pair{ends: [2]net.Conn{far, server}, done: make(chan struct{})}
	l.mu.Lock()
	l.pairs[p] = struct{}{}
	l.mu.Unlock()
	go l.carry(p, server, far)
	go l.carry(p, far, server)
	return near, nil
}

// buffered is how many messages are kept of one direction, as a kernel keeps them: without that, two ends that both write before they
// read would wait for each other.
const buffered = 256

// carry copies one direction until either side closes.
func (l *link) carry(p *pair, to io.Writer, from io.Reader) {
	messages := make(chan []byte, buffered)
	go func() {
		defer close(messages)
		for {
			message := make([]byte, 16<<10)
			n, err := from.Read(message)
			if err != nil {
				return
			}
			select {
			case messages <- message[:n]:
			case <-p.done:
				return
			}
		}
	}()
	for message := range messages {
		if !l.await(p) {
			break
		}
		if _, err := to.Write(message); err != nil {
			break
		}
	}
	p.close()
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// await waits until something may pass. It reports false if the connection breaks before.
func (l *link) await(p *pair) bool {
	for {
		state, moved := l.look()
		if state == whole {
			return true
		}
		select {
		case <-moved:
		case <-p.done:
			return false
		}
	}
}

// DialHook has a Redis client connect over the link.
func (l *link) DialHook(redis.DialHook) redis.DialHook { return l.DialContext }

// ProcessHook changes nothing.
func (l *link) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook changes nothing.
func (l *link) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// exchange is a listener in memory, which knows its clients by the names of their links.
type exchange struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newExchange() *exchange {
	return &exchange{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

// dial opens a connection that the server sees as coming from name.
func (x *exchange) dial(name string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case x.accepted <- named{server, address(name)}:
		return client, nil
	case <-x.closed:
		return nil, net.ErrClosed
	}
}

func (x *exchange) Accept() (net.Conn, error) {
	select {
	case conn := <-x.accepted:
		return conn, nil
	case <-x.closed:
		return nil, net.ErrClosed
	}
}

func (x *exchange) Close() error {
	x.once.Do(func() { close(x.closed) })
	return nil
}

func (x *exchange) Addr() net.Addr { return address("discord.invalid") }

type named struct {
	net.Conn
	remote address
}

func (n named) RemoteAddr() net.Addr { return n.remote }

type address string

func (address) Network() string  { return "memory" }
func (a address) String() string { return string(a) }
