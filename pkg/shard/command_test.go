package shard

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestEncode(t *testing.T) {
	var many []uint64
	for range maxUserIDs + 1 {
		many = append(many, 1)
	}
	for _, c := range []struct {
		name string
		cmd  Command
		want string // empty: refused
		lane lane
		all  bool
	}{
		{name: "presence", cmd: Presence{Status: "dnd", Activities: []Activity{{Name: "on {{shard}}", Type: 4, State: "{{shard}}\""}}},
			want: `{"op":3,"d":{"since":null,"activities":[{"name":"on 3","type":4,"state":"3\""}],"status":"dnd","afk":false}}`, lane: lane{op: 3}},
		{name: "presence with what HTML escapes", cmd: Presence{Status: "online", Activities: []Activity{{Name: "<a & b>"}}},
			want: `{"op":3,"d":{"since":null,"activities":[{"name":"<a & b>","type":0}],"status":"online","afk":false}}`, lane: lane{op: 3}},
		{name: "presence without activities", cmd: Presence{Status: "online"},
			want: `{"op":3,"d":{"since":null,"activities":[],"status":"online","afk":false}}`, lane: lane{op: 3}},
		{name: "presence of no status", cmd: Presence{}},
		{name: "activity of no type", cmd: Presence{Status: "online", Activities: []Activity{{Name: "x", Type: 6}}}},
		{name: "activity of no name", cmd: Presence{Status: "online", Activities: []Activity{{}}}},
		{name: "voice", cmd: UpdateVoiceState{GuildID: 1 << 60, ChannelID: 2, SelfMute: true},
			want: `{"op":4,"d":{"guild_id":"1152921504606846976","channel_id":"2","self_mute":true,"self_deaf":false}}`, lane: lane{op: 4}},
		{name: "voice, leave", cmd: UpdateVoiceState{GuildID: 1},
			want: `{"op":4,"d":{"guild_id":"1","channel_id":null,"self_mute":false,"self_deaf":false}}`, lane: lane{op: 4}},
		{name: "voice of no guild", cmd: UpdateVoiceState{ChannelID: 2}},
		{name: "everyone", cmd: RequestGuildMembers{GuildID: 7, Presences: true, Nonce: "n"},
			want: `{"op":8,"d":{"guild_id":"7","limit":0,"nonce":"n","presences":true,"query":""}}`, lane: lane{8, "7"}, all: true},
		{name: "some members", cmd: RequestGuildMembers{GuildID: 7, Query: "a", Limit: 5},
			want: `{"op":8,"d":{"guild_id":"7","limit":5,"query":"a"}}`, lane: lane{8, "7"}},
		{name: "members by id", cmd: RequestGuildMembers{GuildID: 7, UserIDs: []uint64{1, 2}},
			want: `{"op":8,"d":{"guild_id":"7","user_ids":["1","2"]}}`, lane: lane{8, "7"}},
		{name: "members of no guild", cmd: RequestGuildMembers{}},
		{name: "members, too many", cmd: RequestGuildMembers{GuildID: 7, UserIDs: many}},
		{name: "members by id and name", cmd: RequestGuildMembers{GuildID: 7, UserIDs: []uint64{1}, Query: "a"}},
		{name: "members below zero", cmd: RequestGuildMembers{GuildID: 7, Limit: -1}},
		{name: "members with a long nonce", cmd: RequestGuildMembers{GuildID: 7, Nonce: strings.Repeat("n", maxNonceBytes+1)}},
		{name: "sounds", cmd: RequestSoundboardSounds{GuildIDs: []uint64{1, 2}},
			want: `{"op":31,"d":{"guild_ids":["1","2"]}}`, lane: lane{op: 31}},
		{name: "sounds of no guild", cmd: RequestSoundboardSounds{}},
		{name: "channels", cmd: RequestChannelInfo{GuildID: 1, Fields: []string{"status"}},
			want: `{"op":43,"d":{"fields":["status"],"guild_id":"1"}}`, lane: lane{op: 43}},
		{name: "channels of no guild", cmd: RequestChannelInfo{Fields: []string{"status"}}},
		{name: "channels without fields", cmd: RequestChannelInfo{GuildID: 1}},
		{name: "raw", cmd: Raw{Op: 44, Data: json.RawMessage(`{"new": 1}`)}, want: `{"op":44,"d":{"new":1}}`, lane: lane{op: 44}},
		{name: "raw members, id as a number", cmd: Raw{Op: 8, Data: json.RawMessage(`{"guild_id":7,"query":"","limit":0}`)},
			want: `{"op":8,"d":{"guild_id":7,"query":"","limit":0}}`, lane: lane{8, "7"}, all: true},
		{name: "raw members, a list of none", cmd: Raw{Op: 8, Data: json.RawMessage(`{"guild_id":"7","query":"","limit":0,"user_ids":[]}`)},
			want: `{"op":8,"d":{"guild_id":"7","query":"","limit":0,"user_ids":[]}}`, lane: lane{8, "7"}, all: true},
		{name: "raw members, no list", cmd: Raw{Op: 8, Data: json.RawMessage(`{"guild_id":"7","query":"","limit":0,"user_ids":null}`)},
			want: `{"op":8,"d":{"guild_id":"7","query":"","limit":0,"user_ids":null}}`, lane: lane{8, "7"}, all: true},
		{name: "raw members, one id", cmd: Raw{Op: 8, Data: json.RawMessage(`{"guild_id":"7","query":"","limit":0,"user_ids":"1"}`)},
			want: `{"op":8,"d":{"guild_id":"7","query":"","limit":0,"user_ids":"1"}}`, lane: lane{8, "7"}},
		{name: "raw members, unknown form", cmd: Raw{Op: 8, Data: json.RawMessage(`{"guild_id":"7","limit":"x"}`)},
			want: `{"op":8,"d":{"guild_id":"7","limit":"x"}}`, lane: lane{8, ""}, all: true},
		{name: "raw of no JSON", cmd: Raw{Op: 3, Data: json.RawMessage(`{`)}},
		{name: "raw identify", cmd: Raw{Op: opIdentify, Data: json.RawMessage(`{}`)}},
		{name: "raw heartbeat", cmd: Raw{Op: opHeartbeat, Data: json.RawMessage(`1`)}},
		{name: "raw resume", cmd: Raw{Op: opResume, Data: json.RawMessage(`{}`)}},
		{name: "raw below zero", cmd: Raw{Op: -1, Data: json.RawMessage(`{}`)}},
		{name: "as large as can be", cmd: Raw{Op: 44, Data: filler(maxCommandBytes)}, want: string(`{"op":44,"d":`) + string(filler(maxCommandBytes)) + "}", lane: lane{op: 44}},
		{name: "too large", cmd: Raw{Op: 44, Data: filler(maxCommandBytes + 1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := encode(c.cmd, ID{3, 16})
			if c.want == "" {
				if !errors.Is(err, ErrBadCommand) {
					t.Fatalf("not refused: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(out.payload) != c.want || out.lane != c.lane || out.everyone != c.all {
				t.Errorf("%s in lane %v, everyone %v", out.payload, out.lane, out.everyone)
			}
		})
	}
}

// filler is the d that makes a message of so many bytes with op 44.
func filler(message int) json.RawMessage {
	return json.RawMessage(`"` + strings.Repeat("x", message-len(`{"op":44,"d":""}`)) + `"`)
}

func TestParsePresence(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"status":"online"}`: true,
		`{"since":5,"activities":[{"name":"shard {{shard}}","type":3}],"status":"idle","afk":true}`: true,
		``:                                   false,
		`"online"`:                           false,
		`{}`:                                 false,
		`{"status":"away"}`:                  false,
		`{"status":"online","activitys":[]}`: false,
		`{"status":"online"} {}`:             false,
		`{"status":"online","activities":[{"type":0}]}`:                false,
		`{"status":"online","activities":[{"name":"x","type":"0"}]}`:   false,
		`{"status":"online","activities":[{"name":"x","emoji":"no"}]}`: false,
	} {
		if p, err := ParsePresence(text); (err == nil) != ok {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
}

func FuzzParsePresence(f *testing.F) {
	f.Add(`{"since":5,"activities":[{"name":"shard {{shard}}","type":3}],"status":"idle","afk":true}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePresence(text)
		if err != nil {
			return
		}
		if _, err := encode(p, ID{0, 1}); err != nil && !strings.Contains(err.Error(), "bytes") {
			t.Errorf("accepted, but cannot be sent: %v", err)
		}
	})
}

func FuzzEncodeRaw(f *testing.F) {
	f.Add(8, []byte(`{"guild_id":"7","user_ids":"1","query":"","limit":0}`))
	f.Add(3, []byte(`{"since":null}`))
	f.Fuzz(func(t *testing.T, op int, data []byte) {
		out, err := encode(Raw{op, data}, ID{0, 1})
		if err != nil {
			return
		}
		var m struct {
			Op   int             `json:"op"`
			Data json.RawMessage `json:"d"`
		}
		if err := json.Unmarshal(out.payload, &m); err != nil || m.Op != op || len(out.payload) > maxCommandBytes {
			t.Errorf("%q: %v", out.payload, err)
		}
	})
}
