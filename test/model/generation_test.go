package model

import (
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/muster-gateway/muster/internal/etcdmem"
	"github.com/muster-gateway/muster/pkg/lease"
)

// overlap is how long the shards of a generation must have listened before it is put in force (worker/muted.go).
const overlap = 10 * time.Second

// comparePlan holds generations to going forward only: each is prepared by order beside the one in force, when nothing is left of those
// before; then it is given up, by order too, or put in force when all its shards have listened for long enough.
func (w *witness) comparePlan(c etcdmem.Commit, before *lease.Cluster) {
	was, is := before.Plan, w.state.Plan
	if is.Revision != c.Revision {
		return
	}
	w.planned, w.inForce[is.Generation] = time.Now(), true
	for _, generation := range []int{is.Generation, is.Next.Generation, is.Former.Generation} {
		if plan, ok := is.Of(generation); ok {
			w.plans[generation] = plan
		}
	}
	order := before.Directives.Reshard
	asked := order != nil && order.Refused == ""
	cut := lease.Cut{Generation: was.Generation, Shards: was.Shards, RangeSize: was.RangeSize}
	kept := is.Generation == was.Generation && is.Shards == was.Shards && is.Former == was.Former
	switch {
	case was.Generation == 0 && is.Generation == 1 && is.Next.Generation == 0:
	case kept && is.Next == was.Next:
	case kept && was.Next.Generation == 0:
		w.counts["prepared"]++
		if !asked || order.Abort || order.Shards != is.Next.Shards || is.Next.Generation != max(was.Generation, was.Last)+1 {
			w.accuse("%s prepares %+v after %+v; the order: %+v", c.By, is.Next, was, order)
		}
		w.judgeTidy(c, before)
	case kept && is.Next.Generation == 0:
		w.counts["aborted"]++
		if !asked || !order.Abort {
			w.accuse("%s gives up %+v; the order: %+v", c.By, was.Next, order)
		}
	case is.Generation == was.Next.Generation && is.Shards == was.Next.Shards && is.Former == cut && is.Next.Generation == 0:
		w.counts["flipped"]++
		w.judgeFlip(c, is)
	default:
		w.accuse("%s makes %+v of %+v", c.By, is, was)
	}
}

// judgeTidy: of one generation something may be left, when the next but one is prepared.
func (w *witness) judgeTidy(c etcdmem.Commit, before *lease.Cluster) {
	for id := range before.Ranges {
		if id.Generation != before.Plan.Generation {
			w.accuse("%s prepares a generation, and %v is still there", c.By, id)
		}
	}
	for shard := range w.sessions {
		if shard.Generation != before.Plan.Generation {
			w.accuse("%s prepares a generation, and the record of %v is still there", c.By, shard)
		}
	}
}

// judgeFlip: the streams are gone on with from what the new sessions have had for so long.
func (w *witness) judgeFlip(c etcdmem.Commit, plan lease.Plan) {
	for index := range plan.Shards {
		shard := lease.ShardID{Generation: plan.Generation, Shard: index}
		if began, ok := w.begun[shard]; !ok || time.Since(began) < overlap {
			w.accuse("%s puts generation %d in force, of which shard %d has listened since %v (ever: %v)", c.By, plan.Generation, index, began, ok)
		}
	}
}

// compareOrders: what operators want stands until it is done.
func (w *witness) compareOrders(c etcdmem.Commit, before *lease.Cluster) {
	was, is := before.Directives, w.state.Directives
	if was.Reshard != nil && is.Reshard == nil && w.state.Plan.Revision != c.Revision {
		w.accuse("%s takes an order to reshard away, and the plan stays as it is: %+v", c.By, *was.Reshard)
	}
	for worker, drain := range was.Drains {
		_, stands := is.Drains[worker]
		if before.Workers[worker].Incarnation == drain.Incarnation && !stands && !w.cancels {
			w.accuse("%s takes an order to drain %s away, which lives", c.By, worker)
		}
	}
	if was.Down == nil != (is.Down == nil) {
		w.moved = time.Now()
	}
	if is.Down != nil && is.Down.EndSessions && w.ending.IsZero() {
		w.ending = time.Now()
	}
}

// drained reports whether an incarnation is to be drained by order.
func (w *witness) drained(ref lease.Ref) bool {
	drain, ok := w.state.Directives.Drains[ref.Worker]
	return ok && drain.Incarnation == ref.Incarnation
}

// judgeGiven: a range is given to nobody who is to be drained, unless there is nobody else, and one of a generation that is over to nobody.
func (w *witness) judgeGiven(c etcdmem.Commit, before *lease.Cluster, r lease.Range, to lease.Ref) {
	if time.Now().Before(w.misled) {
		return
	}
	drain, ordered := before.Directives.Drains[to.Worker]
	others := len(eligible(before)) > 0 && time.Since(w.changed) > knowing
	if ordered && drain.Incarnation == to.Incarnation && time.Since(w.drains[drain.Revision]) > knowing && others {
		w.accuse("%s gives %v to %v, which is to be drained", c.By, r.ID, to)
	}
	switch before.Plan.Standing(r.ID.Generation) {
	case lease.InForce, lease.Preparing:
	case lease.Finishing:
		if before.Ranges[r.ID].Fence == 0 {
			w.accuse("%s gives %v to %v, which was brought to its end", c.By, r.ID, to)
		}
	default:
		w.accuse("%s gives %v to %v, and its generation is over", c.By, r.ID, to)
	}
}

// judgeRetirement: a range of the former generation is brought to its end by its owner; one of a generation that is over goes when its
// owner is dead or had his time.
func (w *witness) judgeRetirement(c etcdmem.Commit, before *lease.Cluster, r lease.Range) {
	switch before.Plan.Standing(r.ID.Generation) {
	case lease.Finishing:
		w.counts["finished"]++
		if w.refs[c.By] != r.Owner || !lives(before, r.Owner) {
			w.accuse("%s retires %v of %v", c.By, r.ID, r.Owner)
		}
	case lease.Over:
		w.counts["retired"]++
		w.mustLead(c.By, "own/"+r.ID.String())
		if lives(before, r.Owner) && time.Since(w.planned) < forceAfter {
			w.accuse("%s retires %v of %v", c.By, r.ID, r.Owner)
		}
	default:
		w.accuse("%s retires %v, whose generation stands", c.By, r.ID)
	}
}

// judgeSession holds a session record to its owner, and its epoch to rising: from one generation to the next too, which takes a stream
// over only when the range is gone that its shard's number was in.
func (w *witness) judgeSession(c etcdmem.Commit, e *mvccpb.Event, key string) {
	shard, session, err := sessionOf(e, key)
	if err != nil {
		w.accuse("%s writes %s: %v", c.By, key, err)
		return
	}
	before, plan := w.sessions[shard], w.state.Plan
	if e.Type == mvccpb.Event_DELETE {
		delete(w.sessions, shard)
		heir := lease.ShardID{Generation: plan.Generation, Shard: shard.Shard}
		if shard.Generation != plan.Former.Generation || !w.owns(c.By, heir) {
			w.mustLead(c.By, key)
		}
		return
	}
	w.sessions[shard] = session
	carried := w.leads(c.By) && before.ID == "" && session.ID == ""
	if !carried && !w.owns(c.By, shard) {
		w.accuse("%s writes %s and does not own the shard", c.By, key)
	}
	ended := !w.ending.IsZero() && session.ID == "" && session.Epoch == before.Epoch
	if session.ID == "" && session.Epoch <= before.Epoch && !ended || session.Epoch < before.Epoch {
		w.accuse("%s writes epoch %d after %d into %s", c.By, session.Epoch, before.Epoch, key)
	}
	if carried || session.Muted {
		return
	}
	former, ok := plan.Of(plan.Former.Generation)
	switch standing := plan.Standing(shard.Generation); {
	case standing == lease.Preparing:
		w.accuse("%s takes the stream of %v, which is only being prepared", c.By, shard)
	case standing != lease.InForce || !ok:
	case shard.Shard < former.Shards && w.state.Ranges[former.RangeOf(shard.Shard)].Fence != 0:
		w.accuse("%s takes the stream of %v while %v is there", c.By, shard, former.RangeOf(shard.Shard))
	case session.Epoch <= w.sessions[lease.ShardID{Generation: former.Generation, Shard: shard.Shard}].Epoch:
		w.accuse("%s goes on with the stream of %v in epoch %d", c.By, shard, session.Epoch)
	}
}
