package model

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/muster-gateway/muster/internal/etcdmem"
	"github.com/muster-gateway/muster/pkg/lease"
)

const (
	// forceAfter is how long a living owner must be left to hand a range over (coordinator/plan.go).
	forceAfter = 10 * time.Second
	// identifyWindow is Discord's: one IDENTIFY of a bucket in so long.
	identifyWindow = 5 * time.Second
	// cooldown is for how long a range must not go back to where balance took it from, while no worker came or went.
	cooldown = 5 * time.Minute
	// knowing is how long a leader may take to know what happened, and to have done what it decided before.
	knowing = 2 * time.Second
)

// witness sees every revision of etcd as it is made, and everything that is said to Discord, and notes what must not be. It judges
// by what etcd had just before: who wrote, whether it was that process's to write, and what became of the state.
type witness struct {
	mu     sync.Mutex
	began  time.Time
	state  lease.Cluster
	broken []string
	counts map[string]int // what happened, so that a run is known to have met it

	candidates map[string]candidate // by key of the election
	refs       map[string]lease.Ref // by process: its last registration
	plans      map[int]lease.Plan   // by generation
	planned    time.Time            // when it last changed
	sessions   map[lease.ShardID]lease.Session
	begun      map[lease.ShardID]time.Time // when a shard identified first
	claims     map[int]*claim              // by bucket
	identified map[int]time.Time           // by bucket
	intended   map[lease.RangeID]time.Time
	balanced   map[lease.RangeID]balanced
	changed    time.Time // when the workers that could be given ranges last did
	misled     time.Time // until when a leader may act on old knowledge

	moved   time.Time           // when the cluster last went down, or up
	ending  time.Time           // when sessions were ended by order first; zero: never
	drains  map[int64]time.Time // when an order to drain was given, by its revision
	cancels bool                // an operator took an order to drain back
	strict  bool                // workers close their sockets before their registrations expire
	links   map[string]*link    // to Discord, by process

	inForce    map[int]bool  // generations that were
	sessionsOf map[began]int // the generations of sessions
}

// began names a session by who identified when.
type began struct {
	shard, total int
	at           time.Time
}

type candidate struct {
	process  string
	revision int64
}

// claim is a permit to IDENTIFY that was claimed, and whether it was used.
type claim struct {
	process string
	shard   lease.ShardID
	at      time.Time
	used    bool
}

// balanced is the last move of a range that nothing but load was the reason of.
type balanced struct {
	from, to string
	at       time.Time
	changed  time.Time // as the witness's
}

func newWitness() *witness {
	return &witness{
		began: time.Now(), counts: map[string]int{}, candidates: map[string]candidate{}, refs: map[string]lease.Ref{}, plans: map[int]lease.Plan{},
		sessions: map[lease.ShardID]lease.Session{}, begun: map[lease.ShardID]time.Time{}, drains: map[int64]time.Time{}, links: map[string]*link{}, inForce: map[int]bool{}, sessionsOf: map[began]int{}, claims: map[int]*claim{}, identified: map[int]time.Time{},
		intended: map[lease.RangeID]time.Time{}, balanced: map[lease.RangeID]balanced{},
	}
}

// accuse notes what must not be. mu is held.
func (w *witness) accuse(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf("after %v: ", time.Since(w.began))+fmt.Sprintf(format, args...))
}

// observe is told of every commit, in order.
func (w *witness) observe(c etcdmem.Commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	update := lease.Update{Revision: c.Revision}
	for _, e := range c.Events {
		key, ours := strings.CutPrefix(string(e.Kv.Key), "/muster/"+cluster+"/")
		if !ours {
			w.accuse("%s writes %s", c.By, e.Kv.Key)
			continue
		}
		w.judge(c, e, key)
		if e.Type == mvccpb.Event_DELETE {
			update.Deletes = append(update.Deletes, key)
			continue
		}
		update.Puts = append(update.Puts, lease.Record{
			Key: key, Value: e.Kv.Value, Created: e.Kv.CreateRevision, Modified: e.Kv.ModRevision,
		})
	}
	before := w.state.Clone()
	for _, err := range w.state.Apply(update) {
		w.accuse("%s writes what nobody can read: %v", c.By, err)
	}
	w.compare(c, before)
}

// judge looks at one key's change, by the state before it.
func (w *witness) judge(c etcdmem.Commit, e *mvccpb.Event, key string) {
	dir, name, _ := strings.Cut(key, "/")
	gone := e.Type == mvccpb.Event_DELETE
	if c.By == "" && (!gone || strings.Contains(" own mov asg sess slot plan budget leader alarm ", " "+dir+" ")) {
		w.accuse("%s ends with a lease", key)
	}
	switch dir {
	case "ldr":
		if gone {
			delete(w.candidates, key)
		} else if _, known := w.candidates[key]; !known {
			w.candidates[key] = candidate{c.By, e.Kv.CreateRevision}
		}
	case "leader", "plan", "budget", "alarm":
		w.mustLead(c.By, key)
	case "mov":
		if !gone && !w.saysReady(c, e, name) {
			w.mustLead(c.By, key)
		}
	case "wrk":
		switch {
		case !gone && e.Kv.CreateRevision == c.Revision:
			w.refs[c.By] = lease.Ref{Worker: name, Incarnation: c.Revision}
		case !gone:
			w.mustLive(c.By, key)
		case c.By == "" && w.strict:
			w.judgeExpiry(w.state.Workers[name].Ref())
		}
	case "directive":
		if strings.HasPrefix(name, "drain/") && !gone {
			w.drains[e.Kv.ModRevision] = time.Now()
			w.counts["ordered drain"]++
		} else if !gone {
			w.counts["ordered "+name]++
		}
	case "status", "refused":
		if !gone {
			w.mustLive(c.By, key)
		}
	case "sess":
		w.judgeSession(c, e, key)
	}
}

// judgeExpiry: a strict worker has no sockets any more when etcd lets its registration expire.
func (w *witness) judgeExpiry(ref lease.Ref) {
	w.counts["expired"]++
	for process, last := range w.refs {
		if l := w.links[process]; last == ref && l.open() > 0 {
			w.accuse("the registration of %s expires, and it has %d sockets", process, l.open())
		}
	}
}

// saysReady reports whether the target of a move says that it is ready, and changes nothing else.
func (w *witness) saysReady(c etcdmem.Commit, e *mvccpb.Event, name string) bool {
	var id lease.RangeID
	var move lease.Move
	if _, err := fmt.Sscanf(name, "%d/%d", &id.Generation, &id.Index); err != nil || json.Unmarshal(e.Kv.Value, &move) != nil {
		return false
	}
	was := w.state.Ranges[id].Move
	return was != nil && move.Ready && move.To == was.To && w.refs[c.By] == was.To && w.lives(c.By)
}

// leads reports whether a process is who the election chose: the candidate that stood first.
func (w *witness) leads(process string) bool {
	first := candidate{}
	for _, c := range w.candidates {
		if first.revision == 0 || c.revision < first.revision {
			first = c
		}
	}
	return first.process == process
}

func (w *witness) mustLead(process, key string) {
	if !w.leads(process) {
		w.accuse("%s writes %s and does not lead", process, key)
	}
}

// lives reports whether a process's registration is alive.
func (w *witness) lives(process string) bool {
	ref, known := w.refs[process]
	return known && w.alive(ref)
}

func (w *witness) alive(ref lease.Ref) bool {
	worker, ok := w.state.Workers[ref.Worker]
	return ok && worker.Ref() == ref
}

func (w *witness) mustLive(process, key string) {
	if !w.lives(process) {
		w.accuse("%s writes %s and is dead", process, key)
	}
}

// owns reports whether a process owns the range that a shard is in, and lives.
func (w *witness) owns(process string, shard lease.ShardID) bool {
	owner := w.state.Ranges[w.plans[shard.Generation].RangeOf(shard.Shard)].Owner
	return w.lives(process) && owner == w.refs[process]
}

// sessionOf reads a session record; of one that is deleted, its key.
func sessionOf(e *mvccpb.Event, key string) (shard lease.ShardID, session lease.Session, err error) {
	if _, err = fmt.Sscanf(key, "sess/%d/%d", &shard.Generation, &shard.Shard); err == nil && e.Type != mvccpb.Event_DELETE {
		err = json.Unmarshal(e.Kv.Value, &session)
	}
	return shard, session, err
}

// compare looks at what a commit made of the state.
func (w *witness) compare(c etcdmem.Commit, before *lease.Cluster) {
	after := &w.state
	w.comparePlan(c, before)
	w.compareOrders(c, before)
	w.compareBudget(c, before)
	for bucket, slot := range after.Slots {
		if slot.Revision == c.Revision {
			w.judgeSlot(c, before, before.Slots[bucket], slot)
		}
	}
	for id, r := range after.Ranges {
		if r.Fence == c.Revision {
			w.judgeOwner(c, before, before.Ranges[id], r)
		}
		if r.Move != nil && r.Move.Revision == c.Revision && before.Ranges[id].Move == nil {
			w.judgeIntent(c, before, r)
		}
	}
	for id, r := range before.Ranges {
		if after.Ranges[id].Fence == 0 && r.Fence != 0 {
			w.judgeRetirement(c, before, r)
		}
	}
	if !maps.Equal(eligible(before), eligible(after)) {
		w.changed = time.Now()
	}
}

// eligible are the workers that could be given ranges, with their incarnations.
func eligible(c *lease.Cluster) map[string]int64 {
	names := make(map[string]int64, len(c.Workers))
	for id, w := range c.Workers {
		if !w.Draining && !c.Status[id].RedisFailing && c.Directives.Drains[id].Incarnation != w.Incarnation {
			names[id] = w.Incarnation
		}
	}
	return names
}

// compareBudget: it is never below nothing, and each slot that is opened is charged with it.
func (w *witness) compareBudget(c etcdmem.Commit, before *lease.Cluster) {
	b := w.state.Budget
	if b.Remaining < 0 || b.Remaining > b.Total {
		w.accuse("%s makes the budget %d of %d", c.By, b.Remaining, b.Total)
	}
	opened, voided, first := 0, 0, 0
	for bucket, slot := range w.state.Slots {
		if slot.Revision != c.Revision {
			continue
		}
		switch slot.State {
		case lease.SlotOpen:
			opened++
			if !before.Requests[lease.RequestID{Worker: slot.Worker.Worker, Shard: slot.Shard}].Repair {
				first++
			}
		case lease.SlotVoid:
			voided++
			if before.Slots[bucket].State != lease.SlotOpen {
				w.accuse("%s voids the slot of bucket %d, which is %q", c.By, bucket, before.Slots[bucket].State)
			}
		}
	}
	if (opened > 0 || voided > 0) && b.Remaining != before.Budget.Remaining-opened+voided {
		w.accuse("%s opens %d slots, voids %d, and makes a budget of %d %d", c.By, opened, voided, before.Budget.Remaining, b.Remaining)
	}
	if reserve := b.Total / 10; first > 0 && before.Budget.Remaining-first < reserve {
		w.accuse("%s opens %d slots for shards that never had a session, and of %d IDENTIFYs %d are for others", c.By, first, before.Budget.Remaining, reserve)
	}
}

func (w *witness) judgeSlot(c etcdmem.Commit, before *lease.Cluster, was, slot lease.Slot) {
	w.counts["slot "+string(slot.State)]++
	switch slot.State {
	case lease.SlotOpen, lease.SlotVoid:
		w.mustLead(c.By, fmt.Sprintf("slot/%d", slot.Bucket))
		w.judgeOpening(c, before, slot)
	case lease.SlotClaimed:
		owner := before.Ranges[w.plans[slot.Shard.Generation].RangeOf(slot.Shard.Shard)].Owner
		if was.State != lease.SlotOpen || was.Shard != slot.Shard || was.Worker != slot.Worker ||
			w.refs[c.By] != slot.Worker || owner != slot.Worker || !lives(before, slot.Worker) {
			w.accuse("%s claims the slot of bucket %d for %v: it was %+v, and the shard is %v's", c.By, slot.Bucket, slot.Shard, was, owner)
		}
		w.claims[slot.Bucket] = &claim{process: c.By, shard: slot.Shard, at: c.At}
	case lease.SlotSent:
		if was.State != lease.SlotClaimed || was.Shard != slot.Shard || w.refs[c.By] != slot.Worker {
			w.accuse("%s says that %v identified: the slot was %+v", c.By, slot.Shard, was)
		}
	}
}

// judgeOpening: nobody is to identify of a generation that is over, or about to be, or while the cluster is down.
func (w *witness) judgeOpening(c etcdmem.Commit, before *lease.Cluster, slot lease.Slot) {
	if slot.State != lease.SlotOpen || time.Now().Before(w.misled) {
		return
	}
	if standing := before.Plan.Standing(slot.Shard.Generation); standing != lease.InForce && standing != lease.Preparing {
		w.accuse("%s opens a slot for %v; the plan is %+v", c.By, slot.Shard, before.Plan)
	}
	if before.Directives.Down != nil && time.Since(w.moved) > knowing {
		w.accuse("%s opens a slot for %v while the cluster is down", c.By, slot.Shard)
	}
}

func lives(c *lease.Cluster, ref lease.Ref) bool {
	worker, ok := c.Workers[ref.Worker]
	return ok && worker.Ref() == ref
}

// judgeOwner: an owner changes by its own hand, or by the leader's: if it is dead, or had its time to hand over.
func (w *witness) judgeOwner(c etcdmem.Commit, before *lease.Cluster, was, r lease.Range) {
	if r.Owner.Worker != "" && !lives(before, r.Owner) {
		w.accuse("%s gives %v to %v, which is dead", c.By, r.ID, r.Owner)
	}
	ownerLives := lives(before, was.Owner)
	switch {
	case w.leads(c.By) && !ownerLives:
		w.counts["assigned"]++
		w.judgeGiven(c, before, r, r.Owner)
	case w.leads(c.By):
		w.counts["forced"]++
		if was.Move == nil || was.Move.To != r.Owner || time.Since(w.intended[r.ID]) < forceAfter {
			w.accuse("%s takes %v from %v, which lives, for %v; the move: %+v, %v old", c.By, r.ID, was.Owner, r.Owner, was.Move, time.Since(w.intended[r.ID]))
		}
	case !ownerLives || w.refs[c.By] != was.Owner:
		w.accuse("%s gives %v, which is %v's, to %v", c.By, r.ID, was.Owner, r.Owner)
	case r.Owner.Worker == "":
		w.counts["released"]++
	default:
		w.counts["handed over"]++
		if was.Move == nil || was.Move.To != r.Owner {
			w.accuse("%s hands %v over to %v; the move: %+v", c.By, r.ID, r.Owner, was.Move)
		}
	}
}

// judgeIntent: what was moved to even out the load does not go back at once.
func (w *witness) judgeIntent(c etcdmem.Commit, before *lease.Cluster, r lease.Range) {
	now := time.Now()
	w.intended[r.ID] = now
	w.judgeGiven(c, before, r, r.Move.To)
	if _, stays := eligible(before)[r.Owner.Worker]; !stays || now.Sub(w.changed) < knowing || now.Before(w.misled) {
		return
	}
	w.counts["balanced"]++
	move := balanced{r.Owner.Worker, r.Move.To.Worker, now, w.changed}
	last, moved := w.balanced[r.ID]
	if moved && last.from == move.to && last.to == move.from && last.changed.Equal(w.changed) && now.Sub(last.at) < cooldown {
		w.accuse("%v goes back to %s after %v", r.ID, move.to, now.Sub(last.at))
	}
	w.balanced[r.ID] = move
}

// mislead says that a leader may act on old knowledge until a while from now.
func (w *witness) mislead(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if until := time.Now().Add(d + knowing); until.After(w.misled) {
		w.misled = until
	}
}
