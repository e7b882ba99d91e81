package coordinator

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/pkg/lease"
)

func TestView(t *testing.T) {
	s := newScene(4).worker("b", long, atMost(5)).worker("a2", long).
		owned(0, "a2", "a", "b").moving(0, "b", 0).moving(2, "", 0)
	s.plans[0] = lease.Plan{Generation: 1, Shards: 7, RangeSize: 2}
	state := &lease.Cluster{
		Revision: 5, Plan: s.plans[0], Workers: s.workers, Ranges: s.ranges,
		Leader: lease.Leader{ID: "one", Term: 3},
		Status: map[string]lease.Status{"a": {Events: 9, Loads: map[lease.RangeID]float64{{Generation: 1}: 42}, Shards: map[int]lease.ShardStatus{
			0: {Generation: 2, State: "live"}, // of another generation
			1: {Generation: 1, State: "live", Epoch: 2, Error: "none"},
			2: {Generation: 1, State: "live"}, // what it ran in its former life
		}}},
		Refusals: map[lease.RefusalID]lease.Refusal{
			{Worker: "z", Generation: 1}: {Worker: "z", Generation: 1, Code: 4011},
			{Worker: "b", Generation: 1}: {Worker: "b", Generation: 1, Shard: 4, Code: 4010, Reason: "why"},
			{Worker: "b", Generation: 2}: {Worker: "b", Generation: 2, Code: 4010}, // of another generation
		},
		Alarm: lease.Alarm{Text: "do something"},
		Directives: lease.Directives{
			Down:    &lease.Down{EndSessions: true, At: epoch},
			Reshard: &lease.Reshard{Shards: 9, Abort: true, Refused: "why", At: epoch}, Rebalance: &lease.Rebalance{At: epoch},
			Drains: map[string]lease.Drain{
				"b": {Incarnation: ref("b").Incarnation, At: epoch}, "a": {Incarnation: ref("a").Incarnation, At: epoch}, // a's former life
			},
		},
		Requests: map[lease.RequestID]lease.IdentifyRequest{
			{Worker: "a", Shard: lease.ShardID{Generation: 1, Shard: 0}}: {}, {Worker: "a", Shard: lease.ShardID{Generation: 1, Shard: 1}}: {Repair: true},
		},
		Budget: lease.Budget{Total: 20, Remaining: 2, MaxConcurrency: 3, ResetAt: epoch},
		Halts:  map[string]lease.Halt{"z": {Worker: "z", Reason: "later"}, "b": {Worker: "b", Shard: 4, Reason: "why"}},
	}
	v := New(Config{ID: "two", Cluster: "c", Logger: quiet}).buildView(state, epoch)
	if v.Cluster != "c" || v.AnsweredBy != "two" || v.Leader != "one" || v.Term != 3 || v.Revision != 5 || !v.At.Equal(epoch) {
		t.Errorf("view is %+v", v)
	}
	if budget := (api.Budget{Total: 20, Remaining: 2, Reserve: 2, MaxConcurrency: 3, ResetAt: epoch, Waiting: 1}); v.Budget != budget {
		t.Errorf("the budget is %+v", v.Budget)
	}
	ranges := []api.Range{
		{Range: 0, First: 0, Last: 1, Owner: "a", Moving: true, MoveTo: "b", EventsPerSecond: 42},
		{Range: 1, First: 2, Last: 3},
		{Range: 2, First: 4, Last: 5, Owner: "b", Moving: true},
		{Range: 3, First: 6, Last: 6},
	}
	if !reflect.DeepEqual(v.Ranges, ranges) {
		t.Errorf("ranges are %+v", v.Ranges)
	}
	shards := []api.Shard{
		{Shard: 0, Worker: "a", State: api.StateUnknown}, {Shard: 1, Worker: "a", State: "live", Epoch: 2, Error: "none"},
		{Shard: 2, State: api.StateUnassigned}, {Shard: 3, State: api.StateUnassigned},
		{Shard: 4, Worker: "b", State: api.StateUnknown}, {Shard: 5, Worker: "b", State: api.StateUnknown},
		{Shard: 6, State: api.StateUnassigned},
	}
	if !reflect.DeepEqual(v.ShardStates, shards) {
		t.Errorf("shards are %+v", v.ShardStates)
	}
	if len(v.Workers) != 2 || v.Workers[0].ID != "a" || v.Workers[0].Shards != 2 || v.Workers[0].Events != 9 || v.Workers[1].Shards != 2 || v.Workers[1].MaxShards != 5 {
		t.Errorf("workers are %+v", v.Workers)
	}
	if v.Workers[0].Draining || !v.Workers[1].Draining {
		t.Errorf("who drains is %+v", v.Workers)
	}
	if stands := (api.Directives{
		Down:    &api.Down{EndSessions: true, At: epoch},
		Reshard: &api.Reshard{Shards: 9, Abort: true, Refused: "why", At: epoch}, Rebalance: &api.Rebalance{At: epoch},
		Drains: []api.Drain{{Worker: "a", Incarnation: ref("a").Incarnation, At: epoch}, {Worker: "b", Incarnation: ref("b").Incarnation, At: epoch}},
	}); !reflect.DeepEqual(v.Directives, stands) {
		t.Errorf("directives are %+v", v.Directives)
	}
	if halts := []api.Halt{{Worker: "b", Shard: 4, Reason: "why"}, {Worker: "z", Reason: "later"}}; !reflect.DeepEqual(v.Halted, halts) {
		t.Errorf("halts are %+v", v.Halted)
	}
	refused := []api.Refusal{{Worker: "b", Shard: 4, Code: 4010, Reason: "why"}, {Worker: "z", Code: 4011}}
	if !reflect.DeepEqual(v.Refused, refused) || v.Alarm != "do something" {
		t.Errorf("refusals are %+v, the alarm %q", v.Refused, v.Alarm)
	}
}

// What workers report is input: no rate, however absurd, makes a view, or the sum over it, that JSON cannot tell.
func TestAbsurdRatesAreTold(t *testing.T) {
	state := &lease.Cluster{Workers: map[string]lease.Worker{}, Status: map[string]lease.Status{}}
	for _, id := range []string{"a", "b"} {
		state.Workers[id] = lease.Worker{ID: id, Incarnation: 1}
		state.Status[id] = lease.Status{EventsPerSecond: math.MaxFloat64, BytesPerSecond: -math.MaxFloat64}
	}
	view := New(Config{Logger: quiet, Store: lease.NewStore(nil, "c", nil, nil)}).buildView(state, epoch)
	for _, told := range []any{view, sampleOf(view, 1)} {
		if _, err := json.Marshal(told); err != nil {
			t.Error(err)
		}
	}
}

// A view that is not due yet is put off, and asked for when it is.
func TestViewsArePutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{ID: "one", Logger: quiet, Store: lease.NewStore(nil, "c", nil, nil)})
		due := time.Now().Add(time.Second)
		c.showAfter = due
		if later := c.show(&lease.Cluster{Revision: 1}); !later.Equal(due) || c.view.Load() != nil {
			t.Errorf("shown too early: to be shown at %v, want %v", later, due)
		}
		time.Sleep(time.Second)
		if later := c.show(&lease.Cluster{Revision: 2}); !later.IsZero() || c.view.Load().Revision != 2 {
			t.Errorf("when it is due, it is put off to %v", later)
		}
	})
}

// A leader that has just decided in vain lets some time pass. One that wrote, or is to wait for etcd, does not wait for that.
func TestDecisionsArePutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{ID: "one", Logger: quiet})
		now := time.Now()
		waiting := &leader{term: &lease.Term{}, written: 5, patience: now.Add(time.Hour)} // its own write is still on its way to it
		if again, err := c.decide(t.Context(), waiting, &lease.Cluster{}); err != nil || !again.Equal(waiting.patience) {
			t.Errorf("it acts again at %v, %v", again, err)
		}
		c.decideAfter = now.Add(time.Second)
		if again, err := c.decide(t.Context(), waiting, &lease.Cluster{}); err != nil || !again.Equal(c.decideAfter) {
			t.Errorf("too soon, it acts again at %v, %v", again, err)
		}
		time.Sleep(time.Second)
		if again, err := c.decide(t.Context(), waiting, &lease.Cluster{}); err != nil || !again.Equal(waiting.patience) {
			t.Errorf("when it is due, it acts again at %v, %v", again, err)
		}
	})
}

// A replica watches while it does not lead, and knows what it saw when it does.
func TestReplicasWatchBeforeTheyLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{ID: "one", Logger: quiet})
		for incarnation := range int64(flapLimit) {
			state := &lease.Cluster{Workers: map[string]lease.Worker{"flaps": {ID: "flaps", Incarnation: incarnation + 1}}}
			if _, err := c.decide(t.Context(), nil, state); err != nil {
				t.Fatal(err)
			}
		}
		lead := newLeader(c, &lease.Term{}, time.Now())
		if quarantined(lead.incarnations["flaps"], time.Now()).IsZero() {
			t.Error("the leader trusts a worker whose restarts its replica saw")
		}
		restored := &lease.Cluster{Era: "next", Workers: map[string]lease.Worker{"flaps": {ID: "flaps", Incarnation: 1}}}
		if lead.observe(restored, time.Now()); len(lead.incarnations["flaps"]) != 1 {
			t.Errorf("of an etcd that was restored it knows %d incarnations", len(lead.incarnations["flaps"]))
		}
	})
}

func BenchmarkView(b *testing.B) {
	h := newHistory(100_000, 16)
	status := map[string]lease.Status{}
	for i := range 1000 {
		h.join(fmt.Sprintf("w%04d", i), 1)
	}
	h.settle(b)
	for id, r := range h.s.ranges {
		if status[r.Owner.Worker].Shards == nil {
			status[r.Owner.Worker] = lease.Status{Shards: map[int]lease.ShardStatus{}}
		}
		for _, shard := range h.s.plans[0].ShardsOf(id) {
			status[r.Owner.Worker].Shards[shard] = lease.ShardStatus{Generation: 1, State: "live", Epoch: 1}
		}
	}
	state := &lease.Cluster{Plan: h.s.plans[0], Workers: h.s.workers, Ranges: h.s.ranges, Status: status}
	c := New(Config{ID: "one", Logger: quiet})
	b.ReportAllocs()
	for b.Loop() {
		c.buildView(state, epoch)
	}
}
