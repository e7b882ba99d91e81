package discordsim

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// handle answers one message of a client. An error ends the connection with its close code.
func (s *Server) handle(c *conn, m incoming) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil // it is off the books, or about to be
	}
	if !c.sends.allow(time.Now()) {
		return s.refuse(c, RuleSendRate, fmt.Sprintf("more than %d messages in %v", sendLimit, sendPeriod), closeWith(CloseRateLimited, "rate limited"))
	}
	if len(m.raw) > maxPayload {
		return s.refuse(c, RulePayloadSize, fmt.Sprintf("op %d of more than %d bytes", m.op, maxPayload), closeWith(CloseDecodeError, "payload too large"))
	}
	if m.err != nil {
		s.blame(c, RuleBadPayload, m.err.Error())
		return errUndecodable
	}
	switch m.op {
	case opHeartbeat:
		return s.heartbeat(c, m.d)
	case opIdentify:
		return s.identify(c, m.d)
	case opResume:
		return s.resume(c, m.d)
	}
	request, known := requests[m.op]
	if !known {
		return s.refuse(c, RuleUnknownOpcode, fmt.Sprintf("op %d", m.op), closeWith(CloseUnknownOpcode, "unknown opcode"))
	}
	sess := c.current()
	if sess == nil {
		return s.refuse(c, RuleBeforeIdentify, fmt.Sprintf("op %d", m.op), closeWith(CloseNotAuthenticated, "not authenticated"))
	}
	if err := request(s, c, sess, m.d); err != nil {
		return s.undecodable(c, m.op, err)
	}
	return nil
}

// refuse records a violation that ends the connection. mu is held.
func (s *Server) refuse(c *conn, rule Rule, detail string, answer *closeError) error {
	s.blame(c, rule, detail)
	return answer
}

var errUndecodable = closeWith(CloseDecodeError, "error while decoding payload")

// undecodable refuses what could not be read. mu is held.
func (s *Server) undecodable(c *conn, op opcode, err error) error {
	s.blame(c, RuleBadPayload, fmt.Sprintf("op %d: %v", op, err))
	return errUndecodable
}

// heartbeat acknowledges. It is legal at any time.
func (s *Server) heartbeat(c *conn, d json.RawMessage) error {
	if err := decodeSeq(d); err != nil {
		return s.undecodable(c, opHeartbeat, err)
	}
	c.acknowledge()
	return nil
}

// identify makes a session, if everything about the request and its moment is right.
func (s *Server) identify(c *conn, d json.RawMessage) error {
	id, err := decode[identify](d)
	if err != nil {
		return s.undecodable(c, opIdentify, err)
	}
	if c.current() != nil {
		return s.refuse(c, RuleSecondIdentify, "IDENTIFY", closeWith(CloseAlreadyAuthenticated, "already authenticated"))
	}
	pair, _ := id.pair()
	if refused := id.judge(s.opts, s.accepts(bareToken(id.Token)), s.world.guildsOn); refused != nil {
		rule := RuleBadIdentify
		if refused.code == CloseAuthenticationFailed {
			rule = RuleBadToken
		}
		s.violate(c.id, pair, rule, refused.reason+": "+id.String())
		s.counts.IdentifiesRefused++
		return refused
	}
	if refused, answer := s.overLimits(c, pair); refused {
		s.counts.IdentifiesRefused++
		c.later(s.opts.Unspecified.InvalidSessionDelay, func() { c.control(invalidSession(false)) })
		return answer
	}
	if s.struck(c, StageLogin, pair.shard) {
		s.counts.IdentifiesRefused++
		return nil
	}
	if id.Compress {
		c.compressPayloads()
	}
	s.counts.Identifies++
	s.begin(c, pair, id)
	return nil
}

// overLimits spends one IDENTIFY and reports whether it came too soon or was one too many. mu is held.
func (s *Server) overLimits(c *conn, pair shardPair) (refused bool, answer error) {
	now, bucket := time.Now(), pair.shard%s.opts.MaxConcurrency
	since, early := s.identifies.early(now, bucket)
	free := early && s.opts.Unspecified.RefusedIdentifyIsFree
	if !free && !s.budget.spend(now) {
		s.violate(c.id, pair, RuleIdentifyBudget, fmt.Sprintf("all %d identifies are spent", s.budget.limit.Total))
		if s.opts.KeepTokenOnOverrun {
			return true, nil
		}
		s.resetToken()
		return true, closeWith(CloseAuthenticationFailed, "authentication failed")
	}
	if early {
		s.violate(c.id, pair, RuleIdentifyRate,
			fmt.Sprintf("bucket %d identified %v after the one before, window %v", bucket, since, s.identifies.window))
		return true, nil
	}
	s.identifies.take(now, bucket)
	return false, nil
}

// resetToken does what Discord does to a bot that overruns its budget: every session ends and the token is void.
func (s *Server) resetToken() {
	s.tokenReset = true
	for _, sess := range s.sessions {
		for _, c := range s.endLocked(sess, EndTokenReset) {
			c.cancel(closeWith(CloseAuthenticationFailed, "authentication failed"))
		}
	}
}

// begin makes a session on c and sends READY; the guilds follow as the client reads. mu is held.
func (s *Server) begin(c *conn, pair shardPair, id identify) {
	intents := Intents(*id.Intents)
	sess := &session{
		id: randomHex(16), trace: "discordsim-" + randomHex(8),
		shard: pair.shard, total: pair.total, intents: intents, view: id.view(s.opts.Unspecified.ObfuscateChannels), identified: time.Now(),
		record: s.opts.Record, world: s.world, pause: s.opts.Unspecified.GuildInterval,
		replay: replay{maxEvents: s.opts.ReplayEvents, maxBytes: s.opts.ReplayBytes},
	}
	guilds := s.world.guildsOf(pair)
	if intents&IntentGuilds != 0 {
		sess.pending = s.world.introduction(guilds, pair)
	}
	ready := s.world.ready(sess, c, guilds, id.Shard != nil)
	sess.attach(c, false)
	sess.dispatch("READY", ready)

	s.sessions = append(s.sessions, sess)
	s.byID[sess.id] = sess
	s.reroute()
	c.serve(sess, 0)
	s.logger.Debug("session began", "shard", pair.shard, "total", pair.total, "guilds", len(guilds))
}

// resume gives a session a new socket and replays what the old one missed.
func (s *Server) resume(c *conn, d json.RawMessage) error {
	r, err := decode[resume](d)
	if err != nil {
		return s.undecodable(c, opResume, err)
	}
	if r.Seq == nil || *r.Seq < 0 {
		return s.undecodable(c, opResume, fmt.Errorf("decode d: seq is missing or negative"))
	}
	if c.current() != nil {
		return s.refuse(c, RuleSecondIdentify, "RESUME", closeWith(CloseAlreadyAuthenticated, "already authenticated"))
	}
	sess, refused := s.resumable(c, r)
	if refused != nil {
		s.counts.ResumesRefused++
		return refused
	}
	if sess == nil {
		s.counts.ResumesRefused++
		c.control(invalidSession(false))
		return nil
	}
	if s.struck(c, StageLogin, sess.shard) {
		s.counts.ResumesRefused++
		return nil
	}
	s.carryOn(c, sess, *r.Seq)
	return nil
}

// resumable finds the session a RESUME names. Where there is none to resume from that place the answer is op 9, told by
// nil, nil. mu is held.
func (s *Server) resumable(c *conn, r resume) (*session, *closeError) {
	sess := s.byID[r.SessionID]
	if sess == nil {
		return nil, nil
	}
	if !s.accepts(bareToken(r.Token)) {
		s.violate(c.id, sess.pair(), RuleBadToken, "resume with a wrong token")
		return nil, nil
	}
	if why := sess.endReason(); why != "" {
		if why == EndClosed {
			s.violate(c.id, sess.pair(), RuleResumeEnded, "resume of a session closed with 1000 or 1001")
		}
		return nil, nil
	}
	oldest, newest := sess.position()
	if *r.Seq > newest {
		s.violate(c.id, sess.pair(), RuleResumeSeq, fmt.Sprintf("resume at %d, newest is %d", *r.Seq, newest))
		return nil, closeWith(CloseInvalidSeq, "invalid seq")
	}
	switch {
	case *r.Seq < oldest && s.opts.Unspecified.OldSeqCloses:
		return nil, closeWith(CloseInvalidSeq, "invalid seq")
	case *r.Seq < oldest:
		return nil, nil
	}
	for _, old := range sess.sockets() {
		// Or its end was sent, and swallowed; or it was answered, and the socket is about to come off the books.
		if !old.link.gone() && !old.link.closed.Load() {
			s.violate(c.id, sess.pair(), RuleResumeLive, fmt.Sprintf("resume while connection %d serves the session", old.id))
		}
		if s.opts.Unspecified.ResumeWhileLive == ResumeRefused {
			return nil, nil
		}
	}
	return sess, nil
}

// carryOn attaches c to sess. What follows seq is replayed with its own numbers, and after it comes RESUMED with the
// next one. mu is held.
func (s *Server) carryOn(c *conn, sess *session, seq int64) {
	_, newest := sess.position()
	for _, old := range sess.attach(c, s.opts.Unspecified.ResumeWhileLive == ResumeShares) {
		old.cancel(closeWith(CloseUnknownError, "session resumed on another connection"))
	}
	s.counts.Resumes++
	s.counts.Replayed += newest - seq
	if c.path == basePath {
		s.counts.ResumesOnBaseURL++
		if cut := s.opts.Unspecified.CutBaseResumesAfter; cut > 0 {
			c.later(cut, c.reconnect)
		}
	}
	sess.dispatch("RESUMED", fmt.Appendf(nil, `{"_trace":["%s","resume-%d"]}`, sess.trace, s.counts.Resumes))
	c.serve(sess, seq)
	s.logger.Debug("session resumed", "shard", sess.shard, "total", sess.total, "seq", seq, "newest", newest)
}

// randomHex is n random bytes in hexadecimal.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its contract
	return hex.EncodeToString(b)
}
