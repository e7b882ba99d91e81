package lease

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// world is a cluster in which worker a owns range 1/0 and everything that could be written next would be accepted, and
// what its writers believe. A test of a fence makes one of those beliefs false.
type world struct {
	t    *testing.T
	s    *Store
	term *Term
	a, b *Registration

	plan    Plan
	budget  Budget
	rng     Range
	order   Assignment // a's
	notice  Notice     // b's, of a move to it
	own     Ownership
	request IdentifyRequest
	slot    Slot
	session Session
	former  Session // once flipped: the shard's record in the former generation
	claim   Claim
	reshard *Reshard
	orders  Directives
}

var (
	theRange = RangeID{1, 0}
	theShard = ShardID{1, 3}
)

func newWorld(t *testing.T) *world {
	s := newStore(t)
	w := &world{t: t, s: s, term: lead(t, s), a: register(t, s, "a"), b: register(t, s, "b")}
	_, err := w.term.SetPlan(t.Context(), Plan{Generation: 1, Shards: 16, RangeSize: 4})
	must(t, err)
	_, err = w.term.SetBudget(t.Context(), Budget{Total: 1000, Remaining: 1000, MaxConcurrency: 2})
	must(t, err)
	must(t, take(t, w.term, Action{Kind: Assign, Range: Range{ID: theRange}, To: w.a.Ref()}))
	w.look()
	return w
}

// look makes everybody believe what is true.
func (w *world) look() {
	c, o := state(w.t, w.s), orders(w.t, w.a)
	w.plan, w.budget, w.rng, w.slot, w.orders = c.Plan, c.Budget, c.Ranges[theRange], c.Slots[1], c.Directives
	w.slot.Bucket = 1
	w.order, w.notice = o.Assignments[theRange], orders(w.t, w.b).Notices[theRange]
	w.own = w.a.Own(w.order)
	w.request = o.Requests[RequestID{"a", theShard}]
	var err error
	w.session, err = w.own.LoadSession(w.t.Context(), theShard.Shard)
	must(w.t, err)
}

// The stages below follow on each other.

func (w *world) intended() {
	must(w.t, take(w.t, w.term, Action{Kind: Intend, Range: w.rng, To: w.b.Ref()}))
	w.look()
}

func (w *world) requested() {
	_, err := w.own.RequestIdentify(w.t.Context(), theShard.Shard, true)
	must(w.t, err)
	w.look()
}

func (w *world) granted() {
	w.requested()
	_, err := w.term.OpenSlots(w.t.Context(), w.budget, Grant{w.request, theRange, w.slot})
	must(w.t, err)
	w.look()
}

func (w *world) claimed() {
	w.granted()
	var err error
	w.claim, err = w.own.ClaimSlot(w.t.Context(), w.request, w.session, 0, 16)
	must(w.t, err)
	w.look()
}

// prepared has generation 2 prepared, of which a owns range 2/0.
func (w *world) prepared() {
	var err error
	w.plan, err = w.term.Prepare(w.t.Context(), w.plan, Cut{2, 8, 4}, nil)
	must(w.t, err)
	must(w.t, take(w.t, w.term, Action{Kind: Assign, Range: Range{ID: RangeID{2, 0}}, To: w.a.Ref()}))
}

func (w *world) directed(r Reshard) {
	must(w.t, w.s.Direct(w.t.Context(), r))
	w.reshard = state(w.t, w.s).Directives.Reshard
}

// flipped has generation 2 in force, with a muted session of the shard; its former range is retired.
func (w *world) flipped() {
	w.claimed()
	must(w.t, w.claim.SaveSession(w.t.Context(), "old", "wss://old"))
	w.prepared()
	former := w.own
	w.write(w.s.keys.session(ShardID{2, theShard.Shard}), `{"epoch":1,"session_id":"new","resume_url":"wss://new","muted":true}`)
	var err error
	w.plan, err = w.term.Flip(w.t.Context(), w.plan, nil)
	must(w.t, err)
	must(w.t, former.Retire(w.t.Context()))
	w.own = w.a.Own(orders(w.t, w.a).Assignments[RangeID{2, 0}])
	w.session, err = w.own.LoadSession(w.t.Context(), theShard.Shard)
	must(w.t, err)
	w.former, err = w.own.LoadFormer(w.t.Context(), w.plan, theShard.Shard)
	must(w.t, err)
}

func (w *world) identified() {
	w.claimed()
	must(w.t, w.claim.SaveSession(w.t.Context(), "id", "wss://resume"))
	w.look()
}

// directedAll has every directive stand.
func (w *world) directedAll() {
	for _, d := range []Directive{Down{}, Reshard{Shards: 32}, Rebalance{}} {
		must(w.t, w.s.Direct(w.t.Context(), d))
	}
	must(w.t, w.s.DirectDrain(w.t.Context(), w.a.Ref(), time.Time{}))
	w.look()
}

// touch gives a key another modification revision, and nothing else.
func (w *world) touch(key string) {
	_, err := w.s.client.Put(context.Background(), key, "", clientv3.WithIgnoreValue(), clientv3.WithIgnoreLease())
	must(w.t, err)
}

// recreate gives a key another create revision, and so another incarnation or term.
func (w *world) recreate(key string) {
	resp, err := w.s.client.Get(context.Background(), key)
	must(w.t, err)
	_, err = w.s.client.Delete(context.Background(), key)
	must(w.t, err)
	w.write(key, string(resp.Kvs[0].Value))
}

func (w *world) forget(key string) {
	_, err := w.s.client.Delete(context.Background(), key)
	must(w.t, err)
}

func (w *world) write(key, value string) {
	_, err := w.s.client.Put(context.Background(), key, value)
	must(w.t, err)
}
