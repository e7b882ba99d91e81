package lease

import (
	"reflect"
	"testing"
)

func TestOrdersApply(t *testing.T) {
	self := Ref{"a", 9}
	for _, test := range []struct {
		name, key, value string
		want             func(*Orders) // what it adds to empty orders
		errors           int
	}{
		{name: "given", key: "asg/a/1/2", value: `{"incarnation":9}`, want: func(o *Orders) {
			o.Assignments[RangeID{1, 2}] = Assignment{Range: RangeID{1, 2}, Incarnation: 9, Fence: 5}
		}},
		{name: "to hand over", key: "asg/a/1/2", value: `{"incarnation":9,"fence":3,"hand_over":true,"to":{"worker":"b","incarnation":4}}`, want: func(o *Orders) {
			o.Assignments[RangeID{1, 2}] = Assignment{Range: RangeID{1, 2}, Incarnation: 9, Fence: 3, HandOver: true, To: Ref{"b", 4}, Move: 5}
		}},
		{name: "to hand over to one that is ready", key: "asg/a/1/2",
			value: `{"incarnation":9,"fence":3,"hand_over":true,"to":{"worker":"b","incarnation":4},"ready":true}`, want: func(o *Orders) {
				o.Assignments[RangeID{1, 2}] = Assignment{Range: RangeID{1, 2}, Incarnation: 9, Fence: 3, HandOver: true, To: Ref{"b", 4}, Ready: true, Move: 5}
			}},
		{name: "to be prepared for", key: "asg/a/1/2",
			value: `{"incarnation":9,"prepare":true,"owner":{"worker":"b","incarnation":4},"owner_fence":3}`, want: func(o *Orders) {
				o.Notices[RangeID{1, 2}] = Notice{Range: RangeID{1, 2}, Incarnation: 9, Prepare: true, Owner: Ref{"b", 4}, OwnerFence: 3, Move: 5}
			}},
		{name: "an earlier incarnation is to prepare", key: "asg/a/1/2", value: `{"incarnation":8,"prepare":true}`},
		{name: "unreadable notice", key: "asg/a/1/2", value: `{"incarnation":9,"prepare":true,"owner":3}`, errors: 1},
		{name: "kept after all", key: "asg/a/1/2", value: `{"incarnation":9,"fence":3}`, want: func(o *Orders) {
			o.Assignments[RangeID{1, 2}] = Assignment{Range: RangeID{1, 2}, Incarnation: 9, Fence: 3}
		}},
		{name: "meant for an earlier incarnation", key: "asg/a/1/2", value: `{"incarnation":8}`},
		{name: "meant for nobody", key: "asg/a/1/2", value: `{}`},
		{name: "unreadable", key: "asg/a/1/2", value: `{"incarnation":9,"fence":"x"}`, errors: 1},
		{name: "of no range", key: "asg/a/1", value: `{"incarnation":9}`, errors: 1},
		{name: "plan", key: "plan", value: `{"generation":1,"shards":8,"range_size":4}`, want: func(o *Orders) {
			o.Plan = Plan{Generation: 1, Shards: 8, RangeSize: 4, Revision: 5}
		}},
		{name: "halt", key: "halt/b", value: `{"reason":"r"}`, want: func(o *Orders) { o.Halts["b"] = Halt{Worker: "b", Reason: "r"} }},
		{name: "grant", key: "idn/a/1/2", value: `{"granted":true,"bucket":3}`, want: func(o *Orders) {
			id := RequestID{"a", ShardID{1, 2}}
			o.Requests[id] = IdentifyRequest{Worker: "a", Shard: id.Shard, Revision: 5, Granted: true, Bucket: 3}
		}},
		{name: "down", key: "directive/down", value: `{"end_sessions":true}`, want: func(o *Orders) { o.Down = &Down{EndSessions: true, Revision: 5} }},
		{name: "down, unreadable", key: "directive/down", value: `{"end_sessions":1}`, errors: 1, want: func(o *Orders) { o.Down = &Down{Revision: 5} }},
		{name: "a directive that is for the leader", key: "directive/rebalance", value: `{}`, errors: 1},
		{name: "nothing of its own", key: "own/1/2", value: `{}`, errors: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := emptyOrders(self)
			if test.want != nil {
				test.want(want)
			}
			got := emptyOrders(self)
			errs := got.Apply(Update{Puts: []Record{record(test.key, test.value, 5)}})
			if len(errs) != test.errors || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v and errors %v, want %+v", got, errs, want)
			}
			got.Apply(Update{Deletes: []string{test.key}})
			if want := emptyOrders(self); !reflect.DeepEqual(got, want) {
				t.Errorf("after the delete: got %+v", got)
			}
		})
	}
}

// An order for another incarnation withdraws the one that was for this.
func TestOrdersForTheNextIncarnationReplace(t *testing.T) {
	o := emptyOrders(Ref{"a", 9})
	o.Apply(Update{Puts: []Record{record("asg/a/1/2", `{"incarnation":9}`, 5)}})
	o.Apply(Update{Puts: []Record{record("asg/a/1/2", `{"incarnation":12}`, 13)}})
	if len(o.Assignments) != 0 {
		t.Errorf("still ordered: %+v", o.Assignments)
	}
}

// What was a notice becomes an assignment, and the other way round: never both.
func TestNoticeAndAssignmentReplaceEachOther(t *testing.T) {
	id := RangeID{1, 2}
	o := emptyOrders(Ref{"a", 9})
	o.Apply(Update{Puts: []Record{record("asg/a/1/2", `{"incarnation":9,"prepare":true}`, 5)}})
	o.Apply(Update{Puts: []Record{record("asg/a/1/2", `{"incarnation":9}`, 6)}})
	if _, is := o.Notices[id]; is || o.Assignments[id].Fence != 6 {
		t.Errorf("assigned: %+v", o)
	}
	o.Apply(Update{Puts: []Record{record("asg/a/1/2", `{"incarnation":9,"prepare":true}`, 7)}})
	if _, is := o.Assignments[id]; is || o.Notices[id].Move != 7 {
		t.Errorf("to be prepared for: %+v", o)
	}
}

func emptyOrders(self Ref) *Orders {
	o := &Orders{self: self}
	o.Apply(Update{Reset: true})
	return o
}
