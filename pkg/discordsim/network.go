package discordsim

import (
	"context"
	"net"
	"sync"
)

// Network is an in-memory network with one listener, itself. With it a simulator and its clients work inside a testing/synctest
// bubble, where hours of heartbeats pass in milliseconds:
//
//	network := discordsim.NewNetwork()
//	go sim.Serve(ctx, network)
//	transport := &http.Transport{DialContext: network.DialContext}
//
// Every address leads to the listener. What is written waits to be read, as on a wire without a buffer.
type Network struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

// NewNetwork makes a network.
func NewNetwork() *Network {
	return &Network{accepted: make(chan net.Conn), closed: make(chan struct{})}
}

// DialContext opens a connection to the listener, whatever the address. It fails when that is closed.
func (n *Network) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case n.accepted <- server:
		return client, nil
	case <-n.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements [net.Listener].
func (n *Network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.accepted:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]. Connections that are open stay so.
func (n *Network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

// Addr implements [net.Listener].
func (n *Network) Addr() net.Addr { return networkAddr{} }

type networkAddr struct{}

func (networkAddr) Network() string { return "memory" }
func (networkAddr) String() string  { return "sim.invalid" }
