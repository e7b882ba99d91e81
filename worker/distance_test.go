package worker

import (
	"net"
	"sync"
	"time"
)

// distantListener accepts connections as if its clients were far away: what it writes arrives later, in order, by the time that a
// message takes there and back.
type distantListener struct {
	net.Listener
	distance time.Duration
}

func (l *distantListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil || l.distance == 0 {
		return conn, err
	}
	d := &distantConn{Conn: conn, distance: l.distance, way: make(chan parcel, 4096), closed: make(chan struct{})}
	go d.carry()
	return d, nil
}

type distantConn struct {
	net.Conn
	distance time.Duration
	way      chan parcel // what is on its way
	once     sync.Once
	closed   chan struct{}
}

type parcel struct {
	due  time.Time
	data []byte
}

func (c *distantConn) Write(p []byte) (int, error) {
	select {
	case c.way <- parcel{time.Now().Add(c.distance), append([]byte(nil), p...)}:
		return len(p), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

// Close lets what is on its way arrive.
func (c *distantConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *distantConn) carry() {
	defer c.Conn.Close()
	for {
		select {
		case p := <-c.way:
			time.Sleep(time.Until(p.due))
			if _, err := c.Conn.Write(p.data); err != nil {
				return
			}
		case <-c.closed:
			if len(c.way) == 0 {
				return
			}
			p := <-c.way
			time.Sleep(time.Until(p.due))
			if _, err := c.Conn.Write(p.data); err != nil {
				return
			}
		}
	}
}
