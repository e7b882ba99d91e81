package lease

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func record(key, value string, revision int64) Record {
	return Record{Key: key, Value: []byte(value), Created: revision, Modified: revision}
}

func TestClusterApply(t *testing.T) {
	for _, test := range []struct {
		key, value string
		want       func(*Cluster) // what it adds to an empty cluster
	}{
		{"leader", `{"id":"x","term":3}`, func(c *Cluster) { c.Leader = Leader{"x", 3} }},
		{"plan", `{"generation":1,"shards":8,"range_size":4}`, func(c *Cluster) {
			c.Plan = Plan{Generation: 1, Shards: 8, RangeSize: 4, Revision: 5}
		}},
		{"budget", `{"total":9,"remaining":8}`, func(c *Cluster) { c.Budget = Budget{Revision: 5, Total: 9, Remaining: 8} }},
		{"wrk/a", `{"uuid":"u","capacity":2,"unknown":1}`, func(c *Cluster) {
			c.Workers["a"] = Worker{ID: "a", Incarnation: 5, UUID: "u", Capacity: 2}
		}},
		{"status/a", `{"events":4}`, func(c *Cluster) { c.Status["a"] = Status{Worker: "a", Events: 4} }},
		{"halt/a", `{"reason":"r"}`, func(c *Cluster) { c.Halts["a"] = Halt{Worker: "a", Reason: "r"} }},
		{"refused/a/1", `{"shard":2,"code":4010,"reason":"r"}`, func(c *Cluster) {
			c.Refusals[RefusalID{"a", 1}] = Refusal{Worker: "a", Generation: 1, Shard: 2, Code: 4010, Reason: "r"}
		}},
		{"alarm", `{"text":"t"}`, func(c *Cluster) { c.Alarm = Alarm{Text: "t"} }},
		{"own/1/2", `{"worker":"a","incarnation":3}`, func(c *Cluster) {
			c.Ranges[RangeID{1, 2}] = Range{ID: RangeID{1, 2}, Owner: Ref{"a", 3}, Fence: 5}
		}},
		{"mov/1/2", `{"to":{"worker":"a","incarnation":3}}`, func(c *Cluster) {
			c.Ranges[RangeID{1, 2}] = Range{ID: RangeID{1, 2}, Move: &Move{To: Ref{"a", 3}, Revision: 5}}
		}},
		{"idn/a/1/2", `{"incarnation":3,"fence":4}`, func(c *Cluster) {
			id := RequestID{"a", ShardID{1, 2}}
			c.Requests[id] = IdentifyRequest{Worker: "a", Shard: id.Shard, Revision: 5, Incarnation: 3, Fence: 4}
		}},
		{"slot/7", `{"state":"sent"}`, func(c *Cluster) { c.Slots[7] = Slot{Bucket: 7, Revision: 5, State: SlotSent} }},
		{"directive/down", `{"end_sessions":true}`, func(c *Cluster) { c.Directives.Down = &Down{EndSessions: true, Revision: 5} }},
		{"directive/reshard", `{"shards":8,"abort":true}`, func(c *Cluster) {
			c.Directives.Reshard = &Reshard{Shards: 8, Abort: true, Revision: 5}
		}},
		{"directive/rebalance", `{}`, func(c *Cluster) { c.Directives.Rebalance = &Rebalance{Revision: 5} }},
		{"directive/drain/a", `{"incarnation":3}`, func(c *Cluster) { c.Directives.Drains["a"] = Drain{Incarnation: 3, Revision: 5} }},
		{"asg/a/1/2", `{}`, func(*Cluster) {}}, // between others
		{"sess/1/2", `{}`, func(*Cluster) {}},
		{"ldr/123", `x`, func(*Cluster) {}},
	} {
		t.Run(test.key, func(t *testing.T) {
			want := emptyCluster()
			test.want(want)
			want.Revision = 5
			got := emptyCluster()
			if errs := got.Apply(Update{Revision: 5, Puts: []Record{record(test.key, test.value, 5)}}); errs != nil {
				t.Fatal(errs)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if errs := got.Apply(Update{Revision: 6, Deletes: []string{test.key}}); errs != nil {
				t.Fatal(errs)
			}
			want = emptyCluster()
			want.Revision = 6
			if !reflect.DeepEqual(got, want) {
				t.Errorf("after the delete: got %+v, want %+v", got, want)
			}
		})
	}
}

func TestClusterReadsGarbageAsWhatIsSafe(t *testing.T) {
	for _, test := range []struct {
		key, value string
		want       func(*Cluster)
	}{
		{"budget", `{"remaining":100,"total":"x"}`, func(c *Cluster) { c.Budget = Budget{Revision: 5} }},
		{"budget", `{"remaining":100,"total":100,"max_concurrency":1000000000000000000}`, func(c *Cluster) { c.Budget = Budget{Revision: 5} }},
		{"budget", `{"remaining":100,"total":100,"max_concurrency":-1}`, func(c *Cluster) { c.Budget = Budget{Revision: 5} }},
		{"slot/7", `{"state":0}`, func(c *Cluster) { c.Slots[7] = Slot{Bucket: 7, Revision: 5, State: SlotClaimed} }},
		{"own/1/2", `{"worker":"a","incarnation":"x"}`, func(c *Cluster) {
			c.Ranges[RangeID{1, 2}] = Range{ID: RangeID{1, 2}, Fence: 5}
		}},
		{"mov/1/2", `{"to":{"worker":"a","incarnation":"x"}}`, func(c *Cluster) {
			c.Ranges[RangeID{1, 2}] = Range{ID: RangeID{1, 2}, Move: &Move{Revision: 5}}
		}},
		{"halt/a", `?`, func(c *Cluster) { c.Halts["a"] = Halt{Worker: "a", Reason: "unreadable"} }},
		{"directive/down", `{"end_sessions":true,"at":1}`, func(c *Cluster) { c.Directives.Down = &Down{Revision: 5} }},
		{"directive/reshard", `{"shards":"x"}`, func(c *Cluster) {
			c.Directives.Reshard = &Reshard{Revision: 5, Refused: "the order cannot be read: give it again"}
		}},
		{"directive/rebalance", `[]`, func(*Cluster) {}},
		{"directive/drain/a", `{"incarnation":"x"}`, func(*Cluster) {}},
		{"directive/drain/", `{}`, func(*Cluster) {}},
		{"directive/drain/a/b", `{}`, func(*Cluster) {}},
		{"directive/nonsense", `{}`, func(*Cluster) {}},
		{"refused/a/1", `{"shard":"x","code":4010}`, func(*Cluster) {}},
		{"refused/a", `{"code":4010}`, func(*Cluster) {}},
		{"refused/a/x", `{"code":4010}`, func(*Cluster) {}},
		{"alarm", `{"text":1}`, func(*Cluster) {}},
		{"plan", `{"generation":1,"shards":0,"range_size":4}`, func(*Cluster) {}},
		{"plan", `null`, func(*Cluster) {}},
		{"plan", `{"generation":1,"shards":1000000000000000000,"range_size":1}`, func(*Cluster) {}},
		{"plan", `{"generation":1,"shards":8,"range_size":9223372036854775807}`, func(*Cluster) {}},
		{"plan", `{"generation":1,"shards":8,"range_size":4,"next":{"generation":2,"shards":16,"range_size":0}}`, func(*Cluster) {}},
		{"plan", `{"generation":2,"shards":8,"range_size":4,"former":{"generation":1,"shards":-5,"range_size":1}}`, func(*Cluster) {}},
		{"leader", `{"id":"x","term":"x"}`, func(*Cluster) {}},
		{"wrk/a", `[]`, func(*Cluster) {}},
		{"wrk/", `{}`, func(*Cluster) {}},
		{"wrk/a/b", `{}`, func(*Cluster) {}},
		{"status/a", ``, func(*Cluster) {}},
		{"idn/a/1/2", `[]`, func(*Cluster) {}},
		{"idn/a/1", `{}`, func(*Cluster) {}},
		{"own/1", `{}`, func(*Cluster) {}},
		{"own/1/02", `{}`, func(*Cluster) {}},
		{"own/-1/2", `{}`, func(*Cluster) {}},
		{"mov/1/x", `{}`, func(*Cluster) {}},
		{"slot/x", `{}`, func(*Cluster) {}},
		{"nonsense", `{}`, func(*Cluster) {}},
		{"", `{}`, func(*Cluster) {}},
	} {
		t.Run(test.key, func(t *testing.T) {
			want := emptyCluster()
			test.want(want)
			want.Revision = 5
			want.Workers["z"] = Worker{ID: "z", Incarnation: 4} // what came with it is taken
			got := emptyCluster()
			errs := got.Apply(Update{Revision: 5, Puts: []Record{record(test.key, test.value, 5), record("wrk/z", "{}", 4)}})
			if len(errs) != 1 {
				t.Errorf("errors %v, want one", errs)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestClusterCloneStaysAsItWas(t *testing.T) {
	c := emptyCluster()
	full := Update{Revision: 5, Puts: []Record{
		record("wrk/a", `{}`, 5), record("status/a", `{}`, 5), record("halt/a", `{}`, 5), record("refused/a/1", `{}`, 5), record("own/1/2", `{}`, 5),
		record("mov/1/2", `{}`, 5), record("idn/a/1/2", `{}`, 5), record("slot/1", `{}`, 5),
		record("directive/down", `{}`, 5), record("directive/drain/a", `{}`, 5),
	}}
	c.Apply(full)
	clone := c.Clone()
	c.Apply(Update{Revision: 6, Deletes: []string{"wrk/a", "status/a", "halt/a", "refused/a/1", "own/1/2", "idn/a/1/2", "slot/1", "directive/down", "directive/drain/a"}, Puts: []Record{record("mov/1/2", `{"to":{"worker":"b"}}`, 6)}})
	want := emptyCluster()
	want.Apply(full)
	if !reflect.DeepEqual(clone, want) {
		t.Errorf("the clone became %+v", clone)
	}
}

func emptyCluster() *Cluster {
	var c Cluster
	c.Apply(Update{Reset: true})
	return &c
}

// Keys and values that a random history is made of: few, so that they collide.
var (
	anyKey = rapid.SampledFrom([]string{
		"leader", "budget", "wrk/a", "wrk/b", "status/a", "halt/a", "own/1/0", "own/1/1", "mov/1/0", "mov/1/1",
		"idn/a/1/0", "idn/b/1/0", "slot/0", "slot/1", "asg/a/1/0", "asg/a/1/1", "sess/1/0", "nonsense",
		"directive/down", "directive/reshard", "directive/rebalance", "directive/drain/a",
	})
	anyValue = rapid.SampledFrom([]string{
		`{}`, `null`, `?`, `[]`, `{"id":"x"}`, `{"term":3}`, `{"id":5,"term":4}`, `{"total":5}`, `{"remaining":3}`, `{"total":"x","remaining":4}`,
		`{"worker":"a","incarnation":1}`, `{"worker":"b","incarnation":"x"}`, `{"to":{"worker":"a","incarnation":1}}`,
		`{"incarnation":1}`, `{"incarnation":1,"hand_over":true}`, `{"incarnation":2}`, `{"state":"open"}`, `{"state":1}`, `{"granted":true,"bucket":1}`,
	})
)

// history is a random sequence of updates, as etcd could make it, and what is there at its end.
func history(t *rapid.T) (updates []Update, end Update) {
	there := map[string]Record{}
	revision := int64(1)
	for range rapid.IntRange(1, 40).Draw(t, "revisions") {
		revision++
		u := Update{Revision: revision}
		for _, key := range rapid.SliceOfNDistinct(anyKey, 1, 3, rapid.ID[string]).Draw(t, "keys") {
			if _, ok := there[key]; ok && rapid.Bool().Draw(t, "delete") {
				u.Deletes = append(u.Deletes, key)
				delete(there, key)
				continue
			}
			r := record(key, anyValue.Draw(t, "value"), revision)
			if old, ok := there[key]; ok {
				r.Created = old.Created
			}
			there[key] = r
			u.Puts = append(u.Puts, r)
		}
		updates = append(updates, u)
	}
	end = Update{Revision: revision, Reset: true}
	for _, key := range slices.Sorted(maps.Keys(there)) {
		end.Puts = append(end.Puts, there[key])
	}
	return updates, end
}

// Whether somebody watched from the beginning or came just now: both know the same.
func TestApplyingChangesEqualsReadingTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		updates, end := history(t)
		var watched, listed Cluster
		watchedOrders, listedOrders := Orders{self: Ref{"a", 1}}, Orders{self: Ref{"a", 1}}
		for _, u := range updates {
			watched.Apply(u)
			watchedOrders.Apply(u)
		}
		listed.Apply(end)
		listedOrders.Apply(end)
		if !reflect.DeepEqual(watched, listed) {
			t.Fatalf("watched %+v\nlisted %+v", watched, listed)
		}
		if !reflect.DeepEqual(watchedOrders, listedOrders) {
			t.Fatalf("watched orders %+v\nlisted %+v", watchedOrders, listedOrders)
		}
		watched.Apply(end)
		if !reflect.DeepEqual(watched, listed) {
			t.Fatalf("after reading again %+v\nlisted %+v", watched, listed)
		}
	})
}

func TestUnreadablePlanLeavesTheOneInForce(t *testing.T) {
	c, o := emptyCluster(), &Orders{}
	good := Update{Revision: 1, Puts: []Record{record("plan", `{"generation":2,"shards":8,"range_size":4}`, 1)}}
	bad := Update{Revision: 2, Puts: []Record{record("plan", `{"generation":"3"}`, 2)}}
	for _, u := range []Update{good, bad} {
		c.Apply(u)
		o.Apply(u)
	}
	want := Plan{Generation: 2, Shards: 8, RangeSize: 4, Revision: 1}
	if c.Plan != want || o.Plan != want {
		t.Errorf("the plans are %+v and %+v", c.Plan, o.Plan)
	}
}

func FuzzApply(f *testing.F) {
	for _, key := range []string{"leader", "plan", "budget", "wrk/a", "status/a", "halt/a", "own/1/2", "mov/1/2", "idn/a/1/2", "slot/7", "asg/a/1/2", "sess/1/2", "directive/down", "directive/drain/a", "directive/x", "x", "", "own//", "wrk/a/b", "slot/99999999999999999999"} {
		for _, value := range []string{`{}`, `null`, `{"generation":1,"shards":4,"range_size":2}`, `{"incarnation":1,"hand_over":true,"to":{}}`, "\xff", `{"state":"open"`} {
			f.Add(key, []byte(value))
		}
	}
	others := Update{Revision: 3, Reset: true, Puts: []Record{record("wrk/other", `{}`, 3), record("own/9/9", `{}`, 3), record("asg/a/9/9", `{"incarnation":1}`, 3)}}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if key == "wrk/other" || key == "own/9/9" || key == "mov/9/9" || key == "asg/a/9/9" || key == "asg/b/9/9" {
			return
		}
		var c Cluster
		c.Apply(others)
		o := Orders{self: Ref{"a", 1}}
		o.Apply(others)
		before, beforeOrders := fmt.Sprintf("%+v", c), fmt.Sprintf("%+v", o)
		for _, u := range []Update{{Puts: []Record{{key, value, 4, 4}}}, {Deletes: []string{key}}} {
			if errs := c.Apply(u); len(errs) > 1 {
				t.Errorf("%d errors for one key", len(errs))
			}
			if errs := o.Apply(u); len(errs) > 1 {
				t.Errorf("%d errors for one key", len(errs))
			}
		}
		if after := fmt.Sprintf("%+v", c); after != before {
			t.Errorf("put and deleted, it leaves %s", after)
		}
		if after := fmt.Sprintf("%+v", o); after != beforeOrders {
			t.Errorf("put and deleted, it leaves the orders %s", after)
		}
	})
}
