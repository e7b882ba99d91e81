package discordsim

import (
	"slices"
	"time"
)

// EndReason says why a session can no longer be resumed; empty while it can.
type EndReason string

// The ways a session ends.
const (
	EndClosed      EndReason = "client closed with 1000 or 1001"
	EndExpired     EndReason = "lifetime over"
	EndLagged      EndReason = "client fell behind the replay buffer"
	EndInvalidated EndReason = "invalidated by control"
	EndTokenReset  EndReason = "token reset"
	EndShutdown    EndReason = "server stopped"
)

// SessionLog is the account of one session.
type SessionLog struct {
	Shard, Total int
	// Trace is the string in READY's _trace: unlike the session id it is no secret, so a reader of stored events can
	// tell by it which session they are of.
	Trace      string
	Intents    Intents
	Identified time.Time
	// Last is the sequence number of the newest dispatch.
	Last int64
	// Pending is how many guilds READY promised that are still to be sent. They follow as fast as the client reads; until then the
	// session has more to send, though there is no traffic.
	Pending int
	// Attached tells whether the session has a socket now.
	Attached bool
	Ended    EndReason
	// Dispatches is every dispatch in order, from READY on; empty unless [Options.Record] is set. Do not change it.
	Dispatches []Dispatched
}

// Dispatched is one event as it was sent.
type Dispatched struct {
	Seq  int64
	Type string
	// Sum is [Sum] of the payload.
	Sum uint64
}

// Rule names what a client did wrong.
type Rule string

// The rules the simulator watches over. Breaking one never goes unanswered as far as Discord answers it; the record is
// in addition.
const (
	RuleIdentifyRate     Rule = "identify rate"         // two IDENTIFYs of a bucket within the window
	RuleIdentifyBudget   Rule = "identify budget"       // IDENTIFY with no budget left
	RuleSecondIdentify   Rule = "second identify"       // IDENTIFY or RESUME on a connection that has a session
	RuleBadToken         Rule = "bad token"             // IDENTIFY or RESUME with another token
	RuleBadIdentify      Rule = "bad identify"          // impossible shard, intents, properties
	RuleBeforeIdentify   Rule = "opcode before session" // anything but a heartbeat before IDENTIFY or RESUME
	RuleUnknownOpcode    Rule = "unknown opcode"
	RuleBadPayload       Rule = "bad payload"       // not JSON, or of the wrong shape
	RulePayloadSize      Rule = "payload size"      // more than 4096 bytes
	RuleSendRate         Rule = "send rate"         // more than 120 in 60 s
	RuleHeartbeatSilence Rule = "heartbeat silence" // no heartbeat within interval and grace
	RuleHTTPRate         Rule = "http rate"         // more than 50 requests in a second
	RulePresenceRate     Rule = "presence rate"     // more than 5 presences in 20 s, which Discord does not say how it answers
	RuleResumeLive       Rule = "resume of a live socket"
	RuleResumeSeq        Rule = "resume seq"      // RESUME from a sequence number never sent
	RuleResumeEnded      Rule = "resume of ended" // RESUME of a session the client itself closed with 1000 or 1001
	RuleHandshake        Rule = "handshake"       // wrong version, encoding or compression
	// RuleSessionThrownAway is a close with 1000 or 1001 of a session that could have been resumed: the next one costs
	// an IDENTIFY, and what happens meanwhile is lost. A bot that means it is to be allowed it with [Options.Allow].
	RuleSessionThrownAway Rule = "session thrown away"
)

// rules are all there are.
var rules = []Rule{
	RuleIdentifyRate, RuleIdentifyBudget, RuleSecondIdentify, RuleBadToken, RuleBadIdentify, RuleBeforeIdentify, RuleUnknownOpcode,
	RuleBadPayload, RulePayloadSize, RuleSendRate, RuleHeartbeatSilence, RuleHTTPRate, RulePresenceRate, RuleResumeLive, RuleResumeSeq,
	RuleResumeEnded, RuleHandshake, RuleSessionThrownAway,
}

// Violation is one thing a client did that Discord forbids.
type Violation struct {
	At time.Time `json:"at"`
	// Connection is the [Peer.ID] of the connection it was done on; 0 for a request to the REST API.
	Connection uint64 `json:"connection"`
	Shard      int    `json:"shard"` // -1 where the client had not said
	Total      int    `json:"total"` // 0 where the client had not said
	Rule       Rule   `json:"rule"`
	// Detail says what was done, in numbers where there are any. It never holds the token or a session id.
	Detail string `json:"detail"`
}

// maxViolations bounds the list; Stats goes on counting.
const maxViolations = 10_000

// Stats counts what the server did since it was made.
type Stats struct {
	Identifies        int   `json:"identifies"` // admitted
	IdentifiesRefused int   `json:"identifies_refused"`
	Resumes           int   `json:"resumes"`             // accepted
	ResumesOnBaseURL  int   `json:"resumes_on_base_url"` // of these, not on resume_gateway_url
	ResumesRefused    int   `json:"resumes_refused"`
	Replayed          int64 `json:"replayed"`   // dispatches sent again by RESUMEs
	Dispatched        int64 `json:"dispatched"` // dispatches over all sessions
	Sockets           int   `json:"sockets"`    // open now
	Sessions          int   `json:"sessions"`   // alive now
	Violations        int   `json:"violations"`

	BudgetRemaining int           `json:"budget_remaining"`
	BudgetResetIn   time.Duration `json:"-"` // 0 when the budget is full
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	st := s.counts
	st.Sockets = len(s.conns)
	for _, sess := range s.sessions {
		_, newest := sess.position()
		st.Dispatched += newest
		if sess.alive() {
			st.Sessions++
		}
	}
	st.BudgetRemaining, st.BudgetResetIn = s.budget.remaining(now)
	return st
}

// Sessions returns the account of every session, in the order they were made. Each is consistent in itself; stop the
// traffic first ([Server.Pause]) for a picture of one moment.
func (s *Server) Sessions() []SessionLog {
	s.mu.Lock()
	sessions := append([]*session(nil), s.sessions...)
	s.mu.Unlock()
	logs := make([]SessionLog, len(sessions))
	for i, sess := range sessions {
		logs[i] = sess.snapshot()
	}
	return logs
}

// Violations returns what clients did wrong, in order, the first 10,000 of them.
func (s *Server) Violations() []Violation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Violation(nil), s.violations...)
}

// violate records a violation, unless the rule may be broken. mu is held.
func (s *Server) violate(connection uint64, pair shardPair, rule Rule, detail string) {
	if slices.Contains(s.opts.Allow, rule) {
		return
	}
	s.counts.Violations++
	s.logger.Warn("client broke a rule", "rule", string(rule), "shard", pair.shard, "total", pair.total, "connection", connection, "detail", detail)
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, Violation{time.Now(), connection, pair.shard, pair.total, rule, detail})
	}
}

// blame records what the client of c did wrong. mu is held.
func (s *Server) blame(c *conn, rule Rule, detail string) {
	pair := noPair
	if sess := c.current(); sess != nil {
		pair = sess.pair()
	}
	s.violate(c.id, pair, rule, detail)
}

// violation is blame without mu held.
func (s *Server) violation(c *conn, rule Rule, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blame(c, rule, detail)
}
