package stream

import (
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Message is an entry as read from a shard's stream.
type Message struct {
	Shard int
	ID    ID
	Type  string // of a marker Data is a Gap or a Reshard, as JSON
	Data  []byte // the payload's d, the bytes Discord sent
}

// Loss says that entries of a shard's stream were trimmed before they were
// read: some or all of those after After and before Before. The reader was
// further behind than the streams are long.
type Loss struct {
	Shard  int
	After  ID // the last entry that was read
	Before ID // the first that is left; zero if that is not known
}

// decode reads an entry of a shard's stream, written by whoever can write there.
func decode(shard int, x redis.XMessage) (Message, error) {
	eventType, _ := x.Values[fieldType].(string)
	data, ok := x.Values[fieldData].(string)
	return newMessage(shard, x.ID, eventType, data, ok)
}

func newMessage(shard int, entry, eventType, data string, hasData bool) (Message, error) {
	id, err := ParseID(entry)
	if err != nil {
		return Message{}, err
	}
	if eventType == "" || !hasData {
		return Message{}, fmt.Errorf("want fields %s and %s", fieldType, fieldData)
	}
	return Message{Shard: shard, ID: id, Type: eventType, Data: []byte(data)}, nil
}

// mayHaveSkipped reports whether there may have been entries between after and
// the next one read. Within an epoch ids are consecutive unless the cluster
// filters events; between epochs the marker says what came before it.
func mayHaveSkipped(after ID, next Message) bool {
	switch {
	case next.ID.Compare(after) <= 0: // redis lost its tail and is being written again
		return false
	case after.IsZero():
		return next.ID.Seq > 1
	case next.ID.Epoch == after.Epoch:
		return next.ID.Seq != after.Seq+1
	case !IsMarker(next.Type):
		return true
	}
	var marker struct {
		After ID `json:"after"`
	}
	return json.Unmarshal(next.Data, &marker) != nil || marker.After != after
}
