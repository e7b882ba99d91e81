package coordinator

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/lease"
)

// discordWindow is what Discord enforces, whatever our own constant says.
const discordWindow = 5 * time.Second

// underWay is how long an IDENTIFY may take to arrive in addition to how long the fastest takes: the promise of identifyJitter.
const underWay = 100 * time.Millisecond

var day = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return day.Add(d) }

func request(shard int, revision int64) lease.IdentifyRequest {
	return lease.IdentifyRequest{Worker: "w", Shard: lease.ShardID{Generation: 1, Shard: shard}, Revision: revision, Incarnation: 1, Fence: 1}
}

func requests(all ...lease.IdentifyRequest) map[lease.RequestID]lease.IdentifyRequest {
	m := map[lease.RequestID]lease.IdentifyRequest{}
	for _, r := range all {
		m[lease.RequestID{Worker: r.Worker, Shard: r.Shard}] = r
	}
	return m
}

func slot(bucket int, revision int64, state lease.SlotState, delta time.Duration) lease.Slot {
	return lease.Slot{
		Bucket: bucket, Revision: revision, State: state, Delta: delta,
		Shard: lease.ShardID{Generation: 1, Shard: bucket}, Worker: lease.Ref{Worker: "w", Incarnation: 1},
	}
}

var plenty = lease.Budget{Total: 1000, Remaining: 1000}

// When a bucket is free again, by what was seen of its last slot.
func TestIdentifyClockSpacing(t *testing.T) {
	for _, tc := range []struct {
		name string
		seen func(*identifyClock)
		free time.Duration // of bucket 0; -1: not while the slot stays as it is
	}{
		{"never used", func(*identifyClock) {}, 0},
		{"claimed, not confirmed", func(c *identifyClock) {
			c.observe(slot(0, 1, lease.SlotClaimed, 0), at(time.Second))
		}, time.Second + identifyValidity + identifyWindow + identifyJitter},
		{"confirmed: counted from the claim as we saw it", func(c *identifyClock) {
			c.observe(slot(0, 1, lease.SlotClaimed, 0), at(time.Second))
			c.observe(slot(0, 2, lease.SlotSent, 30*time.Millisecond), at(1500*time.Millisecond))
		}, time.Second + 30*time.Millisecond + identifyWindow + identifyJitter},
		{"first seen confirmed, as by a new leader", func(c *identifyClock) {
			c.observe(slot(0, 2, lease.SlotSent, 30*time.Millisecond), at(time.Second))
		}, time.Second + 30*time.Millisecond + identifyWindow + identifyJitter},
		{"a delta that cannot be counts as the largest that can", func(c *identifyClock) {
			c.observe(slot(0, 2, lease.SlotSent, time.Hour), at(time.Second))
		}, time.Second + identifyValidity + identifyWindow + identifyJitter},
		{"a negative delta counts as none", func(c *identifyClock) {
			c.observe(slot(0, 2, lease.SlotSent, -time.Hour), at(time.Second))
		}, time.Second + identifyWindow + identifyJitter},
		{"open", func(c *identifyClock) { c.observe(slot(0, 1, lease.SlotOpen, 0), at(0)) }, -1},
		{"void, never claimed", func(c *identifyClock) {
			c.observe(slot(0, 1, lease.SlotOpen, 0), at(0))
			c.observe(slot(0, 2, lease.SlotVoid, 0), at(time.Second))
		}, 0},
		{"void does not hide an earlier claim", func(c *identifyClock) {
			c.observe(slot(0, 1, lease.SlotClaimed, 0), at(0))
			c.observe(slot(0, 2, lease.SlotVoid, 0), at(time.Second))
		}, identifyValidity + identifyWindow + identifyJitter},
		{"the same slot seen again changes nothing", func(c *identifyClock) {
			c.observe(slot(0, 1, lease.SlotClaimed, 0), at(0))
			c.observe(slot(0, 1, lease.SlotClaimed, 0), at(5*time.Second))
		}, identifyValidity + identifyWindow + identifyJitter},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := identifyClock{maxConcurrency: 4}
			tc.seen(&c)
			wanting := requests(request(0, 10))
			if tc.free < 0 {
				if got, again := c.grants(wanting, plenty, at(time.Hour)); len(got) > 0 || !again.IsZero() {
					t.Fatalf("granted %v, again %v", got, again)
				}
				return
			}
			if tc.free > 0 {
				got, again := c.grants(wanting, plenty, at(tc.free-1))
				if len(got) > 0 || !again.Equal(at(tc.free)) {
					t.Fatalf("just before %v: granted %v, again %v", tc.free, got, again.Sub(day))
				}
			}
			if got, _ := c.grants(wanting, plenty, at(tc.free)); len(got) != 1 {
				t.Fatalf("at %v: granted %v", tc.free, got)
			}
		})
	}
}

// Of a bucket's shards the lowest is first, each bucket has its own turn, and what was granted is not granted again.
func TestIdentifyClockOrder(t *testing.T) {
	c := identifyClock{maxConcurrency: 4}
	granted := request(1, 5)
	granted.Granted = true
	got, _ := c.grants(requests(request(8, 1), request(4, 2), request(7, 3), granted), plenty, at(0))
	var shards []int
	for _, g := range got {
		shards = append(shards, g.request.Shard.Shard)
	}
	if !slices.Equal(shards, []int{4, 7}) {
		t.Errorf("granted %v, want 4 and 7", shards)
	}
}

// Of a shard's former and its present owner the present one is served, which asked last.
func TestIdentifyClockTwoOwners(t *testing.T) {
	former, present := request(0, 1), request(0, 2)
	former.Worker = "v"
	c := identifyClock{maxConcurrency: 4}
	if got, _ := c.grants(requests(former, present), plenty, at(0)); len(got) != 1 || got[0].request != present {
		t.Errorf("granted %v, want %v", got, present)
	}
}

// The last tenth of the budget is for shards that had a session; nothing is granted without budget.
func TestIdentifyClockBudget(t *testing.T) {
	repair := request(1, 2)
	repair.Repair = true
	for _, tc := range []struct {
		remaining int
		want      []int
	}{
		{1000, []int{0, 1}}, {102, []int{0, 1}}, {101, []int{0, 1}}, {100, []int{1}}, {1, []int{1}}, {0, nil},
	} {
		c := identifyClock{maxConcurrency: 4}
		got, _ := c.grants(requests(request(0, 1), repair), lease.Budget{Total: 1000, Remaining: tc.remaining}, at(0))
		var shards []int
		for _, g := range got {
			shards = append(shards, g.request.Shard.Shard)
		}
		if !slices.Equal(shards, tc.want) {
			t.Errorf("with %d of 1000 left: granted %v, want %v", tc.remaining, shards, tc.want)
		}
	}
}

// What was opened under another max_concurrency holds up every bucket until it is surely over, whoever leads by then.
func TestIdentifyClockRemapped(t *testing.T) {
	const free = identifyValidity + identifyWindow + identifyJitter
	for name, elect := range map[string]func(identifyClock) identifyClock{
		"same leader": func(c identifyClock) identifyClock { c.maxConcurrency = 2; return c },
		"new leader": func(identifyClock) identifyClock {
			c := identifyClock{maxConcurrency: 2}
			c.observe(slot(3, 1, lease.SlotOpen, 0), at(0))
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := identifyClock{maxConcurrency: 4}
			c.observe(slot(3, 1, lease.SlotOpen, 0), at(0))
			c = elect(c) // shard 3 is in bucket 1 now
			wanting := requests(request(0, 9))
			if got, again := c.grants(wanting, plenty, at(time.Hour)); len(got) > 0 || !again.IsZero() {
				t.Errorf("while it is open: granted %v, again %v", got, again)
			}
			if got, _ := c.stale(nil, at(0)); len(got) != 1 {
				t.Errorf("nobody takes it back")
			}
			c.observe(slot(3, 2, lease.SlotClaimed, 0), at(time.Hour))
			if got, again := c.grants(wanting, plenty, at(time.Hour+free-1)); len(got) > 0 || !again.Equal(at(time.Hour+free)) {
				t.Errorf("once claimed: granted %v, again %v", got, again)
			}
			if got, _ := c.grants(wanting, plenty, at(time.Hour+free)); len(got) != 1 {
				t.Errorf("granted %v once it was over", got)
			}
		})
	}
}

// A leader that was told late can find one slot confirmed of which it saw nothing before, and another claimed of which it
// never sees the confirmation. It must not take the two for one.
func TestIdentifyClockMissesAWholeSlot(t *testing.T) {
	c := identifyClock{maxConcurrency: 1}
	c.observe(slot(0, 1, lease.SlotClaimed, 0), at(0))
	c.observe(slot(0, 4, lease.SlotSent, 0), at(time.Minute)) // 2 and 3, its opening and its claim, came with it
	if got, again := c.grants(requests(request(0, 9)), plenty, at(time.Minute)); len(got) > 0 || !again.Equal(at(time.Minute+identifyWindow+identifyJitter)) {
		t.Errorf("granted %v, again %v", got, again.Sub(day))
	}
}

func TestIdentifyClockWithoutConcurrency(t *testing.T) {
	var c identifyClock
	c.observe(slot(0, 1, lease.SlotClaimed, 0), at(0))
	if got, again := c.grants(requests(request(0, 9)), plenty, at(time.Hour)); len(got) > 0 || !again.IsZero() {
		t.Errorf("granted %v, again %v", got, again)
	}
}

// What Discord may not have counted yet: what is open, and what may have been sent within the last window.
func TestIdentifyClockOutstanding(t *testing.T) {
	c := identifyClock{maxConcurrency: 4}
	c.observe(slot(0, 1, lease.SlotOpen, 0), at(0))
	c.observe(slot(1, 2, lease.SlotClaimed, 0), at(0))
	c.observe(slot(2, 3, lease.SlotSent, time.Second), at(0))
	c.observe(slot(3, 4, lease.SlotVoid, 0), at(0))
	sentOver := time.Second + identifyWindow + identifyJitter
	for after, want := range map[time.Duration]int{0: 3, sentOver - 1: 3, sentOver: 2, sentOver + time.Second: 1, time.Hour: 1} {
		if got := c.outstanding(at(after)); got != want {
			t.Errorf("after %v: %d outstanding, want %d", after, got, want)
		}
	}
}

// An open slot is taken back when its request is gone, was made anew, or took too long; and not before.
func TestIdentifyClockStale(t *testing.T) {
	c := identifyClock{maxConcurrency: 4}
	c.observe(slot(0, 7, lease.SlotOpen, 0), at(0))
	held := request(0, 7)
	if got, again := c.stale(requests(held), at(voidAfter-1)); len(got) > 0 || !again.Equal(at(voidAfter)) {
		t.Errorf("stale %v, again %v", got, again.Sub(day))
	}
	for name, tc := range map[string]struct {
		requests map[lease.RequestID]lease.IdentifyRequest
		now      time.Duration
	}{
		"gone": {nil, 0}, "anew": {requests(request(0, 8)), 0}, "too long": {requests(held), voidAfter},
	} {
		if got, _ := c.stale(tc.requests, at(tc.now)); len(got) != 1 {
			t.Errorf("%s: stale %v", name, got)
		}
	}
	c.observe(slot(0, 8, lease.SlotClaimed, 0), at(0))
	if got, _ := c.stale(nil, at(time.Hour)); len(got) > 0 {
		t.Errorf("a claimed slot is taken back: %v", got)
	}
}

// fleet is a model of workers, etcd and leaders on virtual time, around the real clock. Each IDENTIFY it sends is stamped
// with the moment it arrived.
type fleet struct {
	t      *rapid.T
	now    time.Duration
	events []event // by time
	clock  identifyClock
	leader int

	revision int64
	slots    map[int]lease.Slot
	waiting  map[lease.RequestID]lease.IdentifyRequest
	opened   map[int]opening // by bucket
	sent     []identify
	budget   lease.Budget
	unseen   int // slots that the leader opened without knowing, so that it knows no more how the budget is
	discord  int // what Discord has left
}

// opening is when, in revisions, and under which max_concurrency a slot was opened.
type opening struct {
	revision       int64
	maxConcurrency int
}

// identify is an IDENTIFY as Discord got it.
type identify struct {
	at     time.Duration
	shard  int
	opened opening
}

type event struct {
	at time.Duration
	do func()
}

func newFleet(t *rapid.T, shards, concurrency, budget int) *fleet {
	f := &fleet{
		t: t, clock: identifyClock{maxConcurrency: concurrency}, slots: map[int]lease.Slot{},
		waiting: map[lease.RequestID]lease.IdentifyRequest{}, opened: map[int]opening{},
		budget: lease.Budget{Total: budget, Remaining: budget}, discord: budget,
	}
	for shard := range shards {
		f.ask(shard)
	}
	return f
}

func (f *fleet) after(d time.Duration, do func()) {
	e := event{f.now + d, do}
	i, _ := slices.BinarySearchFunc(f.events, e, func(a, b event) int {
		if a.at <= b.at { // equal ones in the order they were made
			return -1
		}
		return 1
	})
	f.events = slices.Insert(f.events, i, e)
}

func (f *fleet) ask(shard int) {
	f.revision++
	r := request(shard, f.revision)
	f.waiting[lease.RequestID{Worker: r.Worker, Shard: r.Shard}] = r
	f.after(time.Millisecond, f.lead)
}

func (f *fleet) upTo(limit time.Duration) time.Duration {
	return time.Duration(rapid.Int64Range(0, int64(limit)).Draw(f.t, "delay"))
}

// write changes a slot in etcd; the leader of that time sees it a little later, or much later, and it may see only what
// came after it.
func (f *fleet) write(s lease.Slot) lease.Slot {
	f.revision++
	s.Revision = f.revision
	f.slots[s.Bucket] = s
	leader, delay, missed := f.leader, f.upTo(20*time.Millisecond), f.upTo(3) == 0
	if f.upTo(50) == 0 {
		delay = f.upTo(30 * time.Second)
	}
	f.after(delay, func() {
		if leader == f.leader {
			if missed {
				s = f.slots[s.Bucket]
			}
			f.clock.observe(s, at(f.now))
			f.lead()
		}
	})
	return s
}

// lead is what a leader does whenever something changed or is due.
func (f *fleet) lead() {
	unused, again := f.clock.stale(f.waiting, at(f.now))
	for _, s := range unused {
		if f.slots[s.Bucket].Revision == s.Revision {
			s.State = lease.SlotVoid
			f.budget.Remaining++
			f.clock.observe(f.write(s), at(f.now))
		}
	}
	granted, next := f.clock.grants(f.waiting, f.budget, at(f.now))
	for _, g := range granted {
		if f.slots[g.slot.Bucket].Revision == g.slot.Revision {
			f.open(g)
		}
	}
	if again = earliest(again, next); !again.IsZero() {
		leader := f.leader
		f.after(again.Sub(at(f.now)), func() {
			if leader == f.leader {
				f.lead()
			}
		})
	}
}

func (f *fleet) open(g grant) {
	f.budget.Remaining--
	s := lease.Slot{Bucket: g.slot.Bucket, State: lease.SlotOpen, Shard: g.request.Shard, Worker: lease.Ref{Worker: "w", Incarnation: 1}}
	s = f.write(s)
	f.opened[s.Bucket] = opening{s.Revision, f.clock.maxConcurrency}
	if f.upTo(50) > 0 {
		f.clock.observe(s, at(f.now))
	} else { // etcd's answer is lost: the leader does not know
		f.unseen++
		leader := f.leader
		f.after(time.Minute, func() {
			if leader == f.leader {
				f.unseen--
			}
		})
	}
	g.request.Granted, g.request.Revision, g.request.Bucket = true, s.Revision, s.Bucket
	f.waiting[lease.RequestID{Worker: "w", Shard: g.request.Shard}] = g.request
	if f.upTo(100) == 0 { // this worker forgets its grant, and asks again later
		f.after(15*time.Second, func() { f.ask(g.request.Shard.Shard) })
		return
	}
	f.after(f.upTo(10*time.Millisecond), func() { f.claim(s) })
}

// claim is a worker that was granted a slot. Now and then it is paused for seconds between the claim and the write.
func (f *fleet) claim(s lease.Slot) {
	if f.slots[s.Bucket].Revision != s.Revision {
		f.ask(s.Shard.Shard)
		return
	}
	start := f.now - f.upTo(min(f.now, 5*time.Millisecond)) // noted before the transaction
	delete(f.waiting, lease.RequestID{Worker: "w", Shard: s.Shard})
	s.State = lease.SlotClaimed
	s = f.write(s)
	pause := f.upTo(10 * time.Millisecond)
	if f.upTo(50) == 0 {
		pause = f.upTo(2 * lease.SlotValidity)
	}
	f.after(pause, func() { f.send(s, start) })
}

func (f *fleet) send(s lease.Slot, start time.Duration) {
	if f.now > start+lease.SlotValidity {
		f.ask(s.Shard.Shard) // too late: not sent
		return
	}
	arrives := f.upTo(underWay)
	f.after(arrives, func() { f.discord-- })
	f.sent = append(f.sent, identify{f.now + arrives, s.Shard.Shard, f.opened[s.Bucket]})
	if f.upTo(20) == 0 || f.slots[s.Bucket].Revision != s.Revision {
		return // not reported
	}
	s.State, s.Delta = lease.SlotSent, f.now-start
	f.write(s)
}

// elect replaces the leader: the new one knows nothing but what etcd has.
func (f *fleet) elect() {
	f.leader++
	f.unseen = 0
	f.clock = identifyClock{maxConcurrency: f.clock.maxConcurrency}
	for _, s := range f.slots {
		f.clock.observe(s, at(f.now))
	}
	f.lead()
}

// remap is Discord giving the bot another max_concurrency.
func (f *fleet) remap(n int) {
	f.clock.maxConcurrency = n
	f.lead()
}

// poll asks Discord what is left of the budget, which answers a while later.
func (f *fleet) poll() {
	asked := f.now
	f.after(f.upTo(askTimeout/2), func() {
		answer := f.discord
		f.after(f.upTo(askTimeout), func() {
			if left, ok := f.clock.remaining(answer, at(asked), at(f.now)); ok && f.unseen == 0 {
				f.budget.Remaining = left
				f.lead()
			}
		})
	})
}

func (f *fleet) run() {
	f.lead()
	for len(f.events) > 0 {
		next := f.events[0]
		f.events = f.events[1:]
		f.now = next.at
		next.do()
	}
}

// Whatever leaders and workers do, no bucket identifies twice within Discord's window, the budget is kept, and if that is
// ample all shards identify.
func TestIdentifiesAreSpaced(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shards := rapid.IntRange(1, 40).Draw(t, "shards")
		ample := rapid.Bool().Draw(t, "ample budget")
		budget := 20 * shards
		if !ample {
			budget = rapid.IntRange(0, shards).Draw(t, "budget")
		}
		f := newFleet(t, shards, rapid.IntRange(1, 8).Draw(t, "concurrency"), budget)
		for range rapid.IntRange(0, 6).Draw(t, "elections") {
			f.after(f.upTo(time.Minute), f.elect)
		}
		for range rapid.IntRange(0, 3).Draw(t, "remaps") {
			n := rapid.IntRange(1, 8).Draw(t, "concurrency")
			f.after(f.upTo(time.Minute), func() { f.remap(n) })
		}
		for range rapid.IntRange(0, 20).Draw(t, "polls") {
			f.after(f.upTo(time.Minute), f.poll)
		}
		f.run()
		f.checkSpacing()
		if ample && len(f.sent) < shards {
			t.Fatalf("%d of %d shards identified", len(f.sent), shards)
		}
		if f.discord < 0 {
			t.Fatalf("%d identifies more than Discord allows", -f.discord)
		}
	})
}

// checkSpacing looks for two that came too close in the bucket they share by the max_concurrency that the later of the two
// slots was opened under. (Two that were open already when it changed nobody can hold back.)
func (f *fleet) checkSpacing() {
	for i, a := range f.sent {
		for _, b := range f.sent[:i] {
			n := a.opened.maxConcurrency
			if b.opened.revision > a.opened.revision {
				n = b.opened.maxConcurrency
			}
			if gap := (a.at - b.at).Abs(); gap < discordWindow && a.shard%n == b.shard%n {
				f.t.Fatalf("shards %d and %d of bucket %d identified within %v: %+v, %+v", b.shard, a.shard, a.shard%n, gap, b, a)
			}
		}
	}
}

// A cold start of 1,000 shards takes at most 5 % longer than Discord's own limit makes it.
func TestColdStartIsFast(t *testing.T) {
	const shards, concurrency = 1000, 16
	now, clock := time.Duration(0), identifyClock{maxConcurrency: concurrency}
	waiting := requests()
	for shard := range shards {
		r := request(shard, int64(shard+1))
		waiting[lease.RequestID{Worker: "w", Shard: r.Shard}] = r
	}
	const latency = 5 * time.Millisecond // of each step: grant to claim, claim seen, claim to write
	budget, revision := lease.Budget{Total: 2000, Remaining: 2000}, int64(shards)
	for len(waiting) > 0 {
		granted, again := clock.grants(waiting, budget, at(now))
		for _, g := range granted {
			delete(waiting, lease.RequestID{Worker: "w", Shard: g.request.Shard})
			revision += 2
			s := lease.Slot{Bucket: g.slot.Bucket, Shard: g.request.Shard, State: lease.SlotClaimed, Revision: revision}
			clock.observe(s, at(now+2*latency))
			s.State, s.Delta, s.Revision = lease.SlotSent, 2*latency, revision+1
			clock.observe(s, at(now+4*latency))
		}
		if len(waiting) > 0 {
			now = again.Sub(day)
			if again.IsZero() {
				_, again = clock.grants(waiting, budget, at(now))
				now = again.Sub(day)
			}
		}
	}
	const ideal = (shards + concurrency - 1) / concurrency * discordWindow
	if took := now + 3*latency; took > ideal*105/100 {
		t.Errorf("a cold start takes %v, the ideal is %v", took, ideal)
	} else {
		t.Logf("a cold start takes %v, the ideal is %v", took, time.Duration(ideal))
	}
}

// A hundred thousand shards that all want to identify, as after the first start.
func BenchmarkGrants(b *testing.B) {
	requests := make(map[lease.RequestID]lease.IdentifyRequest)
	for shard := range 100_000 {
		r := lease.IdentifyRequest{Worker: "a", Shard: lease.ShardID{Generation: 1, Shard: shard}, Revision: int64(shard)}
		requests[lease.RequestID{Worker: r.Worker, Shard: r.Shard}] = r
	}
	c := identifyClock{maxConcurrency: 64}
	for b.Loop() {
		c.grants(requests, lease.Budget{Total: 1 << 30, Remaining: 1 << 30}, epoch)
	}
}
