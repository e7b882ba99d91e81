// Package event gives the events of the gateway, which everything else in muster handles as a name and bytes, their types.
//
// The types are those of disgo (https://pkg.go.dev/github.com/disgoorg/disgo/gateway). Parsing costs far more than passing an event
// on, so it is done on demand: look at the name first, and parse what you want to look into.
//
//	parsed, err := event.Parse("MESSAGE_CREATE", data)
//	…
//	switch e := parsed.(type) {
//	case gateway.EventMessageCreate:
//		fmt.Println(e.Content)
//	}
package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/disgoorg/disgo/gateway"
)

// Raw is an event without a type: disgo does not know its name, which Discord may have added since, or its payload does not fit.
type Raw struct {
	Type                 string // t, the event's name
	gateway.EventUnknown        // d, the payload: its bytes, also to the json package
}

// Error says that the payload of an event does not fit the type that disgo has for its name. It does not quote the payload.
type Error struct {
	Type string // the event's name
	Err  error  // what does not fit
}

// Error names the event.
func (e *Error) Error() string { return fmt.Sprintf("event %s: %v", e.Type, e.Err) }

// Unwrap returns what does not fit.
func (e *Error) Unwrap() error { return e.Err }

// Parse gives an event's d, as it is in shard.Event and in the entries of the streams, the type that belongs to its name: such as a
// gateway.EventMessageCreate, not a pointer to one. The event of a name that disgo does not know is a [Raw], which is no error,
// whatever is in it. What Parse returns is never nil and shares no memory with data; it may be called by many goroutines at once.
//
// If data does not fit its type, the error is an [*Error], and the event a [Raw].
func Parse(typ string, data []byte) (gateway.EventData, error) {
	parsed, err := unmarshal(typ, data)
	if _, unknown := parsed.(gateway.EventUnknown); !unknown && err == nil {
		return parsed, nil
	}
	raw := Raw{typ, bytes.Clone(data)}
	if err == nil || !known(typ) {
		return raw, nil
	}
	return raw, &Error{typ, err}
}

// known says whether disgo has a type for the name.
func known(typ string) bool {
	empty, _ := unmarshal(typ, []byte("{}"))
	_, unknown := empty.(gateway.EventUnknown)
	return !unknown
}

// unmarshal is disgo's, without its panics, and without the payload in its errors.
func unmarshal(typ string, data []byte) (parsed gateway.EventData, err error) {
	defer func() {
		// It asserts, for one, that the channel of a CHANNEL_CREATE is of a guild. What else can come is Discord's to decide.
		if cause := recover(); cause != nil {
			parsed, err = nil, fmt.Errorf("disgo cannot take it: %v", cause)
		}
	}()
	switch gateway.EventType(typ) { // disgo 0.19 has types for these two, but its decoder leaves them out
	case gateway.EventTypeMessagePollVoteAdd:
		return typed[gateway.EventMessagePollVoteAdd](data)
	case gateway.EventTypeMessagePollVoteRemove:
		return typed[gateway.EventMessagePollVoteRemove](data)
	}
	parsed, err = gateway.UnmarshalEventData(data, gateway.EventType(typ))
	if cause := errors.Unwrap(err); cause != nil {
		err = cause // "failed to unmarshal event data: <all of it>: cause"
	}
	return parsed, err
}

func typed[T gateway.EventData](data []byte) (gateway.EventData, error) {
	var event T
	err := json.Unmarshal(data, &event)
	return event, err
}
