package shard

import "context"

// CaughtUp returns when everything is delivered that Discord had sent before the call: nil then, or the context's cause. It sends a
// heartbeat and waits until all are answered, since answers queue behind events. A connection that breaks meanwhile is asked again when
// the session is live on the next. While Run does not run, it waits.
func (s *Session) CaughtUp(ctx context.Context) error {
	for {
		asked := make(chan bool, 1)
		select {
		case s.asked <- asked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case answered := <-asked:
			if answered {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// inquiry is who waits in CaughtUp for the answers of one connection. It belongs to the loop.
type inquiry struct {
	unanswered int         // heartbeats
	waiting    []chan bool // for a heartbeat to be sent
	covered    []chan bool // by one that was sent
}

// sent takes note of a heartbeat.
func (q *inquiry) sent() {
	q.unanswered++
	q.covered, q.waiting = append(q.covered, q.waiting...), nil
}

// acked takes note of an answer.
func (q *inquiry) acked() {
	if q.unanswered = max(q.unanswered-1, 0); q.unanswered == 0 {
		tell(q.covered, true)
		q.covered = nil
	}
}

// over sends all away.
func (q *inquiry) over() {
	tell(q.covered, false)
	tell(q.waiting, false)
}

func tell(all []chan bool, with bool) {
	for _, c := range all {
		c <- with
	}
}
