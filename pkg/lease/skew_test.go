package lease

import "testing"

// Two versions of muster share a cluster during a deploy: what the newer one writes besides, the older one does not know.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	var c Cluster
	revision := int64(0)
	put := func(key, value string) {
		t.Helper()
		revision++
		update := Update{Revision: revision, Reset: revision == 1, Puts: []Record{{Key: key, Value: []byte(value), Created: revision, Modified: revision}}}
		if errs := c.Apply(update); errs != nil {
			t.Errorf("%s: %v", key, errs)
		}
	}
	put("plan", `{"generation":1,"shards":4,"range_size":2,"novel":{"a":1}}`)
	put("wrk/a", `{"uuid":"u","capacity":3,"novel":[1]}`)
	put("own/1/0", `{"worker":"a","incarnation":2,"novel":true}`)
	put("mov/1/0", `{"to":{"worker":"b","incarnation":9,"novel":1},"novel":null}`)
	put("slot/0", `{"state":"sent","shard":{"Generation":1,"Shard":0},"novel":1}`)
	put("budget", `{"remaining":7,"novel":"x"}`)
	put("idn/a/1/0", `{"incarnation":2,"fence":3,"novel":1}`)
	if c.Plan.Shards != 4 || c.Workers["a"].Capacity != 3 || c.Ranges[RangeID{1, 0}].Move.To.Worker != "b" ||
		c.Slots[0].State != SlotSent || c.Budget.Remaining != 7 || c.Requests[RequestID{"a", ShardID{1, 0}}].Fence != 3 {
		t.Errorf("the cluster is %+v", c)
	}
}
