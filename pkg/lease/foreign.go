package lease

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Foreign are the fields of a record that this version does not know. Records that are read, changed and written back have it, so that in a
// cluster of two versions, as it is while it is upgraded, the older one does not take out what the newer one put in.
type Foreign struct{ object string } // JSON; empty if there are none

func (u Foreign) kept() string        { return u.object }
func (u *Foreign) keep(object string) { u.object = object }

// unknownIn is what a record of into's kind has beside the fields of that. The value was decoded before, so it is an object.
func unknownIn(value []byte, into any) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil {
		return ""
	}
	kind := reflect.TypeOf(into).Elem()
	for i := range kind.NumField() {
		name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
		delete(fields, name)
	}
	if len(fields) == 0 {
		return ""
	}
	text, err := json.Marshal(fields) // sorted by name, so that equal records compare equal
	if err != nil {
		return ""
	}
	return string(text)
}

// withUnknown adds kept fields to a record's JSON.
func withUnknown(record []byte, kept string) []byte {
	inside := strings.TrimPrefix(kept, "{")
	switch {
	case kept == "":
		return record
	case string(record) == "{}":
		return []byte(kept)
	default:
		return []byte(strings.TrimSuffix(string(record), "}") + "," + inside)
	}
}
