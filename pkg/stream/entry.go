package stream

import (
	"encoding/json"
	"fmt"
)

// Types of muster's own entries, the markers, which open an epoch.
const (
	GapType     = "MUSTER_GAP"     // events may be missing before it: see Gap
	ReshardType = "MUSTER_RESHARD" // events may come a second time after it: see Reshard
)

// IsMarker reports whether entries of a type are muster's own, and no events.
func IsMarker(eventType string) bool { return eventType == GapType || eventType == ReshardType }

// Names of an entry's fields in Redis.
const (
	fieldType = "t"
	fieldData = "d"
)

// Entry is one event on its way into a shard's stream.
type Entry struct {
	ID   ID
	Type string // the event's name, "MESSAGE_CREATE" for instance, or that of a marker
	Data []byte // the payload's d, the bytes Discord sent
}

// Gap is the Data of a gap marker, as JSON: the events of Shard between the
// entry After and the first of the marker's epoch were not all received.
type Gap struct {
	Shard  int    `json:"shard"`
	After  ID     `json:"after"`  // the last entry before the gap; "0-0" if none is known
	Reason string `json:"reason"` // for people, for instance "session invalidated"
}

// NewGap returns the marker that opens epoch after events may have been lost.
// Its id is <epoch>-0, below anything Discord numbers.
func NewGap(epoch uint64, gap Gap) Entry { return marker(epoch, GapType, gap) }

// Reshard is the Data of a reshard marker, as JSON: from here on the events of
// Shard are those of another number of shards, whose session was prepared beside
// the sessions before. Nothing is missing. But it goes on from some seconds
// before, so that events that follow may be in the former generation's streams
// already, under other ids, with the same type and the same bytes.
type Reshard struct {
	Shard      int    `json:"shard"`
	After      ID     `json:"after"` // the last entry before; "0-0" if there is none
	Generation uint64 `json:"generation"`
	Before     int    `json:"shards_before"`
	Shards     int    `json:"shards"`
	From       int64  `json:"from"` // the epoch begins with the event after this sequence number
}

// NewReshard returns the marker that opens epoch with a session that was prepared
// for another number of shards. Its id is <epoch>-0.
func NewReshard(epoch uint64, r Reshard) Entry { return marker(epoch, ReshardType, r) }

func marker(epoch uint64, markerType string, about any) Entry {
	data, err := json.Marshal(about)
	if err != nil { // structs of numbers, texts and IDs cannot fail to marshal
		panic(err)
	}
	return Entry{ID: ID{Epoch: epoch}, Type: markerType, Data: data}
}

// follows reports how e breaks the order a stream that ends with last must
// keep; "" means it does not. Within an epoch sequence numbers are consecutive.
// A new epoch opens with a marker, because entries of the old session may be
// missing, or come again; only the very first session of a stream has nothing to
// miss. After a reshard marker the numbers begin where Log.GoOnFrom says.
func follows(last ID, e Entry) string {
	marker := e.ID.Seq == 0
	switch {
	case e.Type == "":
		return "it has no type"
	case marker != IsMarker(e.Type):
		return fmt.Sprintf("sequence 0 and types %s and %s belong together", GapType, ReshardType)
	case e.ID.Epoch < last.Epoch, e.ID.Epoch == 0, e.ID.Seq < 0:
		return "its epoch is over"
	case e.ID.Epoch > last.Epoch && !marker && (!last.IsZero() || e.ID != ID{1, 1}):
		return "a new epoch opens with a marker"
	case e.ID.Epoch == last.Epoch && e.ID.Seq != last.Seq+1:
		return "it is not the next in its epoch"
	}
	return ""
}
