package shard

import (
	"net"
	"sync"
)

// burstSize is how much is read from the network at a time while much is coming.
const burstSize = 64 << 10

var bursts = sync.Pool{New: func() any { return new([burstSize]byte) }}

// burstConn reads from the network in larger pieces than the WebSocket library asks for, but only while there is more than it asks
// for: a read that was filled is followed by one into a buffer, shared by all sessions of the process, and one that leaves room in
// that gives it back. So a connection on which little happens holds none, and a busy one makes few system calls.
type burstConn struct {
	net.Conn
	more   bool // the last read was filled: there may be more
	buf    *[burstSize]byte
	unread []byte // of buf
}

// Read implements [io.Reader]. Like any, it is for one goroutine at a time.
func (c *burstConn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 && !c.more {
		n, err := c.Conn.Read(p)
		c.more = n > 0 && n == len(p)
		return n, err
	}
	if len(c.unread) == 0 {
		if err := c.fill(); err != nil {
			c.release()
			return 0, err
		}
	}
	n := copy(p, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 && !c.more {
		c.release()
	}
	return n, nil
}

// fill reads into the buffer. An error that comes with bytes comes again without.
func (c *burstConn) fill() error {
	if c.buf == nil {
		c.buf = bursts.Get().(*[burstSize]byte)
	}
	n, err := c.Conn.Read(c.buf[:])
	c.unread, c.more = c.buf[:n], n == burstSize
	if n > 0 {
		return nil
	}
	return err
}

func (c *burstConn) release() {
	if c.buf != nil {
		bursts.Put(c.buf)
		c.buf, c.unread, c.more = nil, nil, false
	}
}
