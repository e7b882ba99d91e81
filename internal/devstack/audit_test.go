package devstack

import (
	"slices"
	"testing"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// session is a session of shard 0 whose events 1 to n have the sums base+1 to base+n; the first is READY.
func session(trace string, base uint64, n int) discordsim.SessionLog {
	s := discordsim.SessionLog{Total: 1, Trace: trace, Last: int64(n)}
	for seq := 1; seq <= n; seq++ {
		s.Dispatches = append(s.Dispatches, discordsim.Dispatched{Seq: int64(seq), Type: typeOf(seq), Sum: base + uint64(seq)})
	}
	return s
}

func typeOf(seq int) string {
	if seq == 1 {
		return "READY"
	}
	return "MESSAGE_CREATE"
}

// entries are the given events of such a session, as a stream has them.
func entries(epoch uint64, trace string, base uint64, seqs ...int) (all []Entry) {
	for _, seq := range seqs {
		e := Entry{ID: stream.ID{Epoch: epoch, Seq: int64(seq)}, Type: typeOf(seq), Sum: base + uint64(seq)}
		if seq == 1 {
			e.Trace, e.Sum = trace, 999 // READY is stored without its session id
		}
		all = append(all, e)
	}
	return all
}

func gap(epoch uint64) []Entry {
	return []Entry{{ID: stream.ID{Epoch: epoch}, Type: stream.GapType}}
}

func TestAudit(t *testing.T) {
	one := []discordsim.SessionLog{session("a", 100, 4)}
	two := append(slices.Clone(one), session("b", 200, 2))
	for _, tc := range []struct {
		name     string
		sessions []discordsim.SessionLog
		stream   []Entry
		want     Account
	}{
		{"all there", one, entries(1, "a", 100, 1, 2, 3, 4), Account{Sessions: 1, Sent: 4, Found: 4}},
		{"the end is missing", one, entries(1, "a", 100, 1, 2, 3), Account{Sessions: 1, Sent: 4, Found: 3, Lost: 1}},
		{"the middle is missing", one, entries(1, "a", 100, 1, 2, 4), Account{Sessions: 1, Sent: 4, Found: 3, Lost: 1}},
		{"nothing is there", one, nil, Account{Sessions: 1, Sent: 4, Lost: 4}},
		{"twice in one epoch", one, entries(1, "a", 100, 1, 2, 3, 3, 4), Account{Sessions: 1, Sent: 4, Found: 5, Duplicated: 1}},
		{"the session again as another epoch", one,
			slices.Concat(entries(1, "a", 100, 1, 2, 3, 4), entries(2, "a", 100, 1, 2)), Account{Sessions: 1, Sent: 4, Found: 6, Duplicated: 2}},
		{"out of order", one, entries(1, "a", 100, 1, 3, 2, 4), Account{Sessions: 1, Sent: 4, Found: 4, OutOfOrder: 1}},
		{"altered", one, append(entries(1, "a", 100, 1, 2, 3), entries(1, "a", 0, 4)...), Account{Sessions: 1, Sent: 4, Found: 4, Altered: 1}},
		{"never sent", one, entries(1, "a", 100, 1, 2, 3, 4, 5), Account{Sessions: 1, Sent: 4, Found: 5, Altered: 1}},
		{"of no session", one, append(entries(1, "a", 100, 1, 2, 3, 4), entries(2, "x", 0, 1)...), Account{Sessions: 1, Sent: 4, Found: 5, Altered: 1}},
		{"an end that a marker excuses", two,
			slices.Concat(entries(1, "a", 100, 1, 2), gap(2), entries(2, "b", 200, 1, 2)),
			Account{Sessions: 2, Sent: 6, Found: 4, Gaps: 1, Excused: 2}},
		{"an end without a marker", two,
			slices.Concat(entries(1, "a", 100, 1, 2), entries(2, "b", 200, 1, 2)), Account{Sessions: 2, Sent: 6, Found: 4, Lost: 2}},
		{"a marker excuses no hole", two,
			slices.Concat(entries(1, "a", 100, 1, 3, 4), gap(2), entries(2, "b", 200, 1, 2)),
			Account{Sessions: 2, Sent: 6, Found: 5, Gaps: 1, Lost: 1}},
		{"a marker excuses nothing after it", two,
			slices.Concat(entries(1, "a", 100, 1, 2, 3, 4), gap(2), entries(2, "b", 200, 1)),
			Account{Sessions: 2, Sent: 6, Found: 5, Gaps: 1, Lost: 1}},
		{"a session that never got into the stream", two,
			slices.Concat(gap(2), entries(2, "b", 200, 1, 2)), Account{Sessions: 2, Sent: 6, Found: 2, Gaps: 1, Excused: 4}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Audit(tc.sessions, map[int][]Entry{0: tc.stream})
			if got != tc.want {
				t.Errorf("account\n%+v, want\n%+v", got, tc.want)
			}
			broken := tc.want.Lost+tc.want.Duplicated+tc.want.OutOfOrder+tc.want.Altered > 0
			if got.Clean() == broken {
				t.Errorf("clean: %v", got.Clean())
			}
		})
	}
}

// Entries of a shard that Discord never had are nobody's.
func TestAuditOfAStrangeShard(t *testing.T) {
	got := Audit(nil, map[int][]Entry{7: entries(1, "a", 100, 1, 2)})
	if got.Altered != 2 || got.Clean() {
		t.Errorf("account %+v", got)
	}
}

func TestViolationsAreNotClean(t *testing.T) {
	if (Account{Violations: 1}).Clean() {
		t.Error("an account with a violation is clean")
	}
}
