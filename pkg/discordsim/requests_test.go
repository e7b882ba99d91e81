package discordsim

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequestsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 1, Privileged: PrivilegedIntents})
		guild := r.Guilds()[0]
		c := r.dial(jsonQuery)
		c.login(0, 1, AllIntents)
		c.want(0, "GUILD_CREATE")
		for _, tc := range []struct {
			send string // %d stands for the guild, %m for a member of it
			want map[string]string
		}{
			{`{"op":3,"d":{"since":null,"activities":[{"name":"x","type":0}],"status":"dnd","afk":false}}`, nil},
			{`{"op":4,"d":{"guild_id":"%d","channel_id":"77","self_mute":true,"self_deaf":false}}`,
				map[string]string{"VOICE_STATE_UPDATE": `"channel_id":"77"`, "VOICE_SERVER_UPDATE": `"endpoint":"voice-`}},
			{`{"op":4,"d":{"guild_id":"%d","channel_id":null,"self_mute":true,"self_deaf":false}}`,
				map[string]string{"VOICE_STATE_UPDATE": `"channel_id":null`}},
			{`{"op":8,"d":{"guild_id":"%d","query":"","limit":0,"nonce":"a\"b"}}`,
				map[string]string{"GUILD_MEMBERS_CHUNK": `"chunk_index":0,"chunk_count":1,"not_found":[],"nonce":"a\"b"}`}},
			{`{"op":8,"d":{"guild_id":"%d","query":"","limit":0,"nonce":"` + strings.Repeat("n", 33) + `"}}`,
				map[string]string{"RATE_LIMITED": `{"opcode":8,"retry_after":30.000,"meta":{"guild_id":"%d"}}`}},
			{`{"op":8,"d":{"guild_id":"%d","user_ids":["5","%m"]}}`,
				map[string]string{"GUILD_MEMBERS_CHUNK": `"chunk_index":0,"chunk_count":1,"not_found":["5"]}`}},
			{`{"op":8,"d":{"guild_id":%d,"user_ids":"%m","presences":true}}`,
				map[string]string{"GUILD_MEMBERS_CHUNK": `"presences":[{"user":{"id":"%m"},`}},
			{`{"op":8,"d":{"guild_id":"%d","query":"a","limit":7}}`,
				map[string]string{"GUILD_MEMBERS_CHUNK": `"chunk_count":1`}},
			{`{"op":31,"d":{"guild_ids":["%d","1"]}}`,
				map[string]string{"SOUNDBOARD_SOUNDS": `"soundboard_sounds":[{`}},
			{`{"op":43,"d":{"guild_id":"%d","fields":["status","voice_start_time"]}}`,
				map[string]string{"CHANNEL_INFO": `"channels":[{"id":"` + fmt.Sprint(derive(guild, 'v', 0)) + `","status":"listening to rain","voice_start_time":`}},
			{`{"op":43,"d":{"guild_id":"%d","fields":[]}}`,
				map[string]string{"CHANNEL_INFO": `"channels":[{"id":"` + fmt.Sprint(derive(guild, 'v', 0)) + `"}]`}},
			{`{"op":8,"d":{"guild_id":"4194304","query":"","limit":0}}`, nil}, // not a guild of the bot's
		} {
			fill := strings.NewReplacer("%d", fmt.Sprint(guild), "%m", fmt.Sprint(r.world.member(guild, 3).id))
			send := fill.Replace(tc.send)
			c.send(send)
			for range tc.want {
				m := c.must()
				if want, expected := tc.want[m.T]; !expected || !strings.Contains(string(m.D), fill.Replace(want)) || !json.Valid(m.D) {
					t.Errorf("%s is answered with %s", send, m.raw)
				}
			}
		}
		c.send(`{"op":1,"d":1}`)
		c.want(11, "") // and nothing before it
	})
}

// All members come in chunks of a thousand, but only to bots with the intent, and once in 30 s.
func TestAllMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 64, Privileged: PrivilegedIntents, HeartbeatInterval: 2 * time.Minute})
		var guild uint64
		for _, g := range r.Guilds() {
			if isLarge(g) {
				guild = g
			}
		}
		request := fmt.Sprintf(`{"op":8,"d":{"guild_id":"%d","query":"","limit":0}}`, guild)
		without := r.dial(jsonQuery)
		without.login(0, 1, IntentGuildMessages)
		without.send(request)
		time.Sleep(5 * time.Second)

		c := r.dial(jsonQuery)
		c.login(0, 1, IntentGuildMembers)
		for range 2 {
			c.send(request)
			seen := make(map[string]bool)
			for index, count := 0, 1; index < count; index++ {
				var chunk struct {
					Index   int `json:"chunk_index"`
					Count   int `json:"chunk_count"`
					Members []struct {
						User struct {
							ID string `json:"id"`
						} `json:"user"`
					} `json:"members"`
				}
				if err := json.Unmarshal(c.want(0, "GUILD_MEMBERS_CHUNK").D, &chunk); err != nil {
					t.Fatal(err)
				}
				if count = chunk.Count; chunk.Index != index || len(chunk.Members) > 1000 {
					t.Errorf("chunk %d of %d, expected %d, has %d members", chunk.Index, count, index, len(chunk.Members))
				}
				for _, m := range chunk.Members {
					seen[m.User.ID] = true
				}
			}
			if want := r.world.members(guild); len(seen) != want {
				t.Errorf("%d members of %d", len(seen), want)
			}
			c.send(request)
			c.want(0, "RATE_LIMITED")
			time.Sleep(allMembersPeriod)
		}
		without.send(`{"op":1,"d":1}`)
		without.want(11, "")
	})
}

// memberChunk is what tests look at in GUILD_MEMBERS_CHUNK.
type memberChunk struct {
	Members []struct {
		User struct {
			ID       string `json:"id"`
			Username string `json:"username"`
		} `json:"user"`
	} `json:"members"`
	Presences []json.RawMessage `json:"presences"`
}

// A query finds those whose name begins like it, at most a hundred; presences come with their intent only.
func TestMemberQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 64, MaxConcurrency: 2, Privileged: PrivilegedIntents})
		var guild uint64
		for _, g := range r.Guilds() {
			if isLarge(g) {
				guild = g
			}
		}
		for _, tc := range []struct {
			intents        Intents
			query          string
			atMost         int
			wantPresences  bool
			wantAtLeastOne bool
		}{
			{IntentGuildMessages, `"query":"KAI","limit":0`, 100, false, true},
			{IntentGuildMessages, `"query":"","limit":1000`, 100, false, true},
			{IntentGuildMessages, `"query":"kai","limit":3,"presences":true`, 3, false, true},
			{IntentGuildPresences, `"query":"kai","limit":3,"presences":true`, 3, true, true},
			{IntentGuildPresences, `"query":"kai","limit":3`, 3, false, true},
			{IntentGuildMessages, `"query":"nobody is called so","limit":0`, 100, false, false},
		} {
			c := r.dial(jsonQuery)
			c.login(0, 1, tc.intents)
			c.send(fmt.Sprintf(`{"op":8,"d":{"guild_id":"%d",%s}}`, guild, tc.query))
			var chunk memberChunk
			if err := json.Unmarshal(c.want(0, "GUILD_MEMBERS_CHUNK").D, &chunk); err != nil {
				t.Fatal(err)
			}
			if n := len(chunk.Members); n > tc.atMost || (n > 0) != tc.wantAtLeastOne || (len(chunk.Presences) == n && n > 0) != tc.wantPresences {
				t.Errorf("%s with %d: %d members, %d presences", tc.query, tc.intents, n, len(chunk.Presences))
			}
			for _, m := range chunk.Members {
				if strings.Contains(strings.ToLower(tc.query), "kai") && !strings.HasPrefix(m.User.Username, "kai") {
					t.Errorf("%s finds %s", tc.query, m.User.Username)
				}
			}
			time.Sleep(5 * time.Second)
		}
	})
}
