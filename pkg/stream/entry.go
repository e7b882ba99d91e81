package stream

import (
	"encoding/json"
	"fmt"
)

// GapType is the type of a gap marker.
const GapType = "MUSTER_GAP"

// Names of an entry's fields in Redis.
const (
	fieldType = "t"
	fieldData = "d"
)

// Entry is one event on its way into a shard's stream.
type Entry struct {
	ID   ID
	Type string // the event's name, "MESSAGE_CREATE" for instance; GapType marks a gap
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
func NewGap(epoch uint64, gap Gap) Entry {
	data, err := json.Marshal(gap)
	if err != nil { // a struct of an int, a string and an ID cannot fail to marshal
		panic(err)
	}
	return Entry{ID: ID{Epoch: epoch}, Type: GapType, Data: data}
}

// follows reports how e breaks the order a stream that ends with last must
// keep; "" means it does not. Within an epoch sequence numbers are consecutive.
// A new epoch opens with a gap marker, because entries of the old session may be
// missing; only the very first session of a stream has nothing to miss.
func follows(last ID, e Entry) string {
	marker := e.ID.Seq == 0
	switch {
	case e.Type == "":
		return "it has no type"
	case marker != (e.Type == GapType):
		return fmt.Sprintf("sequence 0 and type %s belong together", GapType)
	case e.ID.Epoch < last.Epoch, e.ID.Epoch == 0, e.ID.Seq < 0:
		return "its epoch is over"
	case e.ID.Epoch > last.Epoch && !marker && (!last.IsZero() || e.ID != ID{1, 1}):
		return "a new epoch opens with a gap marker"
	case e.ID.Epoch == last.Epoch && e.ID.Seq != last.Seq+1:
		return "it is not the next in its epoch"
	}
	return ""
}
