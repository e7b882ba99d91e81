package shard

// stage is how far a connection has come, as far as dispatches are concerned. The loop sets it before it writes
// IDENTIFY or RESUME, so it is in force before Discord can answer.
type stage int32

const (
	stageMute        stage = iota // nothing sent yet: no dispatch is due
	stageIdentifying              // IDENTIFY sent: READY is due
	stageResuming                 // RESUME sent: missed events, then RESUMED, are due
	stageLive                     // READY or RESUMED seen
)

// verdict is what becomes of a dispatch.
type verdict int

const (
	deliver  verdict = iota // the next event
	begin                   // READY of a new session: announce it, then deliver
	drop                    // delivered before; Discord repeats it while it replays
	disorder                // not what can come now: nothing after it may be trusted
)

// The dispatches that mean something to a session: its beginning, the end of a replay, and a refused command.
const (
	typeReady       = "READY"
	typeResumed     = "RESUMED"
	typeRateLimited = "RATE_LIMITED"
)

// admit decides about a dispatch of type typ with sequence number seq, when last is the number of the last event
// delivered in the session. Numbers go up by one (Discord: Gateway, Sending Heartbeats and Resume); READY of a new
// session sets the first, which has always been 1.
func admit(at stage, last, seq int64, typ string) verdict {
	switch {
	case at == stageIdentifying && typ == typeReady && seq > 0:
		return begin
	case at == stageResuming && seq <= last && (seq > 0 || typ == typeResumed):
		return drop // RESUMED carries a number of its own, but nothing would be lost if it did not
	case (at == stageResuming || at == stageLive) && seq == last+1:
		return deliver
	}
	return disorder
}
