package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestSlotFromRequestToSession(t *testing.T) {
	w := newWorld(t)
	w.requested()
	if w.request.Granted || !w.request.Repair || w.request.Fence != w.rng.Fence || w.request.Incarnation != w.a.Ref().Incarnation {
		t.Errorf("the request is %+v", w.request)
	}
	asked := w.request
	revision, err := w.term.OpenSlots(t.Context(), w.budget, Grant{w.request, theRange, w.slot})
	must(t, err)
	w.look()
	want := asked
	want.Granted, want.Bucket, want.Revision = true, 1, revision
	if w.request != want {
		t.Errorf("the grant is %+v, want %+v", w.request, want)
	}
	if w.slot.Revision != revision || w.slot.State != SlotOpen || w.slot.Shard != theShard || w.slot.Worker != w.a.Ref() {
		t.Errorf("the slot is %+v", w.slot)
	}
	if w.budget.Remaining != 999 || w.budget.Total != 1000 {
		t.Errorf("the budget is %+v", w.budget)
	}

	claim, err := w.own.ClaimSlot(t.Context(), w.request, w.session, 6, 16)
	must(t, err)
	if claim.Epoch != 7 || !claim.Deadline.Equal(claim.start.Add(SlotValidity)) {
		t.Errorf("the claim is epoch %d before %v after %v", claim.Epoch, claim.Deadline, claim.start)
	}
	w.look()
	if w.slot.State != SlotClaimed || w.request.Revision != 0 || w.budget.Remaining != 999 {
		t.Errorf("after the claim: slot %+v, request %+v, budget %+v", w.slot, w.request, w.budget)
	}
	must(t, claim.Sent(t.Context(), claim.start.Add(300*time.Millisecond)))
	must(t, claim.SaveSession(t.Context(), "id", "wss://resume"))
	w.look()
	if w.slot.State != SlotSent || w.slot.Delta != 300*time.Millisecond {
		t.Errorf("after it was sent the slot is %+v", w.slot)
	}
	if s := w.session; s.Epoch != 7 || s.ID != "id" || s.ResumeURL != "wss://resume" || s.Shards != 16 {
		t.Errorf("epoch %d, id %q, url %q, shards %d", s.Epoch, s.ID, s.ResumeURL, s.Shards)
	}
}

// A machine that was suspended while a slot was claimed, or sent, knows how late it is: Go's clock stood still.
func TestSlotOfASuspendedMachine(t *testing.T) {
	w := newWorld(t)
	w.granted()
	began, slept := time.Now(), time.Duration(0)
	w.a.clock = func() time.Duration { // each time it is read the machine has been suspended for a second more
		defer func() { slept += time.Second }()
		return time.Since(began) + slept
	}
	claim, err := w.own.ClaimSlot(t.Context(), w.request, w.session, 0, 16)
	must(t, err)
	if left := claim.Deadline.Sub(claim.start); left > SlotValidity-900*time.Millisecond {
		t.Errorf("it may be sent for %v", left)
	}
	must(t, claim.Sent(t.Context(), claim.start.Add(300*time.Millisecond)))
	w.look()
	if w.slot.Delta < 2*time.Second { // 0.3 s, and two in which it slept, less what passed since
		t.Errorf("it was sent %v after the claim", w.slot.Delta)
	}
}

// slotClients open, void and claim one bucket's slot at random, on what they just read.
type slotClients struct {
	w            *world
	running      sync.WaitGroup
	voided, sent atomic.Int64 // slots, as far as it was told
}

// proved reports whether what is decided by chance has come about.
func (c *slotClients) proved() bool { return c.voided.Load() >= enough && c.sent.Load() >= enough }

// start makes so many calls, and more until all is proved that is to be.
func (c *slotClients) start(calls int, call func(ctx context.Context, rng *rand.Rand) error) {
	seed := rand.Uint64()
	c.w.t.Logf("seed %d", seed)
	c.running.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 0))
		for n, began := 0, time.Now(); n < calls || !c.proved() && time.Since(began) < time.Minute; n++ {
			patience, hasty := time.Minute, rng.IntN(8) == 0
			if hasty { // too short for some: their outcome is unknown
				patience = time.Duration(rng.IntN(5000)) * time.Microsecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := call(ctx, rng)
			if err != nil && !errors.Is(err, ErrFenced) && !hasty {
				c.w.t.Error(err)
			}
			cancel()
		}
	})
}

func (c *slotClients) lead(ctx context.Context, rng *rand.Rand) error {
	cluster, err := readCluster(ctx, c.w.s)
	if err != nil {
		return err
	}
	slot := cluster.Slots[1]
	slot.Bucket = 1
	if slot.State == SlotOpen && rng.IntN(4) == 0 {
		if _, err = c.w.term.VoidSlot(ctx, slot, cluster.Budget); err == nil {
			c.voided.Add(1)
		}
		return err
	}
	for _, request := range cluster.Requests {
		if !request.Granted && slot.State != SlotOpen {
			_, err = c.w.term.OpenSlots(ctx, cluster.Budget, Grant{request, theRange, slot})
			return err
		}
	}
	return nil
}

func (c *slotClients) claim(ctx context.Context, rng *rand.Rand) error {
	cluster, err := readCluster(ctx, c.w.s)
	if err != nil {
		return err
	}
	shard := ShardID{1, 1 + 2*rng.IntN(2)}
	request := cluster.Requests[RequestID{"a", shard}]
	if !request.Granted {
		_, err = c.w.own.RequestIdentify(ctx, shard.Shard, false)
		return err
	}
	session, err := c.w.own.LoadSession(ctx, shard.Shard)
	if err != nil {
		return err
	}
	claim, err := c.w.own.ClaimSlot(ctx, request, session, 0, 16)
	if errors.Is(err, ErrFenced) { // it was voided: ask again
		_, err = c.w.own.RequestIdentify(ctx, shard.Shard, false)
	}
	if err != nil || claim.Epoch == 0 {
		return err
	}
	if err = claim.Sent(ctx, time.Now()); err == nil {
		c.sent.Add(1)
	}
	return err
}

// Every slot that was opened costs the budget one IDENTIFY, and gives it back only if it ends void, never once claimed.
func TestBudgetIsChargedOnceForEverySlot(t *testing.T) {
	w := newWorld(t)
	start := state(t, w.s).Revision
	c := &slotClients{w: w}
	for range 2 {
		c.start(150, c.lead)
	}
	for range 3 {
		c.start(150, c.claim)
	}
	c.running.Wait()

	before := Cluster{}
	before.Apply(Update{Reset: true})
	before.Budget = w.budget
	seen := map[SlotState]int{}
	for _, u := range w.historySince(start) {
		now := *before.Clone()
		if errs := now.Apply(u); errs != nil {
			t.Fatal(errs)
		}
		from, to := before.Slots[1], now.Slots[1]
		charged := before.Budget.Remaining - now.Budget.Remaining
		if from.Revision == to.Revision {
			if charged != 0 {
				t.Errorf("revision %d charged %d for nothing", u.Revision, charged)
			}
		} else {
			seen[to.State]++
			want, allowed := map[SlotState]int{SlotOpen: 1, SlotVoid: -1}[to.State], from.State == SlotOpen
			switch to.State {
			case SlotOpen:
				allowed = !allowed
			case SlotSent:
				allowed = from.State == SlotClaimed
			}
			if charged != want || !allowed {
				t.Errorf("revision %d: slot from %s to %s charged %d", u.Revision, from.State, to.State, charged)
			}
		}
		before = now
	}
	for _, s := range []SlotState{SlotOpen, SlotVoid, SlotClaimed, SlotSent} {
		if seen[s] == 0 {
			t.Errorf("no slot was ever %s: %v", s, seen)
		}
	}
}

// historySince reads back from etcd what changed after a revision.
func (w *world) historySince(revision int64) (updates []Update) {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	last := w.s.testPut(w.t, "ldr/end", "")
	for resp := range w.s.client.Watch(ctx, w.s.keys.prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1)) {
		must(w.t, resp.Err())
		updates = append(updates, w.s.updatesOf(resp)...)
		if n := len(updates); n > 0 && updates[n-1].Revision == last {
			break
		}
	}
	return updates
}

// As many slots as etcd allows in one transaction are opened at once; if one of them was overtaken, none is, and nothing is charged.
func TestSlotsAreOpenedTogetherOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	for shard := range MaxGrants {
		_, err := w.own.RequestIdentify(t.Context(), shard, false)
		must(t, err)
	}
	w.look()
	var grants []Grant
	for _, request := range state(t, w.s).Requests {
		grants = append(grants, Grant{request, theRange, Slot{Bucket: request.Shard.Shard}})
	}
	overtaken := slices.Clone(grants)
	overtaken[MaxGrants/2].Request.Revision--
	expectUnchanged(t, w.s, func() error {
		_, err := w.term.OpenSlots(t.Context(), w.budget, overtaken...)
		return err
	})
	revision, err := w.term.OpenSlots(t.Context(), w.budget, grants...)
	must(t, err)
	c := state(t, w.s)
	if c.Budget.Remaining != w.budget.Remaining-MaxGrants || c.Budget.Revision != revision {
		t.Errorf("the budget is %+v, at revision %d", c.Budget, revision)
	}
	for bucket := range MaxGrants {
		request := c.Requests[RequestID{"a", ShardID{1, bucket}}]
		if slot := c.Slots[bucket]; slot.State != SlotOpen || slot.Revision != revision || request.Revision != revision || !request.Granted || request.Bucket != bucket {
			t.Errorf("slot %+v, request %+v", slot, request)
		}
	}
}
