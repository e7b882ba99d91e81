package discordsim

import "encoding/binary"

// frames follows the WebSocket frames that a server writes, however they are cut into writes (RFC 6455, section 5.2; a server's are not masked).
type frames struct {
	head []byte // of the frame that begins, as far as it is there
	left uint64 // of the payload of the one before
}

// closes takes in what is written next, and reports whether a close frame begins in it.
func (f *frames) closes(p []byte) (closes bool) {
	for len(p) > 0 {
		if n := min(f.left, uint64(len(p))); n > 0 {
			f.left -= n
			p = p[n:]
			continue
		}
		f.head = append(f.head, p[0])
		p = p[1:]
		if payload, whole := payloadOf(f.head); whole {
			const opcode, closing = 0x0f, 8
			closes = closes || f.head[0]&opcode == closing
			f.head, f.left = f.head[:0], payload
		}
	}
	return closes
}

// payloadOf is how long the payload is that follows a frame's header, if that is whole.
func payloadOf(head []byte) (n uint64, whole bool) {
	if len(head) < 2 {
		return 0, false
	}
	switch short := head[1] & 0x7f; {
	case short == 126:
		if len(head) < 4 {
			return 0, false
		}
		return uint64(binary.BigEndian.Uint16(head[2:])), true
	case short == 127:
		if len(head) < 10 {
			return 0, false
		}
		return binary.BigEndian.Uint64(head[2:]), true
	default:
		return uint64(short), true
	}
}
