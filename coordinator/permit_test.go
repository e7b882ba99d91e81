package coordinator

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/lease"
)

func TestShortage(t *testing.T) {
	for _, test := range []struct {
		first, repair, granted int // requests
		total, remaining       int
		want                   int
	}{
		{0, 0, 0, 100, 0, 0},
		{5, 0, 0, 100, 15, 0},
		{6, 0, 0, 100, 15, 1},
		{6, 0, 9, 100, 15, 1},  // granted ones are counted already
		{6, 4, 0, 100, 10, 6},  // the reserve is not for those that never had a session
		{6, 12, 0, 100, 10, 8}, // nor is it more than it is
		{6, 7, 0, 100, 15, 1},  // 5 of the first, and the reserve for the others
		{3, 4, 0, 100, 0, 7},
		{3, 0, 0, 0, 0, 3}, // nothing is known of a budget
	} {
		requests := map[lease.RequestID]lease.IdentifyRequest{}
		for range test.first + test.repair + test.granted {
			n := len(requests)
			r := lease.IdentifyRequest{Shard: lease.ShardID{Generation: 1, Shard: n}, Repair: n < test.repair, Granted: n >= test.first+test.repair}
			requests[lease.RequestID{Shard: r.Shard}] = r
		}
		if got := shortage(requests, lease.Budget{Total: test.total, Remaining: test.remaining}); got != test.want {
			t.Errorf("%+v: got %d", test, got)
		}
	}
}

// While IDENTIFYs are under way Discord's answer would be reckoned too low, at the cost of the reserve.
func TestAShortageIsNotAskedAboutTooSoon(t *testing.T) {
	o := newOffice(t, 3, 1, 12)
	o.told(1, 12)
	o.lead.answer.SessionStartLimit.ResetAfter = 0
	o.request(0, false)
	o.act()
	o.told(1, 11)
	o.lead.answer.SessionStartLimit.ResetAfter = 0
	must(t, o.claim(0).Sent(t.Context(), time.Now()))
	o.request(1, false)
	o.request(2, false)
	for range 2 {
		if o.act() > retryAfter || len(o.lead.coordinator.ask) > 0 {
			t.Fatal("Discord was asked while an IDENTIFY was under way, or nothing is tried again")
		}
	}
	o.pass(2 * identifyWindow)
	o.act()
	if len(o.lead.coordinator.ask) != 1 {
		t.Error("Discord was not asked")
	}
}

// reckonedLow is an office to which Discord said what remains just after an IDENTIFY, which may be counted in that or not. Another shard waits
// since, and the IDENTIFY is long over.
func reckonedLow(t *testing.T, log io.Writer, remaining int) *office {
	t.Helper()
	o := newOffice(t, 3, 1, 100)
	o.lead.log = hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Info})
	o.request(0, false)
	o.act()
	must(t, o.claim(0).Sent(t.Context(), time.Now()))
	o.told(1, remaining)
	o.act()
	o.expectRemaining(remaining - 1)
	o.request(1, false)
	o.act()
	o.pass(2 * identifyWindow)
	o.lead.coordinator.ask = make(chan struct{}, 1)
	o.act()
	return o
}

// What was reckoned too low while shards identified is asked for again before shards wait for it until the next day.
func TestAShortageByReckoningIsAskedAbout(t *testing.T) {
	var log bytes.Buffer
	o := reckonedLow(t, &log, 11) // which leaves the reserve
	if len(o.lead.coordinator.ask) != 1 {
		t.Fatal("Discord was not asked")
	}
	o.told(1, 11)
	o.act()
	o.expectSlot(0, lease.SlotOpen, 1)
	if strings.Contains(log.String(), "identify budget is down") {
		t.Errorf("a shortage is told, though nobody waits: %s", &log)
	}
}

// The same goes for who comes later and may use the reserve, when others already wait for the next day.
func TestARepairIsNotKeptWaitingByReckoning(t *testing.T) {
	o := reckonedLow(t, io.Discard, 1) // which leaves nothing
	if len(o.lead.coordinator.ask) != 0 {
		t.Fatal("Discord was asked, though the reserve is not for those who wait")
	}
	o.request(2, true)
	o.act()
	if len(o.lead.coordinator.ask) != 1 {
		t.Fatal("Discord was not asked")
	}
	o.told(1, 1)
	o.act()
	o.expectSlot(0, lease.SlotOpen, 2)
}

// Of a budget that nothing was taken from Discord does not say when it is reset. When shards wait for that it is asked, once, and the
// trouble is told with the answer; or without, if none comes.
func TestAShortageIsToldWithWhenItEnds(t *testing.T) {
	for _, answered := range []bool{true, false} {
		var log bytes.Buffer
		o := newOffice(t, 2, 2, 10) // nothing above the reserve
		o.lead.log = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
		asks := func() (n int) {
			select {
			case <-o.lead.coordinator.ask:
				return 1
			default:
				return 0
			}
		}
		asks()
		o.told(2, 10)
		o.lead.answer.SessionStartLimit.ResetAfter = 0
		o.request(0, false)
		o.act()
		if strings.Contains(log.String(), "identify budget is down") || asks() != 1 {
			t.Fatalf("it was told at once, or Discord was not asked: %s", &log)
		}
		if again := o.act(); again <= 0 || again > askTimeout {
			t.Errorf("it looks again in %v", again)
		}
		if answered {
			o.told(2, 10)
		} else {
			o.pass(askTimeout)
		}
		o.act()
		o.act()
		if n := strings.Count(log.String(), "identify budget is down"); n != 1 {
			t.Errorf("answered %v: told %d times: %s", answered, n, &log)
		}
		if soon := o.now.Add(time.Hour).UTC().Format(time.DateTime); strings.Contains(log.String(), soon) != answered {
			t.Errorf("answered %v, and the log has %q", answered, &log)
		}
		if asks() != 0 {
			t.Error("Discord was asked again")
		}
	}
}

// A new leader cannot know how long ago each bucket's last IDENTIFY was, so whether Discord has counted it: it reckons that it has not,
// until Discord is asked again.
func TestNewLeaderReckonsWithLess(t *testing.T) {
	const buckets = 3
	o := newOffice(t, buckets, buckets, 100)
	for shard := range buckets {
		o.request(shard, false)
	}
	o.act()
	for shard := range buckets {
		claim := o.claim(shard)
		must(t, claim.Sent(t.Context(), claim.Deadline))
	}
	o.act()
	o.pass(time.Hour)
	o.told(buckets, 100-buckets)
	o.act()
	o.expectRemaining(100 - buckets)

	o.lead.term.Resign()
	o.elect(Config{ID: "next", Store: o.store, Logger: quiet})
	o.told(buckets, 100-buckets)
	o.act()
	o.expectRemaining(100 - 2*buckets)
	o.pass(pollEvery)
	o.told(buckets, 100-buckets)
	o.act()
	o.expectRemaining(100 - buckets)
}
