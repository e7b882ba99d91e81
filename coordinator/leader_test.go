package coordinator

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/lease"
)

func TestLeaderOpensOneSlotPerWindow(t *testing.T) {
	o := newOffice(t, 3, 1, 100)
	o.request(2, false)
	o.request(1, false)
	o.act()
	o.expectSlot(0, lease.SlotOpen, 1) // the lowest shard first
	o.expectRemaining(99)

	claim := o.claim(1)
	o.pass(time.Second)
	if again := o.act(); again != identifyValidity+identifyWindow+identifyJitter {
		t.Errorf("after a claim the leader acts again in %v", again)
	}
	must(t, claim.Sent(t.Context(), claim.Deadline.Add(-lease.SlotValidity+30*time.Millisecond)))
	free := 30*time.Millisecond + identifyWindow + identifyJitter
	if again := o.act(); again != free {
		t.Errorf("after a confirmation the leader acts again in %v, want %v", again, free)
	}
	o.pass(free - 1)
	o.act()
	o.expectSlot(0, lease.SlotSent, 1)
	o.pass(1)
	o.act()
	o.expectSlot(0, lease.SlotOpen, 2)
	o.expectRemaining(98)
}

func TestNewLeaderHoldsTheWindow(t *testing.T) {
	o := newOffice(t, 2, 1, 100)
	o.request(0, false)
	o.act()
	claim := o.claim(0)
	must(t, claim.Sent(t.Context(), claim.Deadline.Add(-lease.SlotValidity)))
	o.request(1, false)

	o.lead.term.Resign()
	o.elect(Config{ID: "next", Store: o.store, Logger: quiet})
	if again := o.act(); again != identifyWindow+identifyJitter {
		t.Errorf("a new leader that finds an identify sent acts again in %v", again)
	}
	o.expectSlot(0, lease.SlotSent, 0)
}

func TestNewLeaderTakesOverAnOpenSlot(t *testing.T) {
	o := newOffice(t, 1, 1, 100)
	o.request(0, false)
	o.act()

	o.lead.term.Resign()
	o.elect(Config{ID: "next", Store: o.store, Logger: quiet})
	if again := o.act(); again != voidAfter {
		t.Errorf("a new leader that finds a slot open acts again in %v", again)
	}
	o.claim(0) // is still good
}

func TestLeaderVoidsWhatIsNotClaimed(t *testing.T) {
	o := newOffice(t, 2, 1, 100)
	o.request(0, false)
	o.act()
	o.pass(voidAfter - 1)
	o.act()
	o.expectSlot(0, lease.SlotOpen, 0)
	o.pass(1)
	o.request(1, false)
	o.act()
	// The void was refunded, and the bucket given on at once: nothing was sent. Shard 0 has to ask again.
	o.expectSlot(0, lease.SlotOpen, 1)
	o.expectRemaining(99)
	o.request(0, false)
	must(t, o.own(1).WithdrawIdentify(t.Context(), 1))
	o.act()
	o.expectSlot(0, lease.SlotOpen, 0)
	o.expectRemaining(99)

	o.claim(0)
	o.pass(voidAfter)
	o.act()
	o.expectSlot(0, lease.SlotClaimed, 0) // and is never refunded
	o.expectRemaining(99)
}

func TestHaltStopsGrants(t *testing.T) {
	o := newOffice(t, 1, 1, 100)
	b := register(t, o.store, "b")
	must(t, b.Halt(t.Context(), lease.Halt{Reason: "intents not allowed (4014)", Shard: 0}))
	o.request(0, false)
	o.act()
	if slots := o.fresh().Slots; len(slots) != 0 {
		t.Fatalf("slots opened while halted: %v", slots)
	}
	must(t, b.Leave(t.Context()))
	o.act()
	o.expectSlot(0, lease.SlotOpen, 0)
}

// A worker's requests outlive its right to the range, for a moment or, if it forgets them, for ever.
func TestLeaderDropsAbandonedRequests(t *testing.T) {
	o := newOffice(t, 1, 1, 100)
	o.request(0, false)
	must(t, o.own(0).Release(t.Context()))
	o.act() // assigns range 0 anew, under another fence
	o.act()
	if c := o.fresh(); len(c.Requests) != 0 || len(c.Slots) != 0 || c.Budget.Remaining != 100 {
		t.Errorf("requests %v, slots %v, budget %v", c.Requests, c.Slots, c.Budget)
	}
}

func TestAbandoned(t *testing.T) {
	o := newOffice(t, 2, 1, 100)
	o.request(1, false)
	c := o.fresh()
	good := c.Requests[o.id(1)]
	if o.lead.abandoned(c, good) {
		t.Fatalf("%+v counts as abandoned", good)
	}
	for name, change := range map[string]func(*lease.IdentifyRequest){
		"another generation":      func(r *lease.IdentifyRequest) { r.Shard.Generation = 2 },
		"a shard beyond":          func(r *lease.IdentifyRequest) { r.Shard.Shard = 2 },
		"another fence":           func(r *lease.IdentifyRequest) { r.Fence++ },
		"another incarnation":     func(r *lease.IdentifyRequest) { r.Incarnation-- },
		"an unknown worker":       func(r *lease.IdentifyRequest) { r.Worker = "b" },
		"one with no incarnation": func(r *lease.IdentifyRequest) { r.Worker, r.Incarnation = "b", 0 },
	} {
		request := good
		if change(&request); !o.lead.abandoned(c, request) {
			t.Errorf("%s: not abandoned", name)
		}
	}
	delete(c.Ranges, lease.RangeID{Generation: 1, Index: 1})
	good.Fence = 0
	if !o.lead.abandoned(c, good) {
		t.Error("no fence, of a range that has none: not abandoned")
	}
}

// A request that a follower sees otherwise than it is now is refused by etcd, and does not hold up the rest.
func TestOneOvertakenRequestHoldsUpNoOther(t *testing.T) {
	o := newOffice(t, 2, 2, 100)
	o.request(0, false)
	o.request(1, false)
	seen := o.fresh()
	o.request(0, false) // written anew
	again, err := o.lead.act(t.Context(), seen, o.now)
	must(t, err)
	if again.Sub(o.now) != retryAfter {
		t.Errorf("acts again in %v, want %v", again.Sub(o.now), retryAfter)
	}
	if slots := o.fresh().Slots; len(slots) != 1 || slots[1].State != lease.SlotOpen {
		t.Fatalf("slots are %v, want one open, of bucket 1", slots)
	}
	o.expectRemaining(99)
	o.act()
	o.expectSlot(0, lease.SlotOpen, 0)
}

// Every bucket that is free gets its slot in one act, in as few transactions as etcd allows.
func TestAllBucketsAreOpenedAtOnce(t *testing.T) {
	const buckets = lease.MaxGrants + 3
	o := newOffice(t, buckets, buckets, 100)
	for shard := range buckets {
		o.request(shard, false)
	}
	o.act()
	slots, revisions := o.fresh().Slots, map[int64]bool{}
	for _, slot := range slots {
		revisions[slot.Revision] = true
	}
	if len(slots) != buckets || len(revisions) != 2 {
		t.Errorf("%d slots opened in %d transactions, want %d in 2", len(slots), len(revisions), buckets)
	}
	o.expectRemaining(100 - buckets)
}

func TestBudgetKeepsItsReserveForRepair(t *testing.T) {
	o := newOffice(t, 4, 4, 11) // of 100, so 10 are the reserve
	for shard := range 3 {
		o.request(shard, false)
	}
	o.request(3, true)
	o.act()
	o.act()
	o.expectSlot(0, lease.SlotOpen, 0)
	if slots := o.fresh().Slots; len(slots) != 2 || slots[3].State != lease.SlotOpen {
		t.Fatalf("slots are %v, want those of shards 0 and 3", slots)
	}
	o.expectRemaining(9)
}

func TestAnswerLeavesOutWhatDiscordMayNotHaveCounted(t *testing.T) {
	o := newOffice(t, 3, 3, 100)
	for shard := range 3 {
		o.request(shard, false)
	}
	o.act() // opens three
	o.claim(1)
	claim := o.claim(2)
	must(t, claim.Sent(t.Context(), claim.Deadline.Add(-lease.SlotValidity)))
	o.told(3, 97)
	o.act()
	o.expectRemaining(94)

	o.pass(identifyWindow + identifyJitter) // shard 2's is counted by now, 1's may have been sent later, 0's is open
	o.told(3, 97)
	o.act()
	o.expectRemaining(95)
}

func TestAnswerThatIsTooOldIsAskedForAgain(t *testing.T) {
	o := newOffice(t, 1, 1, 50)
	o.told(1, 100)
	o.pass(identifyWindow)
	o.act()
	o.expectRemaining(50)
	select {
	case <-o.lead.coordinator.ask:
	default:
		t.Error("Discord is not asked again")
	}
	o.told(1, 40)
	o.pass(identifyWindow - 1)
	o.act()
	o.expectRemaining(40)
}

func TestPlanKeepsItsShardsAndFollowsTheAddress(t *testing.T) {
	o := newOffice(t, 3, 1, 100)
	o.lead.coordinator.cfg.Shards = 0
	o.told(1, 100)
	o.lead.answer.Shards, o.lead.answer.URL = 77, "wss://other.test"
	o.act()
	if p := o.fresh().Plan; p.Shards != 3 || p.Generation != 1 || p.GatewayURL != "wss://other.test" {
		t.Errorf("plan is %+v", p)
	}
}

func TestOtherNumberOfShardsIsIgnoredAloud(t *testing.T) {
	var log bytes.Buffer
	o := newOffice(t, 3, 1, 100)
	o.lead.log = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
	for _, tc := range []struct{ configured, warnings int }{{0, 0}, {3, 0}, {77, 1}, {77, 1}} {
		o.lead.coordinator.cfg.Shards = tc.configured
		o.told(1, 100)
		o.act()
		if got := strings.Count(log.String(), "MUSTER_SHARDS is not what the cluster has"); got != tc.warnings {
			t.Errorf("with %d shards configured: %d warnings, want %d", tc.configured, got, tc.warnings)
		}
	}
	if p := o.fresh().Plan; p.Shards != 3 {
		t.Errorf("plan is %+v", p)
	}
}

func TestPlanTakesDiscordsAdvice(t *testing.T) {
	store := newStore(t)
	o := &office{t: t, store: store, watch: watch(t, store), now: epoch, a: register(t, store, "a")}
	o.elect(Config{ID: "leader", Store: store, Logger: quiet})
	if again := o.act(); again != 0 || o.fresh().Plan.Generation != 0 {
		t.Fatalf("without an answer the plan is %+v and the leader acts again in %v", o.fresh().Plan, again)
	}
	o.told(1, 100)
	o.lead.answer.Shards = 1000
	o.act()
	if p := o.fresh().Plan; p.Shards != 1000 || p.RangeSize != rangeSize(1000) {
		t.Errorf("plan is %+v", p)
	}
}

// A leader whose term is over decides, but cannot act, and says that it is deposed.
func TestDeposedLeaderChangesNothing(t *testing.T) {
	for name, arrange := range map[string]func(*office){
		"place":    func(o *office) { must(o.t, o.own(0).Release(o.t.Context())) },
		"nothing":  func(*office) {},
		"permit":   func(o *office) { o.request(0, false) },
		"takeover": func(o *office) { o.told(1, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t, 1, 1, 100)
			arrange(o)
			o.lead.term.Resign()
			before := o.fresh()
			if _, err := o.lead.act(t.Context(), before.Clone(), o.now); err != nil && !errors.Is(err, errDeposed) {
				t.Fatal(err)
			}
			after := o.fresh()
			if !maps.Equal(before.Ranges, after.Ranges) || !maps.Equal(before.Slots, after.Slots) ||
				!maps.Equal(before.Requests, after.Requests) || before.Budget != after.Budget || before.Plan != after.Plan {
				t.Errorf("a deposed leader changed\n%+v\nto\n%+v", before, after)
			}
			former := o.lead
			o.elect(Config{ID: "next", Store: o.store, Logger: quiet})
			if _, err := former.act(t.Context(), o.fresh(), o.now); !errors.Is(err, errDeposed) {
				t.Errorf("with another leader in office, got error %v", err)
			}
		})
	}
}

func TestDeposedByARefusedStep(t *testing.T) {
	o := newOffice(t, 1, 1, 100)
	must(t, o.own(0).Release(t.Context()))
	o.lead.term.Resign()
	if _, err := o.lead.act(t.Context(), o.fresh(), o.now); !errors.Is(err, errDeposed) {
		t.Errorf("got error %v", err)
	}
}

// What the leader wrote must have come back to it before it decides again, or it would decide the same again; but a
// follower that is far behind must not stop it.
func TestLeaderWaitsForItsOwnWrites(t *testing.T) {
	o := newOffice(t, 1, 1, 100)
	o.request(0, false)
	behind := o.fresh()
	o.act()
	o.pass(retryAfter / 2)
	again, err := o.lead.act(t.Context(), behind.Clone(), o.now)
	must(t, err)
	if again.Sub(o.now) != retryAfter/2 {
		t.Errorf("behind its own writes, it acts again in %v", again.Sub(o.now))
	}
	o.pass(retryAfter / 2)
	if again, err = o.lead.act(t.Context(), behind, o.now); err != nil || !again.After(o.now) {
		t.Errorf("out of patience, it acts again at %v (now is %v), error %v", again, o.now, err)
	}
}

// After etcd was restored from a backup a state from before may still be what the follower has; its revisions mean something else now.
func TestLeaderTakesNoStateOfAnotherEra(t *testing.T) {
	o := newOffice(t, 1, 1, 100)
	o.request(0, false)
	before := o.fresh()
	before.Era = "another"
	slot := lease.Slot{Revision: before.Revision + 1000, State: lease.SlotSent}
	before.Slots[0] = slot
	for _, wait := range []time.Duration{0, astrayFor - 1} {
		again, err := o.lead.act(t.Context(), before.Clone(), o.now.Add(wait))
		if must(t, err); again.Sub(o.now) != astrayFor {
			t.Errorf("after %v it acts again in %v", wait, again.Sub(o.now))
		}
	}
	o.expectRemaining(100)
	if _, err := o.lead.act(t.Context(), before.Clone(), o.now.Add(astrayFor)); !errors.Is(err, errDeposed) {
		t.Errorf("the state stays astray: %v", err)
	}
	o.act()
	o.expectSlot(0, lease.SlotOpen, 0)
	later := o.now.Add(time.Hour) // another restoration is another wait
	if again, err := o.lead.act(t.Context(), before.Clone(), later); err != nil || again.Sub(later) != astrayFor {
		t.Errorf("astray once more, it acts again in %v, %v", again.Sub(later), err)
	}
}

func TestTroubleIsLoggedOnceWhileItLasts(t *testing.T) {
	var log bytes.Buffer
	o := newOffice(t, 2, 2, 10) // nothing above the reserve
	o.lead.log = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
	expect := func(what string, times int) {
		t.Helper()
		if got := strings.Count(log.String(), what); got != times {
			t.Fatalf("%q was logged %d times, want %d:\n%s", what, got, times, &log)
		}
	}
	o.request(0, false)
	o.act()
	o.act()
	expect("identify budget is down to its reserve", 1)
	o.told(2, 100)
	o.act()
	o.told(2, 5)
	o.request(1, false)
	o.act()
	expect("identify budget is down to its reserve", 2)

	must(t, o.a.Drain(t.Context()))
	o.act()
	expect("ranges have no worker to run them", 0) // they have: the one that drains, until it released them
	must(t, o.own(0).Release(t.Context()))
	o.act()
	expect("ranges have no worker to run them", 0) // another may be about to join
	o.pass(joinPatience)
	o.act()
	expect("ranges have no worker to run them", 1)
	must(t, o.own(1).Release(t.Context()))
	o.act()
	expect("ranges have no worker to run them", 1)
}

// Ranges that find no room, and workers that restart again and again, are said once, while they last.
func TestLeaderTellsWhyRangesWait(t *testing.T) {
	var log bytes.Buffer
	store := newStore(t)
	o := &office{t: t, store: store, watch: watch(t, store), now: epoch}
	var err error
	o.a, err = store.Register(context.Background(), lease.Worker{ID: "a", UUID: "a", Capacity: 1, MaxShards: 2}, 5*time.Minute)
	must(t, err)
	o.elect(Config{ID: "leader", Shards: 3, Store: store, Logger: quiet})
	o.lead.log = hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info})
	o.told(1, 100)
	o.act()
	o.pass(joinSettle)
	o.act()
	o.act()
	if got := owners(o.fresh())["a"]; got != 2 {
		t.Fatalf("a owns %d ranges, want 2", got)
	}
	if got := strings.Count(log.String(), "ranges find no worker with room"); got != 1 {
		t.Errorf("that there is no room was said %d times:\n%s", got, &log)
	}
	for range flapLimit - 1 {
		b := register(t, store, "b")
		o.act()
		must(t, b.Leave(t.Context()))
		o.act()
	}
	register(t, store, "b")
	o.act()
	o.act()
	if got := strings.Count(log.String(), "workers restart again and again"); got != 1 {
		t.Errorf("that a worker restarts was said %d times:\n%s", got, &log)
	}
}

// What was decided counts as done only if etcd took it: a range whose move could not be written does not rest.
func TestLeaderRemembersWhatItDid(t *testing.T) {
	o := newOffice(t, 9, 1, 100)
	o.pass(time.Minute)
	o.act()
	register(t, o.store, "b")
	o.act()
	o.pass(balanceSettle)
	state := o.fresh()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.lead.place(ctx, state.Clone(), o.now); err == nil || len(o.lead.balanced) > 0 || o.lead.balancing {
		t.Fatalf("a decision that could not be written is remembered: %v (error %v)", o.lead.balanced, err)
	}
	if _, err := o.lead.place(t.Context(), state, o.now); err != nil || len(o.lead.balanced) != 2 || !o.lead.balancing {
		t.Fatalf("of two moves %v are remembered (error %v)", o.lead.balanced, err)
	}
}
