package discordsim

import "fmt"

// write sends until the connection ends, and then what answers are left.
func (c *conn) write() {
	var burst [][]byte
	for {
		var lagged *session
		burst, lagged = c.take(burst[:0])
		if lagged != nil {
			c.server.lagged(lagged)
			continue
		}
		if len(burst) == 0 {
			select {
			case <-c.wake:
				continue
			case <-c.ctx.Done():
				burst, _ = c.take(burst)
				_ = c.send(burst) // a goodbye; the connection is over either way
				return
			}
		}
		if err := c.send(burst); err != nil {
			c.cancel(err)
			return
		}
		clear(burst) // let go of frames the session may forget
	}
}

// take collects what to send next: every answer, then some dispatches. It returns the session when the connection has
// fallen behind what the session remembers.
func (c *conn) take(dst [][]byte) (burst [][]byte, lagged *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dst = append(dst, c.controls...)
	c.controls = nil
	if c.session != nil {
		var ok bool
		if dst, c.sent, ok = c.session.read(dst, c.sent, burstBytes); !ok {
			return dst, c.session
		}
	}
	for len(c.acks) > 0 && (c.session == nil || c.acks[0] <= c.sent) {
		dst = append(dst, appendMessage(opHeartbeatAck, "null"))
		c.acks = c.acks[1:]
	}
	return dst, nil
}

// acknowledge answers a heartbeat.
func (c *conn) acknowledge() {
	if !c.server.opts.Unspecified.AcksBehindBacklog {
		c.control(appendMessage(opHeartbeatAck, "null"))
		return
	}
	c.mu.Lock()
	due := int64(0)
	if c.session != nil {
		_, due = c.session.position()
	}
	full := len(c.acks) >= maxControls
	c.acks = append(c.acks, due)
	c.mu.Unlock()
	if full {
		c.cancel(errDoesNotRead)
	}
	c.notify()
}

// send writes messages in as few packets as it can.
func (c *conn) send(messages [][]byte) error {
	c.link.hold()
	for _, message := range messages {
		enc, fault := c.outgoing(message)
		var err error
		if fault == nil {
			err = c.transmit(enc, message)
		} else {
			err = c.transmitMangled(enc, message, *fault)
		}
		if err != nil {
			return err
		}
	}
	if err := c.link.release(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// control queues a message that is not a dispatch.
func (c *conn) control(message []byte) {
	c.mu.Lock()
	full := len(c.controls) >= maxControls
	if !full {
		c.controls = append(c.controls, message)
	}
	c.mu.Unlock()
	if full {
		c.cancel(errDoesNotRead)
		return
	}
	c.notify()
}

// notify wakes the writer.
func (c *conn) notify() {
	select {
	case c.wake <- struct{}{}:
	default: // it is awake, and will look again
	}
}
