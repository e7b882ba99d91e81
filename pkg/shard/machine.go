package shard

import "time"

// machine is the gateway protocol on one connection: what to do about each thing that happens. It has no clock, no
// randomness and does no I/O; the loop in conn.go feeds it and carries out what it returns.
//
//	          HELLO              granted                READY / RESUMED
//	greeting ───────▶ asking ───────────────▶ answering ───────────────▶ live
//	    │                │                        │                        │
//	    └────────────────┴───────────┬────────────┴────────────────────────┘
//	                                 ▼  closed, lost, zombie, op 7, op 9, stopped …
//	                               over
//
// From greeting to asking nothing but heartbeats may be sent: anything else earns close code 4003.
type machine struct {
	resume bool // there is a session to RESUME; else IDENTIFY

	phase    phase
	interval time.Duration // between heartbeats, from HELLO
	unacked  bool          // a heartbeat of ours has not been answered yet
	waited   int           // heartbeats since IDENTIFY or RESUME that brought no dispatch
	end      cause         // why it is over
}

// phase is where a connection is in the protocol.
type phase int

const (
	greeting  phase = iota // waiting for HELLO
	asking                 // waiting for leave to speak: the gate, and an identify permit
	answering              // IDENTIFY or RESUME sent, waiting for READY or RESUMED
	live                   // the session runs
	over                   // nothing more to do on this connection
)

// cause is why a connection is over.
type cause int

const (
	lost        cause = iota // the socket went, with or without a close frame
	unreachable              // it never came to be
	stopped                  // our own context ended
	failed                   // a callback returned an error
	broken                   // Discord sent what we cannot read, or out of order
	deafHello                // no HELLO in time
	unanswered               // no answer to IDENTIFY or RESUME
	zombie                   // heartbeats are not answered
	reconnect                // op 7
	invalidated              // op 9, the session is gone
	suspended                // op 9, the session can be resumed
)

// kind tells inputs apart.
type kind int

const (
	inOpened      kind = iota // the socket is open
	inHello                   // op 10; interval
	inGranted                 // leave to speak; late if the permit has run out
	inReady                   // a new session was begun and READY delivered
	inResumed                 // RESUMED was delivered
	inBeatRequest             // op 1
	inAck                     // op 11
	inReconnect               // op 7
	inInvalid                 // op 9; resumable
	inLimited                 // RATE_LIMITED; guild, interval
	inTimer                   // the timer went off; heard and dispatched
	inEnded                   // the connection ended by itself; cause
	inStop                    // our context ended
)

// input is one thing that happened.
type input struct {
	kind      kind
	interval  time.Duration // inHello; inLimited
	guild     string        // inLimited
	late      bool          // inGranted
	resumable bool          // inInvalid
	cause     cause         // inEnded

	// inTimer: whether anything, or any dispatch, arrived since the last heartbeat. While the reader waits for
	// Deliver it cannot hear; that counts as both, since the silence is ours.
	heard, dispatched bool
}

// do tells actions apart.
type do int

const (
	doTimer     do = iota // set the one timer, in delay
	doAsk                 // ask for leave, after delay
	doBeat                // send the heartbeat that is due
	doBeatAsked           // send one because Discord asked for it
	doIdentify            // send IDENTIFY
	doResume              // send RESUME
)

// action is one thing to do. Actions are to be done in order.
type action struct {
	do    do
	delay delay
}

const (
	// helloTimeout is how long Discord may take from the open socket to HELLO.
	helloTimeout = 20 * time.Second
	// maxUnanswered heartbeats in a row may go by without any dispatch after IDENTIFY or RESUME.
	maxUnanswered = 3
	// retryLatePermit spreads the asking for another permit after one that had run out.
	retryLatePermit = time.Second
)

// step takes one input and returns what to do about it.
func (m *machine) step(in input) []action {
	if m.phase == over {
		return nil
	}
	switch in.kind {
	case inOpened:
		return []action{{doTimer, exactly(helloTimeout)}}
	case inHello:
		return m.hello(in.interval)
	case inGranted:
		return m.granted(in.late)
	case inReady, inResumed:
		if m.phase == answering {
			m.phase = live
		}
	case inBeatRequest:
		return []action{{do: doBeatAsked}} // which may be left out, so its answer is not waited for
	case inAck:
		m.unacked = false
	case inReconnect:
		m.finish(reconnect)
	case inInvalid:
		if in.resumable {
			m.finish(suspended)
		} else {
			m.finish(invalidated)
		}
	case inTimer:
		return m.tick(in)
	case inEnded:
		m.finish(in.cause)
	case inStop:
		m.finish(stopped)
	}
	return nil
}

// hello starts the heartbeats: the first after a random part of the interval, so that a fleet that connects at once
// does not beat at once (Discord: Gateway, Heartbeat Interval). A second HELLO says nothing new.
func (m *machine) hello(interval time.Duration) []action {
	if m.phase != greeting {
		return nil
	}
	m.phase = asking
	m.interval = interval
	return []action{{doTimer, delay{0, interval}}, {do: doAsk}}
}

func (m *machine) granted(late bool) []action {
	switch {
	case m.phase != asking:
		return nil
	case late:
		return []action{{doAsk, delay{0, retryLatePermit}}}
	}
	m.phase = answering
	if m.resume {
		return []action{{do: doResume}}
	}
	return []action{{do: doIdentify}}
}

// tick is the timer: HELLO's deadline before HELLO, the next heartbeat after it. A heartbeat without an answer by
// the time of the next means the connection is dead, unless anything else came: acknowledgements queue behind events.
func (m *machine) tick(in input) []action {
	if m.phase == greeting {
		m.finish(deafHello)
		return nil
	}
	if m.unacked && !in.heard {
		m.finish(zombie)
		return nil
	}
	if m.phase == answering {
		m.waited++
		if in.dispatched {
			m.waited = 0
		}
		if m.waited >= maxUnanswered {
			m.finish(unanswered)
			return nil
		}
	}
	m.unacked = true
	return []action{{do: doBeat}, {doTimer, exactly(m.interval)}}
}

func (m *machine) finish(why cause) {
	m.phase = over
	m.end = why
}
