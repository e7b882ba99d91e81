package shard

import "time"

const (
	// sendLimit and sendPeriod bound what may be sent on one connection, heartbeats, IDENTIFY and RESUME included (Discord:
	// Gateway, Rate Limiting). One more closes it with 4008.
	sendLimit  = 120
	sendPeriod = 60 * time.Second
	// presenceLimit and presencePeriod bound Update Presence. The period is 20 s, and a little more because two that were
	// sent apart may arrive closer together.
	presenceLimit  = 5
	presencePeriod = 20*time.Second + 100*time.Millisecond
	// everyonePeriod is how often all members of a guild may be asked for (Discord: Gateway Events, Request Guild Members):
	// once in 30 s, and a little more.
	everyonePeriod = 30*time.Second + 100*time.Millisecond
	// spareBeats are kept for heartbeats that Discord asks for, beside those that are due.
	spareBeats = 2
	// maxReserve leaves something for commands, however short the heartbeat interval is.
	maxReserve = sendLimit - 10
)

// pace says when commands may be sent, so that Discord's limits are kept. It is plain state on the times it is given. The
// limit of the connection begins anew with each; those of presence and members go on.
type pace struct {
	due      int    // heartbeats that may be due in a period
	reserve  int    // of the connection's limit, for these and for some that Discord asks for
	sends    window // on the connection, without the heartbeats that were due: those have their share
	presence window
	members  map[string]hold // by guild
}

// hold is until when requests for members of a guild have to wait.
type hold struct {
	everyone time.Time // those for all members
	any      time.Time // every one, because Discord said so
}

func newPace() pace {
	return pace{presence: window{limit: presenceLimit, period: presencePeriod}, members: map[string]hold{}}
}

// connected begins a new connection.
func (p *pace) connected() { p.sends = window{limit: sendLimit, period: sendPeriod} }

// goesOn takes over a connection that has been another's so far.
func (p *pace) goesOn(from *pace) { p.due, p.reserve, p.sends = from.due, from.reserve, from.sends }

// greeted takes note of how often heartbeats are due.
func (p *pace) greeted(interval time.Duration) {
	p.due = min(int(sendPeriod/interval)+2, maxReserve) // one more than fit, since one may be late and the next not
	p.reserve = min(p.due+spareBeats, maxReserve)
}

// beat says whether there is room for a heartbeat that Discord asked for, beside those that are due.
func (p *pace) beat(now time.Time) bool { return p.sends.wait(now, p.due) == 0 }

// sent counts a message on the connection: of any kind, but not a heartbeat that was due.
func (p *pace) sent(now time.Time) { p.sends.add(now) }

// commanded counts a command, and that against the limits of its kind too.
func (p *pace) commanded(out *outgoing, now time.Time) {
	p.sent(now)
	switch {
	case out.lane.op == opPresence:
		p.presence.add(now)
	case out.everyone:
		p.forget(now)
		h := p.members[out.lane.guild]
		h.everyone = now.Add(everyonePeriod)
		p.members[out.lane.guild] = h
	}
}

// limited takes in a RATE_LIMITED of Discord's: no request for members of the guild before the time is over.
func (p *pace) limited(guild string, retryAfter time.Duration, now time.Time) {
	p.forget(now)
	h := p.members[guild]
	h.any = now.Add(retryAfter)
	p.members[guild] = h
}

// forget drops the holds that are over.
func (p *pace) forget(now time.Time) {
	for guild, h := range p.members {
		if !h.everyone.After(now) && !h.any.After(now) {
			delete(p.members, guild)
		}
	}
}

// next picks the first command that may be sent now and returns its index in the queue, or -1 and how long until one may
// be; for an empty queue that is 0. A command that is held back by a limit of its kind holds back those behind it in its
// lane, and no others.
func (p *pace) next(queue []*outgoing, now time.Time) (index int, wait time.Duration) {
	if len(queue) == 0 {
		return -1, 0
	}
	if wait := p.sends.wait(now, p.reserve); wait > 0 {
		return -1, wait
	}
	held := map[lane]bool{}
	for i, out := range queue {
		if held[out.lane] {
			continue
		}
		own := p.own(out, now)
		if own <= 0 {
			return i, 0
		}
		held[out.lane] = true
		if wait == 0 || own < wait {
			wait = own
		}
	}
	return -1, wait
}

// own is how long the limits of its kind hold a command back.
func (p *pace) own(out *outgoing, now time.Time) time.Duration {
	switch out.lane.op {
	case opPresence:
		return p.presence.wait(now, 0)
	case opRequestMembers:
		h := p.members[out.lane.guild]
		if out.everyone {
			return later(h.any, h.everyone).Sub(now)
		}
		return h.any.Sub(now)
	}
	return 0
}

// window bounds how often something happens in any period.
type window struct {
	limit  int
	period time.Duration
	times  []time.Time // the last ones, at most limit, oldest first
}

func (w *window) add(now time.Time) {
	if len(w.times) == w.limit {
		w.times = append(w.times[:0], w.times[1:]...)
	}
	w.times = append(w.times, now)
}

// wait is how long until there is room for one more, with so many left over.
func (w *window) wait(now time.Time, reserve int) time.Duration {
	room := w.limit - reserve
	if len(w.times) < room {
		return 0
	}
	return max(0, w.times[len(w.times)-room].Add(w.period).Sub(now))
}
