package stream

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func TestFollows(t *testing.T) {
	const accept, refuse = true, false
	tests := []struct {
		name string
		last ID
		e    Entry
		want bool
	}{
		{"first session of a stream", ID{}, Entry{ID: ID{1, 1}, Type: "READY"}, accept},
		{"next in the epoch", ID{1, 1}, Entry{ID: ID{1, 2}, Type: "X"}, accept},
		{"first after a marker", ID{2, 0}, Entry{ID: ID{2, 1}, Type: "READY"}, accept},
		{"marker of the next epoch", ID{1, 9}, Entry{ID: ID{2, 0}, Type: GapType}, accept},
		{"marker of a later epoch", ID{1, 9}, Entry{ID: ID{7, 0}, Type: GapType}, accept},
		{"marker on an empty stream", ID{}, Entry{ID: ID{5, 0}, Type: GapType}, accept},
		{"reshard marker", ID{1, 9}, Entry{ID: ID{2, 0}, Type: ReshardType}, accept},
		{"reshard marker on an empty stream", ID{}, Entry{ID: ID{2, 0}, Type: ReshardType}, accept},
		{"marker after a marker", ID{5, 0}, Entry{ID: ID{6, 0}, Type: GapType}, accept},

		{"same again", ID{1, 2}, Entry{ID: ID{1, 2}, Type: "X"}, refuse},
		{"before", ID{1, 2}, Entry{ID: ID{1, 1}, Type: "X"}, refuse},
		{"one left out", ID{1, 2}, Entry{ID: ID{1, 4}, Type: "X"}, refuse},
		{"old epoch", ID{2, 2}, Entry{ID: ID{1, 3}, Type: "X"}, refuse},
		{"old epoch's marker", ID{2, 2}, Entry{ID: ID{1, 0}, Type: GapType}, refuse},
		{"new epoch without a marker", ID{1, 2}, Entry{ID: ID{2, 1}, Type: "READY"}, refuse},
		{"later epoch on an empty stream without a marker", ID{}, Entry{ID: ID{2, 1}, Type: "READY"}, refuse},
		{"first session from its middle", ID{}, Entry{ID: ID{1, 2}, Type: "X"}, refuse},
		{"marker within an epoch", ID{1, 2}, Entry{ID: ID{1, 3}, Type: GapType}, refuse},
		{"reshard marker within an epoch", ID{1, 2}, Entry{ID: ID{1, 3}, Type: ReshardType}, refuse},
		{"from its middle without being told so", ID{2, 0}, Entry{ID: ID{2, 18}, Type: "X"}, refuse},
		{"marker of the same epoch", ID{1, 2}, Entry{ID: ID{1, 0}, Type: GapType}, refuse},
		{"sequence 0 that is no marker", ID{1, 2}, Entry{ID: ID{2, 0}, Type: "READY"}, refuse},
		{"epoch 0", ID{}, Entry{ID: ID{0, 1}, Type: "X"}, refuse},
		{"negative sequence", ID{}, Entry{ID: ID{1, -1}, Type: "X"}, refuse},
		{"no type", ID{1, 1}, Entry{ID: ID{1, 2}}, refuse},
	}
	for _, tt := range tests {
		if reason := follows(tt.last, tt.e); (reason == "") != tt.want {
			t.Errorf("%s: reason %q, want accepted %v", tt.name, reason, tt.want)
		}
	}
}

// Whatever is offered, what follows accepts is a log in which an entry is either
// its predecessor's successor or a marker of a later epoch.
func TestFollowsKeepsTheLogWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last := ID{}
		for range 50 {
			e := Entry{
				ID:   ID{rapid.Uint64Range(0, 4).Draw(t, "epoch"), rapid.Int64Range(-1, 4).Draw(t, "seq")},
				Type: rapid.SampledFrom([]string{"", "X", GapType, ReshardType}).Draw(t, "type"),
			}
			if follows(last, e) != "" {
				continue
			}
			successor := e.ID == ID{last.Epoch, last.Seq + 1} || last.IsZero() && e.ID == ID{1, 1}
			marker := e.ID.Epoch > last.Epoch && e.ID.Seq == 0
			if e.ID.Compare(last) <= 0 || !successor && !marker || marker != IsMarker(e.Type) {
				t.Fatalf("%v accepted after %v", e, last)
			}
			last = e.ID
		}
	})
}

func TestNewReshard(t *testing.T) {
	e := NewReshard(4, Reshard{Shard: 7, After: ID{3, 41}, Generation: 2, Before: 4, Shards: 8, From: 17})
	if e.ID != (ID{4, 0}) || e.Type != ReshardType {
		t.Errorf("the marker is %v %s", e.ID, e.Type)
	}
	if text := `{"shard":7,"after":"3-41","generation":2,"shards_before":4,"shards":8,"from":17}`; string(e.Data) != text {
		t.Errorf("its data is %s, want %s", e.Data, text)
	}
}

func TestNewGap(t *testing.T) {
	want := Gap{Shard: 7, After: ID{3, 41}, Reason: "session invalidated"}
	e := NewGap(4, want)
	if e.ID != (ID{4, 0}) || e.Type != GapType {
		t.Errorf("the marker is %v %s", e.ID, e.Type)
	}
	if text := `{"shard":7,"after":"3-41","reason":"session invalidated"}`; string(e.Data) != text {
		t.Errorf("its data is %s, want %s", e.Data, text)
	}
	var got Gap
	if err := json.Unmarshal(e.Data, &got); err != nil || got != want {
		t.Errorf("it reads back as %v, error %v", got, err)
	}
}
