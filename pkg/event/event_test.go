package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/disgoorg/disgo/gateway"
	"go.uber.org/goleak"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/shard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names are the events of Discord's documentation (Gateway Events, Receive Events), with those of which disgo 0.19 knows nothing
// behind.
var (
	names = strings.Fields(`READY RESUMED RATE_LIMITED APPLICATION_COMMAND_PERMISSIONS_UPDATE
		AUTO_MODERATION_RULE_CREATE AUTO_MODERATION_RULE_UPDATE AUTO_MODERATION_RULE_DELETE AUTO_MODERATION_ACTION_EXECUTION
		CHANNEL_CREATE CHANNEL_UPDATE CHANNEL_DELETE CHANNEL_PINS_UPDATE
		THREAD_CREATE THREAD_UPDATE THREAD_DELETE THREAD_LIST_SYNC THREAD_MEMBER_UPDATE THREAD_MEMBERS_UPDATE
		ENTITLEMENT_CREATE ENTITLEMENT_UPDATE ENTITLEMENT_DELETE
		GUILD_CREATE GUILD_UPDATE GUILD_DELETE GUILD_AUDIT_LOG_ENTRY_CREATE GUILD_BAN_ADD GUILD_BAN_REMOVE GUILD_EMOJIS_UPDATE
		GUILD_STICKERS_UPDATE GUILD_INTEGRATIONS_UPDATE GUILD_MEMBER_ADD GUILD_MEMBER_REMOVE GUILD_MEMBER_UPDATE GUILD_MEMBERS_CHUNK
		GUILD_ROLE_CREATE GUILD_ROLE_UPDATE GUILD_ROLE_DELETE GUILD_SCHEDULED_EVENT_CREATE GUILD_SCHEDULED_EVENT_UPDATE
		GUILD_SCHEDULED_EVENT_DELETE GUILD_SCHEDULED_EVENT_USER_ADD GUILD_SCHEDULED_EVENT_USER_REMOVE
		GUILD_SOUNDBOARD_SOUND_CREATE GUILD_SOUNDBOARD_SOUND_UPDATE GUILD_SOUNDBOARD_SOUND_DELETE GUILD_SOUNDBOARD_SOUNDS_UPDATE
		SOUNDBOARD_SOUNDS INTEGRATION_CREATE INTEGRATION_UPDATE INTEGRATION_DELETE INTERACTION_CREATE INVITE_CREATE INVITE_DELETE
		MESSAGE_CREATE MESSAGE_UPDATE MESSAGE_DELETE MESSAGE_DELETE_BULK MESSAGE_POLL_VOTE_ADD MESSAGE_POLL_VOTE_REMOVE
		MESSAGE_REACTION_ADD MESSAGE_REACTION_REMOVE MESSAGE_REACTION_REMOVE_ALL MESSAGE_REACTION_REMOVE_EMOJI
		PRESENCE_UPDATE STAGE_INSTANCE_CREATE STAGE_INSTANCE_UPDATE STAGE_INSTANCE_DELETE
		SUBSCRIPTION_CREATE SUBSCRIPTION_UPDATE SUBSCRIPTION_DELETE TYPING_START USER_UPDATE
		VOICE_CHANNEL_EFFECT_SEND VOICE_STATE_UPDATE VOICE_SERVER_UPDATE WEBHOOKS_UPDATE`)
	unknown = strings.Fields(`CHANNEL_INFO VOICE_CHANNEL_STATUS_UPDATE VOICE_CHANNEL_START_TIME_UPDATE
		SOMETHING_NEW __RAW__ MUSTER_GAP`)
)

// payloads are the least that disgo accepts, where that is more than an empty object.
var payloads = map[string]string{
	"INTEGRATION_CREATE": `{"type":"twitch"}`,
	"INTEGRATION_UPDATE": `{"type":"twitch"}`,
	"INTERACTION_CREATE": `{"type":1}`,
}

// TestParseNames: each of Discord's names gives the type that is called like it.
func TestParseNames(t *testing.T) {
	for _, name := range names {
		payload := payloads[name]
		if payload == "" {
			payload = "{}"
		}
		parsed, err := Parse(name, []byte(payload))
		if err != nil {
			t.Error(err)
		}
		want := "Event" + strings.ReplaceAll(name, "_", "")
		if got := reflect.TypeOf(parsed).Name(); !strings.EqualFold(got, want) {
			t.Errorf("%s gave a %s", name, got)
		}
	}
}

// TestParseUnknown: an event that nobody knows is given back as it came, whatever is in it.
func TestParseUnknown(t *testing.T) {
	for _, name := range append(unknown, "") {
		for _, payload := range []string{`{"a":1}`, `null`, `{"cut":`, "\x00\xff", ``} {
			data := []byte(payload)
			parsed, err := Parse(name, data)
			copy(data, "overwritten")
			raw, ok := parsed.(Raw)
			if err != nil || !ok || raw.Type != name || string(raw.EventUnknown) != payload {
				t.Errorf("%s with %q gave a %T %+v and error %v", name, payload, parsed, parsed, err)
			}
		}
	}
	raw, _ := Parse("SOMETHING_NEW", []byte(`{"a":1}`))
	if text, err := json.Marshal(raw); err != nil || string(text) != `{"a":1}` {
		t.Errorf("as JSON it is %s, %v", text, err)
	}
}

// TestParseBad: a payload that does not fit is no reason to lose the event. The error names it and does not quote it.
func TestParseBad(t *testing.T) {
	for name, payload := range map[string]string{
		"MESSAGE_CREATE":     `{"content":17,"secret":"hunter2"}`,
		"READY":              `"hunter2"`,
		"TYPING_START":       `{"hunter2`,
		"CHANNEL_CREATE":     `{"type":1,"name":"hunter2"}`, // disgo panics
		"INTERACTION_CREATE": `{"type":99,"token":"hunter2"}`,
		"GUILD_CREATE":       ``,
	} {
		parsed, err := Parse(name, []byte(payload))
		var bad *Error
		if !errors.As(err, &bad) || bad.Type != name || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v", name, err)
		}
		if raw, ok := parsed.(Raw); !ok || raw.Type != name || string(raw.EventUnknown) != payload {
			t.Errorf("%s: gave a %T %+v", name, parsed, parsed)
		}
	}
}

// TestParseTraffic parses what the simulator sends, of every kind, and then overwrites the bytes, as the shard does after Deliver.
func TestParseTraffic(t *testing.T) {
	kinds := []string{"GUILD_CREATE", "GUILD_MEMBER_UPDATE", "INTERACTION_CREATE", "MESSAGE_CREATE", "MESSAGE_REACTION_ADD",
		"MESSAGE_UPDATE", "PRESENCE_UPDATE", "READY", "TYPING_START", "VOICE_STATE_UPDATE"}
	missing := slices.Clone(kinds)
	errDone := errors.New("done")
	deliver := func(_ context.Context, _ shard.ID, e shard.Event) error {
		parsed, err := Parse(e.Type, e.Data)
		if err != nil {
			t.Error(err)
		}
		again, _ := Parse(e.Type, bytes.Clone(e.Data))
		for i := range e.Data {
			e.Data[i] = 'x'
		}
		if _, raw := parsed.(Raw); raw || !reflect.DeepEqual(parsed, again) {
			t.Errorf("%s gave a %T, which changed with the bytes it came from", e.Type, parsed)
		}
		if m, ok := parsed.(gateway.EventMessageCreate); ok && (m.Content == "" || m.Author.Username == "") {
			t.Errorf("message %+v", m)
		}
		missing = slices.DeleteFunc(missing, func(kind string) bool { return kind == e.Type })
		if len(missing) == 0 {
			return errDone
		}
		return nil
	}
	sim, err := discordsim.New(discordsim.Options{Guilds: 20, Rate: 2000, Privileged: discordsim.PrivilegedIntents})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- sim.Serve(ctx, listener) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	cluster, err := shard.NewCluster(shard.ClusterConfig{
		Shard:   shard.Config{Token: discordsim.DefaultToken, Intents: shard.IntentsAll},
		APIURL:  fmt.Sprintf("http://%s/api/v10", listener.Addr()),
		Deliver: deliver,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Run(t.Context()); !errors.Is(err, errDone) {
		t.Errorf("Run: %v; kinds not seen: %v", err, missing)
	}
}

// FuzzParse: whatever Discord may send, there is an event, and an error only where disgo has a type that it does not fit.
func FuzzParse(f *testing.F) {
	for i, name := range names {
		f.Add(name, []byte(`{}`))
		f.Add(name, []byte(fmt.Sprintf(`{"type":%d,"id":"1","guild_id":null,"channel":{"type":1}}`, i%20)))
	}
	for _, name := range unknown {
		f.Add(name, []byte(`{"cut":`))
	}
	f.Add("MESSAGE_CREATE", []byte(`{"components":[{"type":1,"components":[{"type":2},{"type":99}]}],"poll":{},"message_snapshots":[{}]}`))
	f.Add("INTERACTION_CREATE", []byte(`{"type":2,"data":{"type":1,"resolved":{"channels":{"1":{}}},"options":[{"type":1}]},"channel":{"type":0}}`))
	f.Add("INTERACTION_CREATE", []byte(`{"type":5,"data":{"components":[{"type":18,"component":{"type":4}}]}}`))
	f.Add("GUILD_CREATE", []byte(`{"channels":[{"type":4}],"threads":[{}],"members":[null],"roles":[{"permissions":"x"}],"presences":[{}]}`))
	f.Add("GUILD_AUDIT_LOG_ENTRY_CREATE", []byte(`{"changes":[{"key":"x"}],"options":{}}`))
	f.Add("AUTO_MODERATION_RULE_CREATE", []byte(`{"actions":[{"type":1,"metadata":{}}]}`))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		before := bytes.Clone(data)
		parsed, err := Parse(typ, data)
		raw, isRaw := parsed.(Raw)
		var bad *Error
		switch {
		case parsed == nil:
			t.Fatalf("%s %q: no event", typ, data)
		case !bytes.Equal(data, before):
			t.Fatalf("%s %q: the payload was changed to %q", typ, before, data)
		case isRaw && (raw.Type != typ || !bytes.Equal(raw.EventUnknown, data)):
			t.Fatalf("%s %q: given back as %s %q", typ, data, raw.Type, raw.EventUnknown)
		case err != nil && (!errors.As(err, &bad) || bad.Type != typ || !isRaw):
			t.Fatalf("%s %q: gave a %T and error %v", typ, data, parsed, err)
		case isRaw && err == nil && slices.Contains(names, typ):
			t.Fatalf("%s %q: not taken to be known", typ, data)
		}
	})
}
