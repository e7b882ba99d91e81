package lease

import (
	"errors"
	"maps"
	"reflect"
	"testing"
	"time"
)

// What is written down is what everybody reads, one way or the other.
func TestDirectivesStandUntilTheyEnd(t *testing.T) {
	w := newWorld(t)
	ctx, at := t.Context(), time.Unix(1000, 0).UTC()
	for _, d := range []Directive{Down{At: at}, Down{EndSessions: true, At: at}, Reshard{Shards: 32, At: at}, Rebalance{At: at}} {
		must(t, w.s.Direct(ctx, d))
	}
	must(t, w.s.DirectDrain(ctx, w.a.Ref(), at))
	d, err := w.s.Directives(ctx)
	must(t, err)
	if !reflect.DeepEqual(d, state(t, w.s).Directives) {
		t.Errorf("read by itself %+v, in the cluster %+v", d, state(t, w.s).Directives)
	}
	if o := orders(t, w.a); !reflect.DeepEqual(o.Down, d.Down) {
		t.Errorf("a worker reads %+v", o.Down)
	}
	for _, revision := range []*int64{&d.Down.Revision, &d.Reshard.Revision, &d.Rebalance.Revision} {
		if *revision == 0 {
			t.Error("a directive has no revision")
		}
		*revision = 0
	}
	drain := d.Drains["a"]
	drain.Revision = 0
	want := Directives{
		Down: &Down{EndSessions: true, At: at}, Reshard: &Reshard{Shards: 32, At: at}, Rebalance: &Rebalance{At: at},
		Drains: map[string]Drain{"a": {Incarnation: w.a.Ref().Incarnation, At: at}},
	}
	if d.Drains["a"] = drain; !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v", d)
	}

	w.look()
	must(t, w.s.AbortReshard(ctx, *w.orders.Reshard))
	if aborted := state(t, w.s).Directives.Reshard; !aborted.Abort || aborted.Shards != 32 {
		t.Errorf("aborted: %+v", aborted)
	}
	w.look()
	must(t, w.term.RefuseReshard(ctx, *w.orders.Reshard, "why"))
	if refused := state(t, w.s).Directives.Reshard; refused.Refused != "why" {
		t.Errorf("refused: %+v", refused)
	}
	w.look()
	must(t, errors.Join(w.s.EndDown(ctx), w.s.EndDrain(ctx, "a"), w.s.endDirective(ctx, nameReshard),
		w.term.DoneRebalance(ctx, *w.orders.Rebalance)))
	must(t, errors.Join(w.s.EndDown(ctx), w.s.EndDrain(ctx, "a"))) // again
	if d, err := w.s.Directives(ctx); err != nil || !reflect.DeepEqual(d, newDirectives()) {
		t.Errorf("left are %+v, %v", d, err)
	}
}

// Garbage does not keep the others from being read.
func TestDirectivesBesideGarbage(t *testing.T) {
	w := newWorld(t)
	w.directedAll()
	w.write(w.s.keys.directive(nameReshard), "?")
	w.write(w.s.keys.directive(nameDown), "?")
	w.write(w.s.keys.directive("nonsense"), "{}")
	d, err := w.s.Directives(t.Context())
	if err != nil || d.Down == nil || d.Reshard.Refused == "" || d.Rebalance == nil || len(d.Drains) != 1 {
		t.Errorf("got %+v, %v", d, err)
	}
}

// Sessions that were ended are gone, and their epochs stay: the next of the shard is above them.
func TestEndSessionsKeepsEpochs(t *testing.T) {
	w := newWorld(t)
	w.identified()
	before := w.session
	w.write(w.s.keys.session(ShardID{1, 2}), "?")
	must(t, w.own.EndSessions(t.Context(), []int{0, 1, 2, theShard.Shard}))
	w.look()
	if before.ID == "" || w.session.ID != "" || w.session.ResumeURL != "" || w.session.Epoch != before.Epoch || before.Epoch == 0 {
		t.Errorf("the session was %+v, and is %#v of epoch %d", before, w.session, w.session.Epoch)
	}
	revision := w.session.Revision
	must(t, w.own.EndSessions(t.Context(), []int{0, 1, 2, theShard.Shard}))
	if w.look(); w.session.Revision != revision {
		t.Error("ended again, it was written again")
	}
}

// A record that is written between reading and ending stays.
func TestEndSessionsLeavesWhatIsNew(t *testing.T) {
	w := newWorld(t)
	w.identified()
	key := w.s.keys.session(theShard)
	resp, err := w.s.client.Get(t.Context(), key)
	must(t, err)
	steps := endSession(resp.Kvs[0])
	w.touch(key)
	before := dump(t, w.s)
	_, err = w.s.client.Txn(t.Context()).Then(steps...).Commit()
	must(t, err)
	if after := dump(t, w.s); len(steps) != 1 || !maps.Equal(before, after) {
		t.Errorf("%d steps changed\n%v\nto\n%v", len(steps), before, after)
	}
}
