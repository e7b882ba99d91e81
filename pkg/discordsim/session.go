package discordsim

import (
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// session is what an IDENTIFY creates: a numbered series of dispatches that outlives its sockets.
//
//	          attach                      client closes 1000/1001, lifetime over,
//	identify ───────▶ attached ─────────▶ invalidated, token reset ──▶ ended
//	                   ▲    │ socket lost          ▲
//	            resume │    ▼                      │
//	                  detached ────────────────────┘
//
// A detached session goes on taking dispatches, which its next RESUME replays.
type session struct {
	id, trace    string // the id is secret; the trace may be shown
	shard, total int
	intents      Intents
	view         view
	identified   time.Time
	record       bool

	mu      sync.Mutex
	replay  replay
	conns   []*conn       // none when detached; several only with ResumeShares
	pending []uint64      // guilds that READY promised and that are still to be sent
	world   *world        // what they are made of
	pause   time.Duration // between two of them
	due     time.Time     // when the next may be sent
	pacer   *time.Timer   // wakes the sockets then
	expiry  *time.Timer   // runs while detached
	expires time.Time     // when it does
	ended   EndReason
	log     []Dispatched
}

func (s *session) pair() shardPair { return shardPair{s.shard, s.total} }

// alive reports whether the session has not ended.
func (s *session) alive() bool { return s.endReason() == "" }

// endReason is empty while the session is alive.
func (s *session) endReason() EndReason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// dispatch gives the session its next event. It reports whether the session was there to take it.
func (s *session) dispatch(eventType string, d []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != "" {
		return false
	}
	s.append(eventType, d)
	return true
}

// dispatchLive is dispatch for background traffic, which waits until the session has been sent its guilds.
func (s *session) dispatchLive(eventType string, d []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) > 0 || s.ended != "" {
		return false
	}
	s.append(eventType, d)
	return true
}

// append stores one dispatch and wakes the socket. mu is held.
func (s *session) append(eventType string, d []byte) {
	seq := s.replay.last + 1
	s.replay.store(len(eventType)+len(d)+64, func(dst []byte) []byte {
		return appendDispatch(dst, eventType, seq, d)
	})
	if s.record {
		s.log = append(s.log, Dispatched{Seq: seq, Type: eventType, Sum: Sum(d)})
	}
	s.wake()
}

// wake has every socket look for something to send. mu is held.
func (s *session) wake() {
	for _, c := range s.conns {
		c.notify()
	}
}

// read takes what follows seq for the session's socket, about maxBytes of it. When the socket has everything, the next
// guild that READY promised is made and taken: guilds are sent as fast as the client reads, not faster. It reports
// false when the socket has fallen so far behind that what it needs is forgotten.
func (s *session) read(dst [][]byte, seq int64, maxBytes int) (frames [][]byte, last int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != "" {
		return dst, seq, true
	}
	if !s.replay.reaches(seq) {
		return dst, seq, false
	}
	if seq == s.replay.last && len(s.pending) > 0 {
		s.introduce(time.Now())
	}
	dst, seq = s.replay.after(dst, seq, maxBytes)
	return dst, seq, true
}

// introduce sends the next guild that READY promised, if it is time for it. mu is held.
func (s *session) introduce(now time.Time) {
	if now.Before(s.due) {
		return // pacer will wake the sockets
	}
	guild := s.pending[0]
	s.pending = s.pending[1:]
	if len(s.pending) > 0 && s.pause > 0 {
		s.due = now.Add(s.pause)
		s.pacer = time.AfterFunc(s.pause, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.wake()
		})
	}
	if s.world.out[guild] {
		s.append("GUILD_DELETE", outage(guild))
	} else {
		s.append("GUILD_CREATE", s.world.guildCreate(guild, s.view, now))
	}
}

// attach gives the session another socket. Those it has already leave it, and are returned, unless they are to share.
func (s *session) attach(c *conn, share bool) (previous []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry != nil {
		s.expiry.Stop() // if it fired already, expired will see that there is a socket
	}
	if share {
		s.conns = append(s.conns, c)
		return nil
	}
	previous, s.conns = s.conns, []*conn{c}
	return previous
}

// detach takes c from the session's sockets, if it is one of them. When the session has had none for the lifetime it calls
// expire.
func (s *session) detach(c *conn, lifetime time.Duration, expire func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.conns, c)
	if i < 0 {
		return
	}
	if s.conns = slices.Delete(s.conns, i, i+1); len(s.conns) > 0 {
		return
	}
	s.expires = time.Now().Add(lifetime)
	s.expiry = time.AfterFunc(lifetime, expire)
}

// expired reports whether the session's lifetime without a socket is over.
func (s *session) expired(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended == "" && len(s.conns) == 0 && !now.Before(s.expires)
}

// end makes the session unusable and returns the sockets it had. Only the first reason counts.
func (s *session) end(why EndReason) (conns []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != "" {
		return nil
	}
	for _, timer := range []*time.Timer{s.expiry, s.pacer} {
		if timer != nil {
			timer.Stop()
		}
	}
	conns = s.conns
	s.ended, s.conns, s.pending = why, nil, nil
	s.replay.forget()
	return conns
}

// position returns the oldest sequence number a RESUME may name and the newest.
func (s *session) position() (oldest, newest int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replay.oldest() - 1, s.replay.last
}

// sockets returns the session's connections.
func (s *session) sockets() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conns)
}

// snapshot describes the session.
func (s *session) snapshot() SessionLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SessionLog{
		Shard: s.shard, Total: s.total, Trace: s.trace, Intents: s.intents, Identified: s.identified,
		Last: s.replay.last, Pending: len(s.pending), Attached: len(s.conns) > 0, Ended: s.ended,
		Dispatches: s.log[:len(s.log):len(s.log)],
	}
}

// Sum is the checksum of a dispatch's payload in [Dispatched]: the 64-bit xxHash (seed 0) of the bytes of d exactly as
// they were sent.
func Sum(d []byte) uint64 { return xxhash.Sum64(d) }

// appendDispatch writes an op 0 message with its keys in the order Discord uses.
func appendDispatch(dst []byte, eventType string, seq int64, d []byte) []byte {
	dst = append(dst, `{"t":"`...)
	dst = append(dst, eventType...)
	dst = append(dst, `","s":`...)
	dst = strconv.AppendInt(dst, seq, 10)
	dst = append(dst, `,"op":0,"d":`...)
	dst = append(dst, d...)
	return append(dst, '}')
}

// appendMessage writes a message of any other opcode.
func appendMessage(op opcode, d string) []byte {
	dst := append([]byte(nil), `{"t":null,"s":null,"op":`...)
	dst = strconv.AppendInt(dst, int64(op), 10)
	dst = append(dst, `,"d":`...)
	dst = append(dst, d...)
	return append(dst, '}')
}
