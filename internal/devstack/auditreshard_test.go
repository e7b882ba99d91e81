package devstack

import (
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// of makes a session of a shard that was sent events with the given sums, after READY, which has none of its own.
func of(trace string, shard, total int, sums ...uint64) discordsim.SessionLog {
	s := discordsim.SessionLog{Trace: trace, Shard: shard, Total: total}
	for i, sum := range append([]uint64{1000 + uint64(10*total+shard)}, sums...) {
		d := discordsim.Dispatched{Seq: int64(i + 1), Type: "MESSAGE_CREATE", Sum: sum}
		if i == 0 {
			d.Type = "READY"
		}
		s.Dispatches = append(s.Dispatches, d)
	}
	return s
}

// in are the entries of a session from one sequence number to another, under an epoch.
func in(epoch uint64, s discordsim.SessionLog, from, to int) (all []Entry) {
	for _, d := range s.Dispatches[from-1 : to] {
		e := Entry{ID: stream.ID{Epoch: epoch, Seq: d.Seq}, Type: d.Type, Sum: d.Sum}
		if d.Type == "READY" {
			e.Trace = s.Trace
		}
		all = append(all, e)
	}
	return all
}

func reshardMarker(epoch uint64, total int) []Entry {
	return []Entry{{ID: stream.ID{Epoch: epoch}, Type: stream.ReshardType, Before: 3 - total, Total: total}}
}

// One shard becomes two: events 1, 3, 5 … are of guilds of the new shard 0, the even ones of those of shard 1. The old session was sent up
// to 8, the new ones from 3 on.
func TestAuditReshard(t *testing.T) {
	old := of("old", 0, 1, 1, 2, 3, 4, 5, 6, 7, 8)
	zero, one := of("zero", 0, 2, 3, 5, 7, 9, 11), of("one", 1, 2, 4, 6, 8, 10)
	sessions := []discordsim.SessionLog{old, zero, one}
	for _, tc := range []struct {
		name    string
		streams map[int][]Entry
		want    Account
	}{
		{"nothing missing, nothing repeated", map[int][]Entry{
			0: slices.Concat(in(1, old, 1, 7), reshardMarker(2, 2), in(2, zero, 4, 6)), 1: slices.Concat(reshardMarker(2, 2), in(2, one, 4, 5)),
		}, Account{Found: 12, Reshards: 2}},
		{"some repeated", map[int][]Entry{
			0: slices.Concat(in(1, old, 1, 7), reshardMarker(2, 2), in(2, zero, 3, 6)), 1: slices.Concat(reshardMarker(2, 2), in(2, one, 2, 5)),
		}, Account{Found: 15, Reshards: 2, Repeated: 3}},
		{"the new session goes on too late", map[int][]Entry{
			0: slices.Concat(in(1, old, 1, 7), reshardMarker(2, 2), in(2, zero, 5, 6)), 1: slices.Concat(reshardMarker(2, 2), in(2, one, 4, 5)),
		}, Account{Found: 11, Reshards: 2, Lost: 1}},
		{"the old session was not brought to its end", map[int][]Entry{
			0: slices.Concat(in(1, old, 1, 5), reshardMarker(2, 2), in(2, zero, 4, 6)), 1: slices.Concat(reshardMarker(2, 2), in(2, one, 4, 5)),
		}, Account{Found: 10, Reshards: 2, Lost: 2}},
		{"a hole in the new session", map[int][]Entry{
			0: slices.Concat(in(1, old, 1, 7), reshardMarker(2, 2), in(2, zero, 4, 4), in(2, zero, 6, 6)), 1: slices.Concat(reshardMarker(2, 2), in(2, one, 4, 5)),
		}, Account{Found: 11, Reshards: 2, Lost: 1, OutOfOrder: 1}},
		{"of no session", map[int][]Entry{
			0: slices.Concat(in(1, old, 1, 8), reshardMarker(2, 2), in(2, one, 4, 5)), 1: slices.Concat(reshardMarker(2, 2), in(2, one, 4, 5)),
		}, Account{Found: 12, Reshards: 2, Lost: 2, Altered: 2}},
		{"a new session that never took over", map[int][]Entry{0: in(1, old, 1, 9), 1: nil}, Account{Found: 9, Lost: 3}},
		{"marked as missing", map[int][]Entry{
			0: slices.Concat(in(1, old, 1, 5), gap(2), reshardMarker(3, 2), in(3, zero, 5, 6)), 1: slices.Concat(reshardMarker(2, 2), in(2, one, 4, 5)),
		}, Account{Found: 9, Reshards: 2, Gaps: 1, Excused: 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Sessions, tc.want.Sent = 3, 9+6+5
			if got := AuditReshard(sessions, tc.streams); got != tc.want {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

// What is repeated must come before what is not.
func TestAuditReshardOrder(t *testing.T) {
	old, next := of("old", 0, 1, 1, 2, 3, 4), of("next", 0, 2, 1, 2, 3, 4)
	marked := slices.Concat(in(1, old, 1, 2), in(1, old, 4, 4), reshardMarker(2, 2), in(2, next, 2, 5))
	if got := AuditReshard([]discordsim.SessionLog{old, next}, map[int][]Entry{0: marked}); got.OutOfOrder == 0 || got.Clean() {
		t.Errorf("the account is %+v", got)
	}
	twice := slices.Concat(in(1, old, 1, 5), gap(2), in(2, old, 1, 5))
	if got := AuditReshard([]discordsim.SessionLog{old}, map[int][]Entry{0: twice}); got.Duplicated == 0 {
		t.Errorf("without a marker: %+v", got)
	}
}

// From one shard to two and back: what the second change repeats is nothing to the first, though the session before that, too, was still
// sent it for a while.
func TestAuditReshardTwice(t *testing.T) {
	old, zero, last := of("old", 0, 1, 1, 2, 3, 4, 5), of("zero", 0, 2, 2, 3, 4, 5, 6), of("last", 0, 1, 4, 5, 6, 7)
	last.Identified = time.Unix(1, 0)
	streams := map[int][]Entry{0: slices.Concat(in(1, old, 1, 3), reshardMarker(2, 2), in(2, zero, 3, 6), reshardMarker(3, 1), in(3, last, 3, 5))}
	got := AuditReshard([]discordsim.SessionLog{old, zero, last}, streams)
	if want := (Account{Sessions: 3, Sent: 17, Found: 10, Reshards: 2, Repeated: 2}); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
