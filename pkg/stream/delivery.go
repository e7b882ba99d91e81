package stream

import "fmt"

// delivery is an entry as a script of the group reader returns it.
type delivery struct {
	id     string // as Redis wrote it
	fields []any  // names and values in turn; nil if the entry was trimmed
	// taken says that the entry had been delivered before, deliveries times.
	taken      bool
	deliveries int64
}

// message is the delivery decoded.
func (d delivery) message(shard int) (Message, error) {
	var eventType, data string
	var hasData bool
	for i := 0; i+1 < len(d.fields); i += 2 {
		value, isText := d.fields[i+1].(string)
		switch d.fields[i] {
		case fieldType:
			eventType = value
		case fieldData:
			data, hasData = value, isText
		}
	}
	return newMessage(shard, d.id, eventType, data, hasData)
}

// parseRead reads the reply of readScript: id and fields of each entry.
func parseRead(reply any) ([]delivery, error) {
	return parseDeliveries(reply, func(row []any) (delivery, bool) {
		if len(row) != 2 {
			return delivery{}, false
		}
		id, ok1 := row[0].(string)
		fields, ok2 := row[1].([]any)
		return delivery{id: id, fields: fields}, ok1 && ok2
	})
}

// parsePending reads the reply of takeScript: id, number of deliveries and fields
// of each entry. The fields of one that was trimmed are nil.
func parsePending(reply any) ([]delivery, error) {
	return parseDeliveries(reply, func(row []any) (delivery, bool) {
		if len(row) != 3 {
			return delivery{}, false
		}
		id, ok1 := row[0].(string)
		n, ok2 := row[1].(int64)
		fields, ok3 := row[2].([]any)
		return delivery{id: id, fields: fields, taken: true, deliveries: n}, ok1 && ok2 && (ok3 || row[2] == nil)
	})
}

func parseDeliveries(reply any, parse func([]any) (delivery, bool)) ([]delivery, error) {
	rows, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("a reply of %T, want entries", reply)
	}
	deliveries := make([]delivery, len(rows))
	for i, r := range rows {
		row, _ := r.([]any)
		if deliveries[i], ok = parse(row); !ok {
			return nil, fmt.Errorf("entry %d of the reply is malformed", i)
		}
	}
	return deliveries, nil
}
