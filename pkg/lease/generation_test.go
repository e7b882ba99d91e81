package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// A retired range leaves nothing in etcd, and its owner nothing to write with.
func TestRetiredRange(t *testing.T) {
	w := newWorld(t)
	w.granted()
	must(t, take(t, w.term, Action{Retire, w.rng, Ref{}}))
	for key := range dump(t, w.s) {
		for _, dir := range []string{dirOwners, dirMoves, dirAssignments} {
			if strings.HasPrefix(key, w.s.keys.prefix+dir) {
				t.Errorf("%s is left", key)
			}
		}
	}
	expectUnchanged(t, w.s, func() error {
		_, err := w.own.ClaimSlot(t.Context(), w.request, w.session, 0, 16)
		return err
	})
	must(t, take(t, w.term, Action{Retire, Range{ID: RangeID{1, 7}}, Ref{}})) // one that never had an owner
}

// sessions are the session records of a generation, by shard.
func sessions(t *testing.T, s *Store, generation int) map[int]Session {
	t.Helper()
	snapshot, err := s.list(t.Context(), []string{fmt.Sprintf("%s%d/", dirSessions, generation)})
	must(t, err)
	all := map[int]Session{}
	for _, r := range snapshot.Puts {
		var session Session
		must(t, json.Unmarshal(r.Value, &session))
		_, shard, err := parsePair(strings.TrimPrefix(r.Key, dirSessions))
		must(t, err)
		all[shard] = session
	}
	return all
}

// However many there are, each epoch is carried, and nothing else of a session.
func TestCarryEpochs(t *testing.T) {
	const shards = 2*maxActionsPerTxn + 1
	w := newWorld(t)
	want := map[int]Session{}
	for shard := range shards {
		epoch := uint64(shard + 1)
		w.write(w.s.keys.session(ShardID{1, shard}), fmt.Sprintf(`{"epoch":%d,"session_id":"id","resume_url":"wss://x","shards":99}`, epoch))
		want[shard] = Session{Epoch: epoch}
	}
	w.write(w.s.keys.session(ShardID{11, 0}), `{"epoch":7}`) // a neighbour, but not the next
	w.write(w.s.keys.sessions(1)+"x", `{"epoch":7}`)
	w.write(w.s.keys.session(ShardID{1, shards}), `?`)
	calls := 0
	for more := true; more; calls++ {
		var err error
		more, _, err = w.term.CarryEpochs(t.Context(), Plan{Generation: 2})
		must(t, err)
	}
	if calls != 4 { // the last finds nothing
		t.Errorf("%d calls for %d records", calls, shards)
	}
	if got := sessions(t, w.s, 2); !maps.Equal(got, want) {
		t.Errorf("carried are %v", slices.Sorted(maps.Keys(got)))
	}
	if left, other := sessions(t, w.s, 1), sessions(t, w.s, 11); len(left) != 0 || other[0].Epoch != 7 {
		t.Errorf("left are %v; of another generation %v", left, other)
	}
	if more, left, err := w.term.CarryEpochs(t.Context(), Plan{Generation: 2}); more || left || err != nil {
		t.Errorf("with nothing left: %v, %v, %v", more, left, err)
	}
}

// A record of the new generation is never replaced by one of the old.
func TestCarryEpochsReplacesNothing(t *testing.T) {
	w := newWorld(t)
	w.write(w.s.keys.session(theShard), `{"epoch":3}`)
	w.write(w.s.keys.session(ShardID{2, theShard.Shard}), `{"epoch":9,"session_id":"id"}`)
	_, _, err := w.term.CarryEpochs(t.Context(), Plan{Generation: 2})
	must(t, err)
	if old, now := sessions(t, w.s, 1), sessions(t, w.s, 2); len(old) != 0 || now[theShard.Shard].Epoch != 9 || now[theShard.Shard].ID != "id" {
		t.Errorf("left are %v, the new generation's are %v", old, now)
	}
}

// The first claim in a new generation is of a later epoch than the last in the old one, though nothing of that came to the stream.
func TestEpochsGoOnAcrossGenerations(t *testing.T) {
	w := newWorld(t)
	w.claimed()
	underway := w.claim
	w.plan.Generation = 2
	_, err := w.term.SetPlan(t.Context(), w.plan)
	must(t, err)
	must(t, take(t, w.term, Action{Retire, w.rng, Ref{}}))
	_, _, err = w.term.CarryEpochs(t.Context(), w.plan)
	must(t, err)
	if err := underway.SaveSession(t.Context(), "id", "wss://resume"); !errors.Is(err, ErrFenced) {
		t.Errorf("the session of a retired range is saved: %v", err)
	}
	must(t, take(t, w.term, Action{Assign, Range{ID: RangeID{2, 0}}, w.b.Ref()}))
	own := w.b.Own(orders(t, w.b).Assignments[RangeID{2, 0}])
	_, err = own.RequestIdentify(t.Context(), theShard.Shard, true)
	must(t, err)
	shard := ShardID{2, theShard.Shard}
	c := state(t, w.s)
	slot := c.Slots[1]
	_, err = w.term.OpenSlots(t.Context(), c.Budget, Grant{c.Requests[RequestID{"b", shard}], RangeID{2, 0}, slot})
	must(t, err)
	record, err := own.LoadSession(t.Context(), shard.Shard)
	must(t, err)
	claim, err := own.ClaimSlot(t.Context(), state(t, w.s).Requests[RequestID{"b", shard}], record, 0, 16)
	must(t, err)
	if claim.Epoch <= underway.Epoch {
		t.Errorf("epoch %d after %d", claim.Epoch, underway.Epoch)
	}
}

// Of a generation that was prepared nothing is carried that somebody will take along, and what it has itself is left alone.
func TestCarryEpochsBesideWhatIsPrepared(t *testing.T) {
	w := newWorld(t)
	plan := Plan{Generation: 3, Shards: 4, RangeSize: 1, Former: Cut{1, 8, 4}, Next: Cut{4, 8, 1}, Last: 4}
	for generation := 1; generation <= 5; generation++ {
		for shard := range 8 {
			w.write(w.s.keys.session(ShardID{generation, shard}), fmt.Sprintf(`{"epoch":%d}`, 10*generation+shard))
		}
	}
	_, err := w.s.client.Delete(t.Context(), w.s.keys.session(ShardID{3, 6}))
	must(t, err)
	left := false
	for more := true; more; {
		var err error
		more, left, err = w.term.CarryEpochs(t.Context(), plan)
		must(t, err)
	}
	if !left {
		t.Error("nothing is said to be left")
	}
	for generation, want := range map[int]int{1: 4, 2: 0, 3: 8, 4: 8, 5: 8} {
		if got := sessions(t, w.s, generation); len(got) != want {
			t.Errorf("generation %d has %d records, want %d", generation, len(got), want)
		}
	}
	if got := sessions(t, w.s, 3)[6].Epoch; got != 26 { // the higher of two
		t.Errorf("the epoch of a shard without a successor is %d", got)
	}
	if got := sessions(t, w.s, 3)[5].Epoch; got != 35 {
		t.Errorf("a record of the plan became %d", got)
	}
}

// What was given up before it was ever in force is dropped.
func TestCarryEpochsDropsWhatWasGivenUp(t *testing.T) {
	w := newWorld(t)
	w.write(w.s.keys.session(ShardID{2, 0}), `{"epoch":5}`)
	for more := true; more; {
		var err error
		more, _, err = w.term.CarryEpochs(t.Context(), Plan{Generation: 1, Shards: 1, RangeSize: 1, Last: 2})
		must(t, err)
	}
	if over, inForce := sessions(t, w.s, 2), sessions(t, w.s, 1); len(over) != 0 || len(inForce) != 0 {
		t.Errorf("left are %v, and %v", over, inForce)
	}
}

// Of several generations that are over, the highest epoch of a shard is carried.
func TestCarryEpochsOfSeveralGenerations(t *testing.T) {
	w := newWorld(t)
	for generation, epoch := range map[int]int{1: 5, 2: 9, 3: 4} {
		w.write(w.s.keys.session(ShardID{generation, 0}), fmt.Sprintf(`{"epoch":%d,"session_id":"id"}`, epoch))
	}
	for more := true; more; {
		var err error
		more, _, err = w.term.CarryEpochs(t.Context(), Plan{Generation: 4, Shards: 1, RangeSize: 1})
		must(t, err)
	}
	if got := sessions(t, w.s, 4); len(got) != 1 || got[0] != (Session{Epoch: 9}) {
		t.Errorf("carried is %+v", got)
	}
}
