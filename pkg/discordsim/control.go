package discordsim

import "fmt"

// AllShards stands for every shard where a control takes one.
const AllShards = -1

// each calls do for every live session of the shard, whatever its num_shards, and returns how many had it done. mu is
// held while it does.
func (s *Server) each(shard int, do func(*session) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sess := range s.sessions {
		if (shard == AllShards || sess.shard == shard) && sess.alive() && do(sess) {
			n++
		}
	}
	return n
}

// Guilds returns the ids of the bot's guilds.
func (s *Server) Guilds() []uint64 { return append([]uint64(nil), s.world.guilds...) }

// Disconnect closes the shard's sockets with a close code of the server's and returns how many. Their sessions can be
// resumed.
func (s *Server) Disconnect(shard int, code CloseCode) int {
	return s.eachSocket(shard, func(c *conn) { c.cancel(closeWith(code, "closed by control")) })
}

// Drop cuts the shard's TCP connections without a close frame, as a broken network does. Their sessions can be resumed.
func (s *Server) Drop(shard int) int {
	return s.eachSocket(shard, func(c *conn) { c.cancel(errDropped) })
}

// Reconnect sends op 7 on the shard's sockets: the client is to reconnect and resume. See
// [Unspecified.ReconnectPatience] for what happens if it does not.
func (s *Server) Reconnect(shard int) int {
	return s.eachSocket(shard, (*conn).reconnect)
}

// Beat sends op 1 on the shard's sockets: the client is to send a heartbeat at once.
func (s *Server) Beat(shard int) int {
	return s.eachSocket(shard, func(c *conn) { c.control(appendMessage(opHeartbeat, "null")) })
}

// Invalidate sends op 9 on the shard's sockets, which serve no session from then on: the client may RESUME or IDENTIFY on the
// same socket, as Discord's staff says, or on another. If resumable the sessions live on; otherwise they end, those without a
// socket too.
func (s *Server) Invalidate(shard int, resumable bool) int {
	return s.each(shard, func(sess *session) bool {
		conns := sess.sockets()
		if !resumable {
			s.endLocked(sess, EndInvalidated)
		}
		for _, c := range conns {
			c.unserve()
			sess.detach(c, s.opts.SessionLifetime, func() { s.expire(sess) })
			c.control(invalidSession(resumable))
		}
		return !resumable || len(conns) > 0
	})
}

func (s *Server) eachSocket(shard int, do func(*conn)) int {
	n := 0
	s.each(shard, func(sess *session) bool {
		for _, c := range sess.sockets() {
			do(c)
			n++
		}
		return true
	})
	return n
}

// SetRate changes the background traffic to so many events per second over the whole bot; 0 stops it. When it returns,
// no event of the old rate will be dispatched any more. The guilds that follow READY are no background traffic. An error
// means that the rate is not a number or below 0.
func (s *Server) SetRate(perSecond float64) error {
	if !validRate(perSecond) {
		return fmt.Errorf("discordsim: set rate: %v is not a rate", perSecond)
	}
	s.traffic.setRate(perSecond)
	return nil
}

// Pause stops the background traffic; see [Server.SetRate].
func (s *Server) Pause() { s.traffic.setRate(0) }
