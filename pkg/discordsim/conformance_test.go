package discordsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The opcodes that are not for bots to send are refused with 4001, before a session and in one; the others are known.
func TestOpcodes(t *testing.T) {
	sendable := []int{1, 2, 3, 4, 6, 8, 31, 43}
	for op := -1; op <= 45; op++ {
		for _, in := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Guilds: -1})
				c := r.dial(jsonQuery)
				if in {
					c.login(0, 1, 1)
				} else {
					c.want(10, "")
				}
				c.send(fmt.Sprintf(`{"op":%d,"d":null}`, op))
				if !slices.Contains(sendable, op) {
					c.wantClose(CloseUnknownOpcode)
				}
				synctest.Wait()
				for _, v := range r.Violations() {
					if (v.Rule == RuleUnknownOpcode) == slices.Contains(sendable, op) {
						t.Errorf("op %d: %+v", op, v)
					}
				}
			})
		}
	}
}

// shard_id = (guild_id >> 22) % num_shards.
func TestShardFormula(t *testing.T) {
	for _, tc := range []struct {
		guild       uint64
		total, want int
	}{
		{197038439483310086, 10, 0}, {197038439483310086, 7, 6}, {1<<22 - 1, 7, 0}, {1 << 22, 7, 1}, {1<<64 - 1, 3, 0}, {0, 9, 0}, {41771983423143937, 1, 0},
	} {
		if got := shardOf(tc.guild, tc.total); got != tc.want {
			t.Errorf("guild %d of %d shards is on %d, want %d", tc.guild, tc.total, got, tc.want)
		}
	}
}

func TestIntentValues(t *testing.T) {
	if AllIntents != 53608447 || UnprivilegedIntents != 53575421 || PrivilegedIntents != 1<<1|1<<8|1<<15 {
		t.Errorf("all %d, unprivileged %d, privileged %d", AllIntents, UnprivilegedIntents, PrivilegedIntents)
	}
}

// Each event comes with its intents and with no other: the table of Discord's documentation, in guilds and outside.
func TestIntentsOfEachEvent(t *testing.T) {
	cud := func(name string) string { return name + "_CREATE " + name + "_UPDATE " + name + "_DELETE " }
	type bits []int
	guild, direct := map[string]bits{}, map[string]bits{}
	add := func(to map[string]bits, bit int, names string) {
		for _, name := range strings.Fields(names) {
			to[name] = append(to[name], bit)
		}
	}
	add(guild, 0, cud("GUILD")+cud("GUILD_ROLE")+cud("CHANNEL")+cud("THREAD")+cud("STAGE_INSTANCE")+
		"CHANNEL_PINS_UPDATE THREAD_LIST_SYNC THREAD_MEMBER_UPDATE THREAD_MEMBERS_UPDATE VOICE_CHANNEL_STATUS_UPDATE VOICE_CHANNEL_START_TIME_UPDATE")
	add(guild, 1, "GUILD_MEMBER_ADD GUILD_MEMBER_UPDATE GUILD_MEMBER_REMOVE THREAD_MEMBERS_UPDATE")
	add(guild, 2, "GUILD_AUDIT_LOG_ENTRY_CREATE GUILD_BAN_ADD GUILD_BAN_REMOVE")
	add(guild, 3, "GUILD_EMOJIS_UPDATE GUILD_STICKERS_UPDATE GUILD_SOUNDBOARD_SOUNDS_UPDATE "+cud("GUILD_SOUNDBOARD_SOUND"))
	add(guild, 4, "GUILD_INTEGRATIONS_UPDATE "+cud("INTEGRATION"))
	add(guild, 5, "WEBHOOKS_UPDATE")
	add(guild, 6, "INVITE_CREATE INVITE_DELETE")
	add(guild, 7, "VOICE_STATE_UPDATE VOICE_CHANNEL_EFFECT_SEND")
	add(guild, 8, "PRESENCE_UPDATE")
	add(guild, 9, cud("MESSAGE")+"MESSAGE_DELETE_BULK")
	add(direct, 12, cud("MESSAGE")+"CHANNEL_PINS_UPDATE")
	reactions := "MESSAGE_REACTION_ADD MESSAGE_REACTION_REMOVE MESSAGE_REACTION_REMOVE_ALL MESSAGE_REACTION_REMOVE_EMOJI"
	add(guild, 10, reactions)
	add(direct, 13, reactions)
	add(guild, 11, "TYPING_START")
	add(direct, 14, "TYPING_START")
	add(guild, 16, cud("GUILD_SCHEDULED_EVENT")+"GUILD_SCHEDULED_EVENT_USER_ADD GUILD_SCHEDULED_EVENT_USER_REMOVE")
	add(guild, 20, cud("AUTO_MODERATION_RULE"))
	add(guild, 21, "AUTO_MODERATION_ACTION_EXECUTION")
	add(guild, 24, "MESSAGE_POLL_VOTE_ADD MESSAGE_POLL_VOTE_REMOVE")
	add(direct, 25, "MESSAGE_POLL_VOTE_ADD MESSAGE_POLL_VOTE_REMOVE")
	for name := range guild {
		for bit := range 26 {
			if got, want := Intents(1<<bit).admits(name, true), slices.Contains(guild[name], bit); got != want {
				t.Errorf("%s in a guild with bit %d: %v, want %v", name, bit, got, want)
			}
			if got, want := Intents(1<<bit).admits(name, false), slices.Contains(direct[name], bit); got != want {
				t.Errorf("%s outside guilds with bit %d: %v, want %v", name, bit, got, want)
			}
		}
		if !known(name) {
			t.Errorf("%s is not known", name)
		}
	}
	for _, name := range strings.Fields("APPLICATION_COMMAND_PERMISSIONS_UPDATE CHANNEL_INFO GUILD_MEMBERS_CHUNK INTERACTION_CREATE " +
		"SOUNDBOARD_SOUNDS USER_UPDATE VOICE_SERVER_UPDATE RATE_LIMITED READY RESUMED " + cud("ENTITLEMENT") + cud("SUBSCRIPTION")) {
		if !Intents(0).admits(name, true) || !Intents(0).admits(name, false) {
			t.Errorf("%s needs an intent", name)
		}
	}
	if len(eventRules) != len(guild) {
		t.Errorf("%d events have rules, %d are documented", len(eventRules), len(guild))
	}
}

// An event goes to the shard that Discord sends it to, and cannot be sent to another by accident.
func TestDispatchOnlyWhereItBelongs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 2, MaxConcurrency: 2})
		onOne := r.Guilds()[0]
		if shardOf(onOne, 2) == 0 {
			onOne = r.Guilds()[1]
		}
		intents := IntentGuildMessages | IntentDirectMessages
		for shard := range 2 {
			r.dial(jsonQuery).login(shard, 2, intents)
		}
		of := func(field string) string { return fmt.Sprintf(`{%q:"%d"}`, field, onOne) }
		for _, tc := range []struct {
			shard int
			event string
			d     string
			n     int
			says  string
		}{
			{0, "MESSAGE_CREATE", `{}`, 1, ""},
			{1, "MESSAGE_CREATE", `{}`, 0, "shard 0 only"},
			{AllShards, "MESSAGE_CREATE", `{}`, 1, ""},
			{1, "ENTITLEMENT_CREATE", `{}`, 0, "shard 0 only"},
			{1, "USER_UPDATE", `{}`, 0, "shard 0 only"},
			{1, "INTERACTION_CREATE", `[]`, 0, "shard 0 only"},
			{1, "MESSAGE_CREATE", of("guild_id"), 1, ""},
			{0, "MESSAGE_CREATE", of("guild_id"), 0, "is on another shard"},
			{AllShards, "MESSAGE_CREATE", of("guild_id"), 1, ""},
			{0, "GUILD_UPDATE", of("id"), 0, "is on another shard"},
			{0, "RATE_LIMITED", `{}`, 1, ""},
			{1, "RATE_LIMITED", `{}`, 1, ""},
			{AllShards, "OF_THE_FUTURE", `{}`, 2, ""},
			{2, "MESSAGE_CREATE", `{}`, 0, ""},
		} {
			n, err := r.Dispatch(tc.shard, tc.event, json.RawMessage(tc.d))
			if n != tc.n || (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s %s to %d: %d sessions, %v; want %d and %q", tc.event, tc.d, tc.shard, n, err, tc.n, tc.says)
			}
		}
	})
}

// A bot hears of changes to its own member without GUILD_MEMBERS, and of nobody else's.
func TestOwnMemberUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 1})
		r.dial(jsonQuery).login(0, 1, IntentGuildMessages)
		for user, want := range map[uint64]int{r.world.bot: 1, 5: 0} {
			d := fmt.Appendf(nil, `{"user":{"id":"%d"}}`, user)
			if n, err := r.DispatchGuild(r.Guilds()[0], "GUILD_MEMBER_UPDATE", d); n != want || err != nil {
				t.Errorf("user %d: %d sessions, %v", user, n, err)
			}
		}
	})
}

// READY says which version is spoken, names the shard only if the client did, and has the new application flags.
func TestReadyFields(t *testing.T) {
	for _, version := range []string{"9", "10"} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Options{Guilds: 1})
			c := r.dial("?encoding=json&v=" + version)
			c.want(10, "")
			c.send(identifyWith(`"capabilities":32768,"large_threshold":250,"presence":{"since":null,"activities":[],"status":"idle","afk":true}`))
			m := c.want(0, "READY")
			var ready map[string]json.RawMessage
			if err := json.Unmarshal(m.D, &ready); err != nil || *m.S != 1 {
				t.Fatalf("%v: %s", err, m.raw)
			}
			for _, field := range []string{"v", "user", "guilds", "session_id", "resume_gateway_url", "application"} {
				if _, there := ready[field]; !there {
					t.Errorf("READY has no %s", field)
				}
			}
			if _, named := ready["shard"]; named || string(ready["v"]) != version || !strings.Contains(string(ready["application"]), `"flags_new":"`) {
				t.Errorf("READY is %s", m.D)
			}
		})
	}
}

// guildData is what tests look at in GUILD_CREATE.
type guildData struct {
	Large       bool `json:"large"`
	MemberCount int  `json:"member_count"`
	Members     []struct {
		User struct {
			ID string `json:"id"`
		} `json:"user"`
	} `json:"members"`
	Presences []json.RawMessage `json:"presences"`
	Voice     []struct {
		UserID string `json:"user_id"`
	} `json:"voice_states"`
	Channels []struct {
		Name  string `json:"name"`
		Flags int    `json:"flags"`
		Topic string `json:"topic"`
	} `json:"channels"`
}

// guildSeen identifies with these members of d and returns the GUILD_CREATE that follows.
func guildSeen(t *testing.T, opts Options, members string) (g guildData, bot string) {
	t.Helper()
	r := start(t, opts)
	c := r.dial(jsonQuery)
	c.want(10, "")
	c.send(identifyWith(members))
	c.want(0, "READY")
	if err := json.Unmarshal(c.want(0, "GUILD_CREATE").D, &g); err != nil {
		t.Fatal(err)
	}
	return g, fmt.Sprint(r.world.bot)
}

// Without GUILD_PRESENCES a guild shows the bot and who is in a voice channel, and no presences.
func TestMembersOfAGuildFollowTheIntents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, bot := guildSeen(t, Options{Guilds: 1}, `"intents":1`)
		inVoice := map[string]bool{bot: true}
		for _, v := range g.Voice {
			inVoice[v.UserID] = true
		}
		for _, m := range g.Members {
			if !inVoice[m.User.ID] {
				t.Errorf("member %s is not in a voice channel", m.User.ID)
			}
		}
		if g.Members[0].User.ID != bot || len(g.Presences) != 0 {
			t.Errorf("first member %s, bot %s, %d presences", g.Members[0].User.ID, bot, len(g.Presences))
		}
		g, _ = guildSeen(t, Options{Guilds: 1, Privileged: PrivilegedIntents}, `"intents":257`)
		if len(g.Members) <= len(inVoice) || len(g.Presences) == 0 {
			t.Errorf("with presences: %d members, %d presences", len(g.Members), len(g.Presences))
		}
	})
}

func TestLargeThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			members   string
			threshold int
		}{{`"compress":false`, 50}, {`"large_threshold":250`, 250}} {
			for seed := range uint64(20) {
				g, _ := guildSeen(t, Options{Guilds: 1, Seed: seed}, tc.members)
				if g.Large != (g.MemberCount > tc.threshold) {
					t.Errorf("%s: a guild of %d is large: %v", tc.members, g.MemberCount, g.Large)
				}
			}
		}
	})
}

// Channels that the bot cannot view are shown obfuscated to those that ask for it, or to all.
func TestObfuscatedChannels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			members string
			always  bool
			want    bool
		}{{`"capabilities":0`, false, false}, {`"capabilities":32768`, false, true}, {`"capabilities":32767`, false, false}, {`"capabilities":0`, true, true}} {
			g, _ := guildSeen(t, Options{Guilds: 1, Unspecified: Unspecified{ObfuscateChannels: tc.always}}, tc.members)
			hidden := 0
			for _, c := range g.Channels {
				if (c.Name == "___hidden___") != (c.Flags&(1<<17) != 0) || c.Flags != 0 && c.Topic != "" {
					t.Errorf("channel %+v", c)
				}
				if c.Flags != 0 {
					hidden++
				}
			}
			if (hidden > 0) != tc.want || hidden == len(g.Channels) {
				t.Errorf("%s, always %v: %d of %d channels are hidden", tc.members, tc.always, hidden, len(g.Channels))
			}
		}
	})
}

// RESUMEs cost no budget, are not spaced, and nor are connections.
func TestResumesAndConnectionsAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		for i := range 50 {
			_ = c.ws.CloseNow()
			synctest.Wait()
			c, _ = r.resumeWant(id, int64(i+1))
		}
		if st := r.Stats(); st.BudgetRemaining != 999 || st.Violations != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
}

// A socket that resumed on the base URL can be made to be cut sooner; one that used resume_gateway_url is not.
func TestBaseResumesAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: -1, Unspecified: Unspecified{CutBaseResumesAfter: 20 * time.Second}})
		c := r.dial(jsonQuery)
		id := c.login(0, 1, 1).SessionID
		r.Drop(0)
		synctest.Wait()
		c = r.dial(jsonQuery)
		c.want(10, "")
		c.send(resumeJSON(id, 1))
		c.want(0, "RESUMED")
		begun := time.Now()
		c.want(7, "")
		if took := time.Since(begun); took != 20*time.Second {
			t.Errorf("cut after %v", took)
		}
		r.Drop(0)
		synctest.Wait()
		c, _ = r.resumeWant(id, 2)
		c.silence(40 * time.Second)
	})
}

// Fifty requests in a second are answered, more are not.
func TestHTTPRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{})
		for i := range httpLimit + 1 {
			want := http.StatusOK
			if i == httpLimit {
				want = http.StatusTooManyRequests
			}
			if status, body := r.get("/api/v10/gateway/bot", "Bot "+DefaultToken); status != want {
				t.Errorf("request %d: %d %s", i, status, body)
			}
		}
		if v := r.Violations(); len(v) != 1 || v[0].Rule != RuleHTTPRate || v[0].Shard != -1 {
			t.Errorf("violations: %+v", v)
		}
		time.Sleep(httpPeriod)
		if status, _ := r.get("/api/v10/gateway/bot", "Bot "+DefaultToken); status != http.StatusOK {
			t.Errorf("a second later: %d", status)
		}
	})
}
