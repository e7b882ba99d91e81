package discordsim

import (
	"bytes"
	"context"
	"fmt"

	"github.com/coder/websocket"
)

// mangle has a fault happen to the next message it concerns. Another one that was still to happen is forgotten.
func (c *conn) mangle(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mangled = &f
}

// outgoing is how a message is to be sent: with this encoder and, if not nil, this fault.
func (c *conn) outgoing(message []byte) (encoder, *Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.mangled
	if f == nil || (f.Kind == FaultOmit || f.Kind == FaultRepeat) && !isDispatch(message) {
		return c.encoder, nil
	}
	c.mangled = nil
	return c.encoder, f
}

// isDispatch reports whether a message of ours is one: only those begin with a name.
func isDispatch(message []byte) bool { return bytes.HasPrefix(message, []byte(`{"t":"`)) }

// transmit sends one message.
func (c *conn) transmit(enc encoder, message []byte) error {
	kind, data, err := enc.encode(message)
	if err != nil {
		return err
	}
	return c.transmitFrame(kind, data)
}

func (c *conn) transmitFrame(kind websocket.MessageType, data []byte) error {
	if err := c.ws.Write(context.Background(), kind, data); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// transmitMangled sends one message as the fault would have it.
func (c *conn) transmitMangled(enc encoder, message []byte, f Fault) error {
	switch f.Kind {
	case FaultOmit:
		return nil
	case FaultRepeat:
		if err := c.transmit(enc, message); err != nil {
			return err
		}
	case FaultBomb:
		if err := c.transmit(enc, bomb(f.Size)); err != nil {
			return err
		}
	case FaultCorrupt:
		kind, data, err := enc.encode(message)
		if err != nil {
			return err
		}
		return c.transmitFrame(kind, corrupted(kind, data))
	}
	return c.transmit(enc, message)
}

// corrupted is data that cannot be decoded. A block that begins with all bits set is of no type that deflate or zstd
// knows; the end of a zlib-stream message is left alone, so that the client takes it for whole.
func corrupted(kind websocket.MessageType, data []byte) []byte {
	if kind == websocket.MessageText {
		return append([]byte{'!'}, data...)
	}
	broken := bytes.Repeat([]byte{0xff}, max(len(data), 8))
	copy(broken[len(broken)-4:], data[max(0, len(data)-4):])
	return broken
}

// bomb is a heartbeat acknowledgement of size bytes, nearly all of them white space.
func bomb(size int) []byte {
	message := appendMessage(opHeartbeatAck, "null")
	return append(message, bytes.Repeat([]byte{' '}, max(0, size-len(message)))...)
}
