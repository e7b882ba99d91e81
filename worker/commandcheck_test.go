package worker

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/muster-gateway/muster/pkg/stream"
)

func TestCheckCommand(t *testing.T) {
	for name, tt := range map[string]struct {
		op  int
		d   string
		err string // "": accepted
	}{
		"presence":             {3, `{"since":null,"activities":[{"name":"x","type":3}],"status":"dnd","afk":false}`, ""},
		"presence, unknown":    {3, `{"status":"dnd","activities":[{"name":"x","type":0,"emoji":{}}],"new":1}`, ""},
		"presence, no status":  {3, `{}`, "status"},
		"presence, a list":     {3, `[]`, "unmarshal"},
		"presence, cut":        {3, `{"status":"dnd"`, "not JSON"},
		"join":                 {4, `{"guild_id":"1","channel_id":"2","self_mute":false,"self_deaf":true}`, ""},
		"leave, number":        {4, `{"guild_id":1,"channel_id":null}`, ""},
		"join nowhere":         {4, `{"channel_id":"2"}`, "no guild_id"},
		"join, odd id":         {4, `{"guild_id":"x"}`, "not a number"},
		"join, odd mute":       {4, `{"guild_id":"1","self_mute":"yes"}`, "unmarshal"},
		"members by name":      {8, `{"guild_id":"1","query":"","limit":0}`, ""},
		"members by ids":       {8, `{"guild_id":"1","user_ids":["1",2]}`, ""},
		"members by id":        {8, `{"guild_id":"1","user_ids":"1"}`, ""},
		"members, nothing":     {8, `{"guild_id":"1","user_ids":null}`, "neither"},
		"members, too many":    {8, `{"guild_id":"1","user_ids":[` + strings.Repeat("1,", 100) + `1]}`, "101 user_ids"},
		"members, odd ids":     {8, `{"guild_id":"1","user_ids":{}}`, "user_ids"},
		"members, odd limit":   {8, `{"guild_id":"1","query":"","limit":-1}`, "limit"},
		"members, of no guild": {8, `{"query":""}`, "no guild_id"},
		"sounds":               {31, `{"guild_ids":["1"]}`, ""},
		"sounds of none":       {31, `{"guild_ids":[]}`, "no guild_ids"},
		"channels":             {43, `{"guild_id":"1","fields":["status"]}`, ""},
		"channels of none":     {43, `{"fields":["status"]}`, "no guild_id"},
		"identify":             {2, `{}`, "op 2"},
		"heartbeat":            {1, `null`, "op 1"},
		"unknown":              {99, `{}`, "op 99"},
	} {
		err := checkCommand(tt.op, json.RawMessage(tt.d))
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, want %q", name, err, tt.err)
		}
	}
}

func TestLaneOf(t *testing.T) {
	lane := func(op int, d string) commandLane {
		return laneOf(stream.QueuedCommand{Command: stream.Command{Op: op, Data: json.RawMessage(d)}})
	}
	if lane(3, `{}`) == lane(4, `{}`) {
		t.Error("two kinds of command share a lane")
	}
	if lane(8, `{"guild_id":"1"}`) == lane(8, `{"guild_id":"2"}`) {
		t.Error("requests of two guilds share a lane")
	}
	if lane(8, `{"guild_id":"1"}`) != lane(8, `{"guild_id":1,"query":""}`) || lane(4, `{"guild_id":"1"}`) != lane(4, `{"guild_id":"2"}`) {
		t.Error("commands that must not overtake each other are in two lanes")
	}
}

func FuzzCheckCommand(f *testing.F) {
	f.Add(3, `{"status":"idle"}`)
	f.Add(4, `{"guild_id":""}`)
	f.Add(8, `{"guild_id":null,"user_ids":""}`)
	f.Add(31, `{"guild_ids":[null]}`)
	f.Fuzz(func(t *testing.T, op int, d string) {
		err := checkCommand(op, json.RawMessage(d))
		if err == nil && !json.Valid([]byte(d)) {
			t.Errorf("op %d: %q is accepted", op, d)
		}
		laneOf(stream.QueuedCommand{Command: stream.Command{Op: op, Data: json.RawMessage(d)}})
	})
}
