package shard

import (
	"fmt"
	"strconv"
	"strings"
)

// Intents says which groups of events Discord sends; it is part of IDENTIFY (Discord: Gateway, Gateway Intents).
type Intents uint64

// The intents of API v10. GuildMembers, GuildPresences and MessageContent are privileged: they have to be switched
// on for the application in Discord's developer portal, or IDENTIFY is refused with close code 4014.
const (
	IntentGuilds                      Intents = 1 << 0
	IntentGuildMembers                Intents = 1 << 1
	IntentGuildModeration             Intents = 1 << 2
	IntentGuildExpressions            Intents = 1 << 3
	IntentGuildIntegrations           Intents = 1 << 4
	IntentGuildWebhooks               Intents = 1 << 5
	IntentGuildInvites                Intents = 1 << 6
	IntentGuildVoiceStates            Intents = 1 << 7
	IntentGuildPresences              Intents = 1 << 8
	IntentGuildMessages               Intents = 1 << 9
	IntentGuildMessageReactions       Intents = 1 << 10
	IntentGuildMessageTyping          Intents = 1 << 11
	IntentDirectMessages              Intents = 1 << 12
	IntentDirectMessageReactions      Intents = 1 << 13
	IntentDirectMessageTyping         Intents = 1 << 14
	IntentMessageContent              Intents = 1 << 15
	IntentGuildScheduledEvents        Intents = 1 << 16
	IntentAutoModerationConfiguration Intents = 1 << 20
	IntentAutoModerationExecution     Intents = 1 << 21
	IntentGuildMessagePolls           Intents = 1 << 24
	IntentDirectMessagePolls          Intents = 1 << 25

	// IntentsPrivileged are those that need a switch in the developer portal.
	IntentsPrivileged = IntentGuildMembers | IntentGuildPresences | IntentMessageContent
	// IntentsUnprivileged are all that any bot may ask for.
	IntentsUnprivileged = IntentsAll &^ IntentsPrivileged
	// IntentsAll is every intent there is.
	IntentsAll Intents = 53608447
)

// intentNames maps each intent to Discord's name for it, in order of the bits.
var intentNames = []struct {
	intent Intents
	name   string
}{
	{IntentGuilds, "GUILDS"},
	{IntentGuildMembers, "GUILD_MEMBERS"},
	{IntentGuildModeration, "GUILD_MODERATION"},
	{IntentGuildExpressions, "GUILD_EXPRESSIONS"},
	{IntentGuildIntegrations, "GUILD_INTEGRATIONS"},
	{IntentGuildWebhooks, "GUILD_WEBHOOKS"},
	{IntentGuildInvites, "GUILD_INVITES"},
	{IntentGuildVoiceStates, "GUILD_VOICE_STATES"},
	{IntentGuildPresences, "GUILD_PRESENCES"},
	{IntentGuildMessages, "GUILD_MESSAGES"},
	{IntentGuildMessageReactions, "GUILD_MESSAGE_REACTIONS"},
	{IntentGuildMessageTyping, "GUILD_MESSAGE_TYPING"},
	{IntentDirectMessages, "DIRECT_MESSAGES"},
	{IntentDirectMessageReactions, "DIRECT_MESSAGE_REACTIONS"},
	{IntentDirectMessageTyping, "DIRECT_MESSAGE_TYPING"},
	{IntentMessageContent, "MESSAGE_CONTENT"},
	{IntentGuildScheduledEvents, "GUILD_SCHEDULED_EVENTS"},
	{IntentAutoModerationConfiguration, "AUTO_MODERATION_CONFIGURATION"},
	{IntentAutoModerationExecution, "AUTO_MODERATION_EXECUTION"},
	{IntentGuildMessagePolls, "GUILD_MESSAGE_POLLS"},
	{IntentDirectMessagePolls, "DIRECT_MESSAGE_POLLS"},
}

// String lists the intents' names, separated by commas. Bits without a name follow as one number. The result is
// understood by [ParseIntents].
func (in Intents) String() string {
	var parts []string
	for _, n := range intentNames {
		if in&n.intent != 0 {
			parts = append(parts, n.name)
			in &^= n.intent
		}
	}
	if in != 0 || len(parts) == 0 {
		parts = append(parts, strconv.FormatUint(uint64(in), 10))
	}
	return strings.Join(parts, ",")
}

// ParseIntents reads a comma separated list whose elements are Discord's names ("GUILDS,GUILD_MESSAGES", in any
// case), numbers ("53608447"), "unprivileged" or "all"; the result has the bits of all of them. Numbers are taken as
// they are, so that an intent newer than this package can be asked for.
func ParseIntents(s string) (Intents, error) {
	var sum Intents
	for part := range strings.SplitSeq(s, ",") {
		one, ok := parseIntent(strings.TrimSpace(part))
		if !ok {
			return 0, fmt.Errorf("intents: %q is none: want a number, \"unprivileged\", \"all\", or names out of %s",
				strings.TrimSpace(part), IntentsAll)
		}
		sum |= one
	}
	return sum, nil
}

func parseIntent(s string) (Intents, bool) {
	switch {
	case strings.EqualFold(s, "unprivileged"):
		return IntentsUnprivileged, true
	case strings.EqualFold(s, "all"):
		return IntentsAll, true
	}
	for _, n := range intentNames {
		if strings.EqualFold(s, n.name) {
			return n.intent, true
		}
	}
	// Discord reads intents as a signed number, so the top bit is never one.
	bits, err := strconv.ParseUint(s, 10, 63)
	return Intents(bits), err == nil
}
