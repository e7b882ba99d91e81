package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestID(t *testing.T) {
	if got := (ID{3, 16}).String(); got != "3/16" {
		t.Error(got)
	}
	for guild, want := range map[uint64]int{0: 0, 1 << 22: 1, 17 << 22: 1, 81384788765712384: int(81384788765712384 >> 22 % 16)} {
		if got := ForGuild(guild, 16); got != want {
			t.Errorf("guild %d: shard %d, want %d", guild, got, want)
		}
	}
	if got := (ID{17, 32}).Bucket(16); got != 1 {
		t.Error(got)
	}
	if (ID{5, 6}).Bucket(0) != 0 || ForGuild(1<<23, 0) != 0 {
		t.Error("zero buckets or shards must count as one")
	}
}

func TestIntents(t *testing.T) {
	var all Intents
	for _, n := range intentNames {
		all |= n.intent
	}
	if all != IntentsAll || IntentsUnprivileged != 53575421 {
		t.Fatalf("all %d, unprivileged %d", all, IntentsUnprivileged)
	}
	for in, want := range map[string]Intents{
		"GUILDS,GUILD_MESSAGES": IntentGuilds | IntentGuildMessages, " guilds , 2": 3, "53608447": IntentsAll,
		"unprivileged": IntentsUnprivileged, "all": IntentsAll, "unprivileged,MESSAGE_CONTENT": IntentsUnprivileged | IntentMessageContent, "0": 0,
	} {
		got, err := ParseIntents(in)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
		if again, err := ParseIntents(got.String()); err != nil || again != got {
			t.Errorf("%s does not read back: %d, %v", got, again, err)
		}
	}
	for _, in := range []string{"", "GUILDS,", "GUILD", "-1", "0x1", "9223372036854775808"} {
		if _, err := ParseIntents(in); err == nil || !strings.Contains(err.Error(), "unprivileged") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParseIntents(f *testing.F) {
	f.Add("GUILDS,5")
	f.Fuzz(func(t *testing.T, s string) {
		if in, err := ParseIntents(s); err == nil {
			if again, err := ParseIntents(in.String()); err != nil || again != in {
				t.Fatalf("%q: %s does not read back", s, in)
			}
		}
	})
}

func goodConfig() Config {
	return Config{
		ID: ID{0, 1}, Token: "token-secret", GatewayURL: "wss://gateway.test",
		Deliver: func(context.Context, Event) error { return nil },
	}
}

func TestNewNamesTheField(t *testing.T) {
	if _, err := New(goodConfig()); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Config){
		"ID":              func(c *Config) { c.ID = ID{1, 1} },
		"Token":           func(c *Config) { c.Token = "" },
		"LargeThreshold":  func(c *Config) { c.LargeThreshold = 49 },
		"Presence":        func(c *Config) { c.Presence = &Presence{Status: "asleep"} },
		"Capabilities":    func(c *Config) { c.Capabilities = -1 },
		"Compression":     func(c *Config) { c.Compression = "gzip" },
		"GatewayURL":      func(c *Config) { c.GatewayURL = "https://gateway.test" },
		"Deliver":         func(c *Config) { c.Deliver = nil },
		"MaxMessageBytes": func(c *Config) { c.MaxMessageBytes = -1 },
	} {
		c := goodConfig()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "field "+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	c := goodConfig()
	c.Presence = &Presence{Status: "online", Activities: []Activity{{Name: strings.Repeat("x", maxCommandBytes)}}}
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "field Presence") {
		t.Errorf("long presence: %v", err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	session, err := New(goodConfig())
	if err != nil {
		t.Fatal(err)
	}
	r := Resume{SessionID: "session-secret", URL: "wss://x", Seq: 4}
	session.position.set(r)
	marshalled, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "resume", r, "session", session)
	for _, v := range []any{r, &r, session, goodConfig(), session.Status()} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			fmt.Fprintf(&log, format, v)
		}
	}
	if out := log.String() + string(marshalled); strings.Contains(out, "secret") || !strings.Contains(out, "after seq 4") {
		t.Fatal(out)
	}
}

func TestConnectURL(t *testing.T) {
	for _, c := range []struct {
		base        string
		compression Compression
		want        string
	}{
		{"wss://gateway.test", CompressionZstd, "wss://gateway.test/?compress=zstd-stream&encoding=json&v=10"},
		{"wss://gateway.test/x?v=9&compress=zlib-stream", CompressionNone, "wss://gateway.test/x?encoding=json&v=10"},
		{"ws://127.0.0.1:80/", CompressionZlib, "ws://127.0.0.1:80/?compress=zlib-stream&encoding=json&v=10"},
	} {
		if got, err := connectURL(c.base, c.compression); err != nil || got != c.want {
			t.Errorf("%s: %s, %v", c.base, got, err)
		}
	}
	for _, c := range []struct {
		url, base string
		want      bool
	}{
		{"wss://a", "wss://b", true}, {"ws://a", "ws://b", true}, {"wss://a", "ws://b", true},
		{"ws://a", "wss://b", false}, {"", "wss://b", false}, {"https://a", "wss://b", false}, {"wss://", "wss://b", false},
	} {
		if got := usable(c.url, c.base); got != c.want {
			t.Errorf("%q for %q: %v", c.url, c.base, got)
		}
	}
}

func TestFatalError(t *testing.T) {
	var err error = fmt.Errorf("worker: %w", &FatalError{Shard: ID{3, 16}, Code: 4004, Cure: ruleFor(lost, 4004).cure})
	var fatal *FatalError
	if !errors.As(err, &fatal) || fatal.Scope() != ScopeBot {
		t.Fatal(err)
	}
	for _, part := range []string{"shard 3/16", "4004", "authentication failed", "token"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
}

func TestDelay(t *testing.T) {
	for range 1000 {
		if d := (delay{time.Second, 5 * time.Second}).draw(); d < time.Second || d >= 5*time.Second {
			t.Fatal(d)
		}
	}
	if exactly(time.Second).draw() != time.Second || (delay{}).draw() != 0 {
		t.Fatal("a delay without room must be exact")
	}
}
