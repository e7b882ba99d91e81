package devstack

import (
	"slices"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Entry is what an audit needs of a stream's entry.
type Entry struct {
	ID    stream.ID
	Type  string
	Sum   uint64 // discordsim.Sum of its data
	Trace string // of READY: which session it began

	Before, Total int // of a reshard marker: how many shards there were, and are from then on
}

// Account is the outcome of an audit: what Discord sent against what is in the streams.
type Account struct {
	Sessions int // that Discord had
	Sent     int // events, over all sessions
	Found    int // entries, without gap markers
	Gaps     int // gap markers
	Reshards int // reshard markers
	Repeated int // events that an unmuted session brought again, after its marker
	Excused  int // events that are missing where a gap marker says so

	Lost       int // events that are missing without a gap marker
	Duplicated int // entries of an event that is there already
	OutOfOrder int // entries that come after a later event of their session
	Altered    int // entries that are not what Discord sent under their number

	Identifies int
	Resumes    int
	Violations int // what anyone did that Discord forbids
}

// Clean reports whether every promise was kept.
func (a Account) Clean() bool {
	return a.Lost == 0 && a.Duplicated == 0 && a.OutOfOrder == 0 && a.Altered == 0 && a.Violations == 0
}

// Audit compares the sessions that Discord had with the streams, by shard. It is a pure function.
//
// Every epoch of a stream begins with READY, whose trace says which session it is. Within it the entries must be Discord's
// events in order, from the first on. What is missing at a session's end, or of a session that is not in the stream at
// all, is excused if a later epoch begins with a gap marker; nothing else is.
func Audit(sessions []discordsim.SessionLog, streams map[int][]Entry) Account {
	account := Account{Sessions: len(sessions)}
	byShard := map[int][]discordsim.SessionLog{}
	for _, session := range sessions {
		account.Sent += len(session.Dispatches)
		byShard[session.Shard] = append(byShard[session.Shard], session)
	}
	for shard, entries := range streams {
		if len(byShard[shard]) == 0 {
			account.Altered += len(entries) // Discord had no such shard
		}
	}
	for shard, of := range byShard {
		auditShard(&account, of, streams[shard])
	}
	return account
}

// epoch is the entries of a stream that have one epoch.
type epoch struct {
	number  uint64
	marked  bool // begins with a gap marker
	entries []Entry
}

func auditShard(account *Account, sessions []discordsim.SessionLog, entries []Entry) {
	epochs := cut(account, entries)
	found := make(map[string][]bool, len(sessions)) // by trace: which events are there
	at := make(map[string]int, len(sessions))       // by trace: the epoch it is in
	byTrace := map[string]discordsim.SessionLog{}
	for _, session := range sessions {
		byTrace[session.Trace] = session
		found[session.Trace] = make([]bool, len(session.Dispatches)+1)
		at[session.Trace] = -1
	}
	for i, e := range epochs {
		trace := e.entries[0].Trace
		session, ok := byTrace[trace]
		if !ok {
			account.Altered += len(e.entries)
			continue
		}
		at[trace] = i
		match(account, session, e.entries, found[trace])
	}
	lastMarked := -1
	for i, e := range epochs {
		if e.marked {
			lastMarked = i
		}
	}
	for trace, there := range found {
		count(account, there, lastMarked > at[trace])
	}
}

// cut divides a stream into epochs, and counts its gap markers.
func cut(account *Account, entries []Entry) (epochs []epoch) {
	for _, e := range entries {
		if len(epochs) == 0 || epochs[len(epochs)-1].number != e.ID.Epoch {
			epochs = append(epochs, epoch{number: e.ID.Epoch})
		}
		last := &epochs[len(epochs)-1]
		if e.Type == stream.GapType {
			account.Gaps++
			last.marked = true
			continue
		}
		account.Found++
		last.entries = append(last.entries, e)
	}
	return slices.DeleteFunc(epochs, func(e epoch) bool { return len(e.entries) == 0 })
}

// match checks each entry of an epoch against the event of its number.
func match(account *Account, session discordsim.SessionLog, entries []Entry, found []bool) {
	var highest int64
	for _, e := range entries {
		seq := e.ID.Seq
		switch {
		case seq < 1 || seq >= int64(len(found)):
			account.Altered++
			continue
		case found[seq]:
			account.Duplicated++
		case seq < highest:
			account.OutOfOrder++
		}
		highest = max(highest, seq)
		found[seq] = true
		event := session.Dispatches[seq-1]
		// READY is stored without its session id, so its bytes differ.
		if event.Type != e.Type || (event.Sum != e.Sum && e.Type != "READY") {
			account.Altered++
		}
	}
}

// count adds up what is missing. Only what follows the last event that is there can be excused.
func count(account *Account, found []bool, excused bool) {
	last := len(found) - 1
	for last > 0 && !found[last] {
		last--
	}
	for seq := 1; seq < len(found); seq++ {
		switch {
		case found[seq]:
		case excused && seq > last:
			account.Excused++
		default:
			account.Lost++
		}
	}
}
