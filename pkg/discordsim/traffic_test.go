package discordsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// collect makes n background events for one session and returns them by type.
func collect(t *testing.T, opts Options, intents Intents, shard, total, n int) map[string][]json.RawMessage {
	t.Helper()
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	sess := &session{shard: shard, total: total, intents: intents, replay: replay{maxEvents: n, maxBytes: 1 << 30}}
	s.sessions = append(s.sessions, sess)
	s.reroute()
	for i := 0; sess.replay.last < int64(n); i++ {
		s.emit(&s.traffic.gen, time.Unix(1.78e9, 0))
		if i > 100*n {
			t.Fatalf("only %d events came", sess.replay.last)
		}
	}
	events := make(map[string][]json.RawMessage)
	for _, frame := range sess.replay.frames {
		var m message
		if err := json.Unmarshal(frame, &m); err != nil {
			t.Fatalf("%v: %s", err, frame)
		}
		events[m.T] = append(events[m.T], m.D)
	}
	return events
}

// The traffic is valid, realistic in mix and size, and never the same twice.
func TestTrafficMix(t *testing.T) {
	const n = 20_000
	events := collect(t, Options{Privileged: PrivilegedIntents}, AllIntents, 0, 1, n)
	seen := make(map[uint64]bool, n)
	for kind, share := range map[string][2]float64{ // of all events, in percent
		"PRESENCE_UPDATE": {50, 60}, "MESSAGE_CREATE": {18, 22}, "TYPING_START": {9, 11}, "VOICE_STATE_UPDATE": {4, 6},
		"GUILD_MEMBER_UPDATE": {4, 6}, "INTERACTION_CREATE": {1.5, 2.5}, "MESSAGE_UPDATE": {1, 2},
		"MESSAGE_REACTION_ADD": {1, 2}, "GUILD_CREATE": {0.005, 0.15},
	} {
		got := 100 * float64(len(events[kind])) / n
		if got < share[0] || got > share[1] {
			t.Errorf("%s is %.2f %% of the events, want %v", kind, got, share)
		}
	}
	for kind, ds := range events {
		bytes := 0
		for _, d := range ds {
			bytes += len(d)
			if sum := Sum(d); seen[sum] {
				t.Errorf("%s came twice: %s", kind, d)
			} else {
				seen[sum] = true
			}
			if kind == "GUILD_CREATE" && (len(d) < 50_000 || len(d) > 500_000) {
				t.Errorf("a GUILD_CREATE of %d bytes", len(d))
			}
		}
		if mean := bytes / len(ds); kind == "MESSAGE_CREATE" && (mean < 1000 || mean > 2000) {
			t.Errorf("a MESSAGE_CREATE has %d bytes in the mean", mean)
		}
	}
}

// Every event of a guild belongs to the shard it is sent to, and only shard 0 hears what belongs to none.
func TestTrafficBelongsToTheShard(t *testing.T) {
	for shard := range 3 {
		direct := 0
		for kind, ds := range collect(t, Options{Guilds: 30, Privileged: PrivilegedIntents}, AllIntents, shard, 3, 1500) {
			for _, d := range ds {
				var where struct {
					ID      string  `json:"id"`
					GuildID *string `json:"guild_id"`
				}
				if err := json.Unmarshal(d, &where); err != nil {
					t.Fatal(err)
				}
				if kind == "GUILD_CREATE" {
					where.GuildID = &where.ID
				}
				if where.GuildID == nil {
					direct++
					continue
				}
				id, err := strconv.ParseUint(*where.GuildID, 10, 64)
				if err != nil || int((id>>22)%3) != shard {
					t.Fatalf("shard %d of 3 got %s: %s", shard, kind, d)
				}
			}
		}
		if (direct > 0) != (shard == 0) {
			t.Errorf("shard %d got %d direct messages", shard, direct)
		}
	}
}

func TestTrafficFollowsTheIntents(t *testing.T) {
	for _, tc := range []struct {
		intents Intents
		want    []string
	}{
		{0, []string{"INTERACTION_CREATE"}},
		{IntentGuildMessages, []string{"INTERACTION_CREATE", "MESSAGE_CREATE", "MESSAGE_UPDATE"}},
		{IntentGuildPresences, []string{"INTERACTION_CREATE", "PRESENCE_UPDATE"}},
		{IntentDirectMessageTyping, []string{"INTERACTION_CREATE", "TYPING_START"}},
	} {
		events := collect(t, Options{Guilds: 10}, tc.intents, 0, 1, 1000)
		for _, kind := range tc.want {
			if len(events[kind]) == 0 {
				t.Errorf("intents %d: no %s", tc.intents, kind)
			}
		}
		if len(events) != len(tc.want) {
			t.Errorf("intents %d: got %d kinds, want %v", tc.intents, len(events), tc.want)
		}
	}
}

// Two sessions of one shard that asked for different things get different things.
func TestTrafficFollowsTheIntentsOfEachSession(t *testing.T) {
	s, err := New(Options{Guilds: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, intents := range []Intents{IntentGuildMessageTyping, IntentGuildMessageReactions} {
		s.sessions = append(s.sessions, &session{total: 1, intents: intents, record: true, replay: replay{maxEvents: 1, maxBytes: 1}})
	}
	s.reroute()
	for range 1000 {
		s.emit(&s.traffic.gen, time.Unix(1.78e9, 0))
	}
	for i, own := range []string{"TYPING_START", "MESSAGE_REACTION_ADD"} {
		seen := make(map[string]bool)
		for _, d := range s.Sessions()[i].Dispatches {
			seen[d.Type] = true
		}
		if len(seen) != 2 || !seen[own] || !seen["INTERACTION_CREATE"] {
			t.Errorf("the session that asked for %s got %v", own, seen)
		}
	}
}

// Without MESSAGE_CONTENT a bot sees the same message with nothing in it, except in direct messages.
func TestMessageContentIsBlanked(t *testing.T) {
	w := newWorld(Options{Guilds: 5})
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		e := event{kind: kindMessage, guild: w.guilds[i%5], id: w.nextID(time.Now()), seed: random.Uint64()}
		if i%5 == 0 {
			e.guild = 0
		}
		full, blank := w.appendEvent(nil, e, true), w.appendEvent(nil, e, false)
		if e.guild == 0 {
			if !bytes.Equal(full, blank) {
				t.Fatalf("a direct message was blanked: %s", blank)
			}
			continue
		}
		var f, b map[string]any
		if json.Unmarshal(full, &f) != nil || json.Unmarshal(blank, &b) != nil {
			t.Fatalf("not JSON: %s %s", full, blank)
		}
		if f["content"] == "" || b["content"] != "" {
			t.Fatalf("content is %q and %q", f["content"], b["content"])
		}
		for _, field := range []string{"content", "embeds", "attachments", "components"} {
			delete(f, field)
			delete(b, field)
		}
		if fmt.Sprint(f) != fmt.Sprint(b) {
			t.Fatalf("more than content differs:\n%s\n%s", full, blank)
		}
	}
}

// Guilds spread evenly over whatever number of shards, and their ids are snowflakes of the past.
func TestGuildsSpreadEvenly(t *testing.T) {
	w := newWorld(Options{Guilds: 10_000, Seed: 3})
	seen := make(map[uint64]bool)
	for _, g := range w.guilds {
		if at := time.UnixMilli(born(g)); at.Year() < 2015 || at.Year() > 2025 || seen[g] {
			t.Fatalf("guild %d of %v, seen before: %v", g, at, seen[g])
		}
		seen[g] = true
	}
	for _, total := range []int{1, 2, 3, 7, 16, 100, 1000} {
		for shard := range total {
			if n := w.guildsOn(shardPair{shard, total}); n < 10_000/total || n > 10_000/total+1 {
				t.Errorf("shard %d of %d has %d guilds", shard, total, n)
			}
		}
	}
}

// Two numbers of shards side by side, as while resharding, and two sessions of one shard all get every event of theirs.
func TestEverySessionOfAGuildGetsItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 8, MaxConcurrency: 16, Record: true})
		var guild uint64
		for _, g := range r.Guilds() {
			if shardOf(g, 2) == 1 && shardOf(g, 3) == 2 {
				guild = g
			}
		}
		pairs := [][2]int{{0, 2}, {1, 2}, {1, 2}, {0, 3}, {1, 3}, {2, 3}}
		for i, p := range pairs {
			c := r.dial(jsonQuery)
			c.login(p[0], p[1], IntentGuildMessageTyping|IntentGuildMessages)
			c.drain()
			if i >= 1 {
				time.Sleep(5 * time.Second)
			}
		}
		n, err := r.DispatchGuild(guild, "TYPING_START", json.RawMessage(`{"guild_id":"1"}`))
		if err != nil || n != 3 {
			t.Errorf("dispatched to %d sessions, %v; want 3", n, err)
		}
		if n, _ := r.DispatchGuild(guild, "PRESENCE_UPDATE", json.RawMessage(`{}`)); n != 0 {
			t.Errorf("%d sessions got what they did not ask for", n)
		}
		if err := r.SetRate(200); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		r.Pause()
		synctest.Wait()
		quiet := r.Stats().Dispatched
		time.Sleep(time.Minute)
		if now := r.Stats().Dispatched; now != quiet {
			t.Errorf("%d events were dispatched after Pause returned", now-quiet)
		}

		// What the sessions of two shards got together is what the sessions of three got.
		count := map[int]map[uint64]int{2: {}, 3: {}}
		for i, log := range r.Sessions() {
			if i == 2 {
				continue // the double of session 1
			}
			for _, d := range log.Dispatches {
				if d.Type != "READY" {
					count[log.Total][d.Sum]++
				}
			}
		}
		if len(count[2]) < 1900 || fmt.Sprint(count[2]) != fmt.Sprint(count[3]) {
			t.Errorf("%d events for two shards, %d for three, or they differ", len(count[2]), len(count[3]))
		}
		logs := r.Sessions()
		if a, b := logs[1].Dispatches, logs[2].Dispatches; len(a) != len(b) || a[len(a)-1].Sum != b[len(b)-1].Sum {
			t.Errorf("two sessions of one shard got %d and %d events", len(a), len(b))
		}
	})
}

func TestSetRateRefusesNonsense(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.SetRate(-1) == nil {
		t.Error("a negative rate was taken")
	}
	for _, eventType := range []string{"", "A\"B", "message"} {
		if _, err := s.Dispatch(0, eventType, json.RawMessage(`{}`)); err == nil {
			t.Errorf("event name %q was taken", eventType)
		}
	}
	if _, err := s.Dispatch(0, "X", json.RawMessage(`{`)); err == nil {
		t.Error("half an object was taken")
	}
}
