package event_test

import (
	"errors"
	"fmt"

	"github.com/disgoorg/disgo/gateway"

	"github.com/muster-gateway/muster/pkg/event"
)

func ExampleParse() {
	for _, e := range []struct{ typ, data string }{
		{"MESSAGE_CREATE", `{"id":"1","channel_id":"2","content":"hello","author":{"id":"3","username":"ann"}}`},
		{"SOMETHING_NEW", `{"of":"Discord's"}`},
		{"MESSAGE_CREATE", `{"content":17}`},
	} {
		parsed, err := event.Parse(e.typ, []byte(e.data))
		if bad, ok := errors.AsType[*event.Error](err); ok {
			fmt.Printf("this %s does not fit\n", bad.Type)
		}
		switch e := parsed.(type) {
		case gateway.EventMessageCreate:
			fmt.Printf("%s says %s\n", e.Author.Username, e.Content)
		case event.Raw:
			fmt.Printf("a %s of %d bytes\n", e.Type, len(e.EventUnknown))
		}
	}
	// Output:
	// ann says hello
	// a SOMETHING_NEW of 18 bytes
	// this MESSAGE_CREATE does not fit
	// a MESSAGE_CREATE of 14 bytes
}
