package devstack

import (
	"slices"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// AuditReshard is Audit for a cluster whose number of shards changed without downtime: what Discord sent to one set of sessions may be in
// the streams as it was sent to the other. So an event is known by its bytes, of which no two events have the same. It is a pure function.
//
// Nothing may be missing that was sent to any session, but what one of another number was sent while it was muted, for which those in force
// account; and what gap markers excuse: of a session that others followed, those of all streams, since the shard that would have had the end
// of it may have another number. An event may be there twice only where it came to a session that was unmuted, after the marker that says so,
// and from each former shard only before the first that is there once.
func AuditReshard(sessions []discordsim.SessionLog, streams map[int][]Entry) Account {
	a := auditor{
		account: Account{Sessions: len(sessions)}, found: map[string][]bool{}, at: map[string]place{}, of: map[[2]int]discordsim.SessionLog{},
		places: map[uint64][]place{}, wrote: map[[2]int]bool{}, followed: map[int]bool{},
	}
	for _, s := range sessions {
		a.account.Sent += len(s.Dispatches)
		a.found[s.Trace] = make([]bool, len(s.Dispatches)+1)
	}
	marked := map[int]int{} // by shard: the last epoch, by its place, that a gap marker opens
	for shard, entries := range streams {
		marked[shard] = -1
		for i, e := range cutAll(&a.account, entries) {
			switch e.opens {
			case stream.GapType:
				marked[shard] = i
			case stream.ReshardType:
				a.followed[e.before] = true
			}
			a.match(sessions, place{shard: shard, epoch: i, unmuted: e.opens == stream.ReshardType}, e)
		}
	}
	for shard, entries := range streams {
		for i, e := range cutAll(new(Account), entries) {
			if own, known := a.of[[2]int{shard, i}]; known && e.opens == stream.ReshardType {
				a.repeats(sessions, own, e)
			}
		}
	}
	a.countRepeats()
	for _, s := range sessions {
		a.missing(s, marked)
	}
	return a.account
}

// place is where in the streams something is.
type place struct {
	shard, epoch int
	unmuted      bool // the epoch begins with a reshard marker
	session      discordsim.SessionLog
}

// wholeEpoch is an epoch with what opens it.
type wholeEpoch struct {
	opens         string // a marker's type, or ""
	before, total int    // of a reshard marker: shards
	entries       []Entry
}

func cutAll(account *Account, entries []Entry) (epochs []wholeEpoch) {
	number := uint64(0)
	for _, e := range entries {
		if len(epochs) == 0 || number != e.ID.Epoch {
			epochs, number = append(epochs, wholeEpoch{}), e.ID.Epoch
		}
		last := &epochs[len(epochs)-1]
		switch e.Type {
		case stream.GapType:
			account.Gaps++
			last.opens = e.Type
		case stream.ReshardType:
			account.Reshards++
			last.opens, last.before, last.total = e.Type, e.Before, e.Total
		default:
			account.Found++
			last.entries = append(last.entries, e)
		}
	}
	return epochs
}

type auditor struct {
	account  Account
	found    map[string][]bool                // by trace: which events are there
	at       map[string]place                 // by trace
	of       map[[2]int]discordsim.SessionLog // by shard and epoch
	places   map[uint64][]place
	wrote    map[[2]int]bool // by shard and total: a session of these is in the streams
	followed map[int]bool    // by total: other shards went on with their streams
}

// match finds the session that an epoch is of, and checks its entries against that.
func (a *auditor) match(sessions []discordsim.SessionLog, at place, e wholeEpoch) {
	if len(e.entries) == 0 {
		return
	}
	first := e.entries[0]
	i := slices.IndexFunc(sessions, func(s discordsim.SessionLog) bool {
		if e.opens != stream.ReshardType {
			return s.Trace == first.Trace
		}
		seq := first.ID.Seq
		return s.Shard == at.shard && s.Total == e.total && seq <= int64(len(s.Dispatches)) && s.Dispatches[seq-1].Sum == first.Sum
	})
	if i < 0 || sessions[i].Shard != at.shard {
		a.account.Altered += len(e.entries)
		return
	}
	s := sessions[i]
	at.session = s
	a.of[[2]int{at.shard, at.epoch}] = s
	a.wrote[[2]int{s.Shard, s.Total}] = true
	a.at[s.Trace] = at
	match(&a.account, s, e.entries, a.found[s.Trace])
	for j, entry := range e.entries {
		if j > 0 && entry.ID.Seq != e.entries[j-1].ID.Seq+1 {
			a.account.OutOfOrder++
		}
		a.places[entry.Sum] = append(a.places[entry.Sum], at)
	}
}

// repeats checks that what an unmuted session repeats of a former shard comes before what it does not.
func (a *auditor) repeats(sessions []discordsim.SessionLog, own discordsim.SessionLog, e wholeEpoch) {
	former := func(s discordsim.SessionLog) bool { return s.Total == e.before && !s.Identified.After(own.Identified) }
	origin := map[uint64]int{}
	for _, s := range sessions {
		if former(s) {
			for _, d := range s.Dispatches {
				origin[d.Sum] = s.Shard
			}
		}
	}
	fresh := map[int]bool{}
	for _, entry := range e.entries {
		from, shared := origin[entry.Sum]
		repeated := slices.ContainsFunc(a.places[entry.Sum], func(at place) bool { return former(at.session) })
		switch {
		case !shared:
		case repeated && fresh[from]:
			a.account.OutOfOrder++
		case !repeated:
			fresh[from] = true
		}
	}
}

func (a *auditor) countRepeats() {
	for _, at := range a.places {
		for i, p := range at {
			if i == 0 {
				continue
			}
			if p.unmuted || at[0].unmuted {
				a.account.Repeated++
			} else {
				a.account.Duplicated++
			}
		}
	}
}

// missing adds up what of a session's events is nowhere.
func (a *auditor) missing(s discordsim.SessionLog, marked map[int]int) {
	at, there := a.at[s.Trace]
	replaced := !there && a.wrote[[2]int{s.Shard, s.Total}]
	excused := there && marked[s.Shard] > at.epoch || !there && marked[s.Shard] >= 0 || a.followed[s.Total] && a.account.Gaps > 0
	found := a.found[s.Trace]
	last := len(found) - 1
	for last > 0 && !found[last] {
		last--
	}
	first := 1
	for first < len(found) && !found[first] {
		first++
	}
	for seq := 1; seq < len(found); seq++ {
		d := s.Dispatches[seq-1]
		switch {
		case found[seq], len(a.places[d.Sum]) > 0:
		case replaced, at.unmuted && seq < first: // muted: what a session in force was sent too is accounted for by that
		case !there && (d.Type == "READY" || d.Type == "RESUMED" || d.Type == "GUILD_CREATE"):
		case excused && seq > last:
			a.account.Excused++
		default:
			a.account.Lost++
		}
	}
}
