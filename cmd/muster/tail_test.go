package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/muster-gateway/muster/pkg/stream"
)

func message(eventType, data string) stream.Message {
	return stream.Message{Shard: 3, ID: stream.ID{Epoch: 1, Seq: 42}, Type: eventType, Data: []byte(data)}
}

func TestTailPrints(t *testing.T) {
	long := `{"content":"` + strings.Repeat("ü", dWidth) + `"}`
	for name, tt := range map[string]struct {
		json, colours bool
		message       stream.Message
		want          string
	}{
		"plain":             {false, false, message("READY", `{"v":10}`), "   3  1-42         READY                        {\"v\":10}\n"},
		"colours":           {false, true, message("READY", `{}`), "\x1b[?7l\x1b[1m   3\x1b[0m  \x1b[2m1-42        \x1b[0m \x1b[33mREADY                       \x1b[0m {}\x1b[?7h\n"},
		"escape sequences":  {false, false, message("A\x1b[2J", "\x1b]0;title\a\u009b"), "   3  1-42         A·[2J                        ·]0;title··\n"},
		"long, cut between": {false, false, message("A", long), "   3  1-42         A                            " + `{"content":"` + strings.Repeat("ü", 54) + "…\n"},
		"json":              {true, true, message("A", `{"a": 1}`), `{"shard":3,"id":"1-42","t":"A","d":{"a":1}}` + "\n"},
		"json of no json":   {true, false, message("A", `{`), `{"shard":3,"id":"1-42","t":"A","d":null}` + "\n"},
	} {
		var out bytes.Buffer
		p := newPrinter(&out, tt.json, tt.colours)
		if err := p.print(tt.message); err != nil {
			t.Fatal(err)
		}
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		if out.String() != tt.want {
			t.Errorf("%s:\n%q, want\n%q", name, out.String(), tt.want)
		}
		if tt.json && !json.Valid(out.Bytes()) {
			t.Errorf("%s: no JSON", name)
		}
	}
}

func TestTailGuilds(t *testing.T) {
	c := tailCmd{Guild: []uint64{7, 8}}
	for _, tt := range []struct {
		message stream.Message
		want    bool
	}{
		{message("MESSAGE_CREATE", `{"id":"1","guild_id":"7"}`), true},
		{message("MESSAGE_CREATE", `{"id":"7","guild_id":"9"}`), false},
		{message("MESSAGE_CREATE", `{"id":"7"}`), false}, // a direct message
		{message("GUILD_CREATE", `{"id":"8"}`), true},
		{message("GUILD_CREATE", `{"id":"9"}`), false},
		{message("GUILD_ROLE_CREATE", `{"guild_id":"8"}`), true},
		{message("READY", `[]`), false},
		{message(stream.GapType, `{}`), true},
	} {
		if got := c.wants(tt.message); got != tt.want {
			t.Errorf("%s %s: %v", tt.message.Type, tt.message.Data, got)
		}
	}
	if c := (&tailCmd{}); !c.wants(message("READY", "{}")) {
		t.Error("without a filter, READY is left out")
	}
}

func TestNoColoursOnPipes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if colourful(w) {
		t.Error("a pipe is colourful")
	}
}
