package shard

import "time"

const (
	// provedAfter is how long a session must have run on a connection before that counts as healthy and the backoff
	// begins anew. A connection that breaks sooner is one more in a row that failed.
	provedAfter = 20 * time.Second
	// backoffBase and backoffMax bound the wait after n failures in a row: random in [0, min(backoffMax, backoffBase·2ⁿ)).
	// The maximum is well below a session's life without a socket, "a few minutes", so that waiting does not cost it.
	backoffBase = time.Second
	backoffMax  = 30 * time.Second
	// maxFailedResumes in a row that brought nothing mean the session is not to be had any more.
	maxFailedResumes = 3
)

// history is what the next connection has to know about those before it. after decides; nothing here does I/O.
type history struct {
	held          bool // there is a session to resume
	failures      int  // connections in a row that did not prove themselves
	failedResumes int  // RESUMEs in a row that brought nothing
	avoidURL      bool // the resume URL failed: use the base URL until a session runs again
}

// outcome is how a connection went.
type outcome struct {
	cause  cause
	code   int    // Discord's close code when cause is lost; 0 without a close frame
	reason string // Discord's words with it
	err    error  // what went wrong, for the log; or the callback's error when cause is failed

	greeted     bool          // HELLO came
	resumed     bool          // RESUME was sent
	began       bool          // READY of a new session was seen
	established bool          // READY or RESUMED came
	progressed  bool          // an event was delivered
	stayed      time.Duration // how long it went on after that
}

// step is what to do next.
type step struct {
	wait  delay
	fatal bool
}

// after takes in how a connection went and says what to do next. The choice between RESUME and IDENTIFY and between
// the two URLs is in held and avoidURL.
func (h *history) after(o outcome) step {
	rule := ruleFor(o.cause, o.code)
	h.count(o)
	switch rule.remedy {
	case fatal:
		return step{fatal: true}
	case identify:
		h.lose()
	case resumeOnce:
		h.failedResumes = max(h.failedResumes, maxFailedResumes-1)
	}
	if h.failedResumes >= maxFailedResumes {
		h.lose()
	}
	if rule.atOnce && h.failures <= 1 {
		return step{} // as Discord asks; were it to come again and again, it would be backed off from like anything else
	}
	return step{wait: h.backoff().atLeast(rule.pause)}
}

// count takes in what the connection showed, whatever ended it.
func (h *history) count(o outcome) {
	h.held = h.held || o.began
	if o.stayed >= provedAfter {
		h.failures = 0
	} else {
		h.failures++
	}
	switch {
	case o.established:
		h.failedResumes = 0
		h.avoidURL = false
	case o.resumed && !o.progressed:
		h.failedResumes++
		h.avoidURL = h.avoidURL || o.cause != suspended && o.cause != reconnect
	case !o.greeted:
		h.avoidURL = true
	}
}

// lose forgets the session: the next connection identifies, on the base URL.
func (h *history) lose() {
	h.held = false
	h.failedResumes = 0
	h.avoidURL = false
}

// backoff is exponential with full jitter.
func (h *history) backoff() delay {
	limit := backoffMax
	if h.failures < 10 { // beyond, the shift would only overflow in the end
		limit = min(limit, backoffBase<<h.failures)
	}
	return delay{0, limit}
}
