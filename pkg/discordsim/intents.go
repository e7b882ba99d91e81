package discordsim

import "slices"

// Intents is a set of gateway intents, as sent in IDENTIFY.
// See https://discord.com/developers/docs/events/gateway#gateway-intents.
type Intents uint64

// The intents of gateway version 10.
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

	// PrivilegedIntents must be granted in Discord's developer portal before a bot may ask for them.
	PrivilegedIntents = IntentGuildMembers | IntentGuildPresences | IntentMessageContent
	// AllIntents has every bit Discord knows; any other bit is invalid.
	AllIntents Intents = 53608447
	// UnprivilegedIntents is what every bot may ask for.
	UnprivilegedIntents = AllIntents &^ PrivilegedIntents
)

// eventRule names the intents that let an event through: one of guild where it happened in a guild, one of direct
// where it did not.
type eventRule struct{ guild, direct Intents }

// eventRules is Discord's "List of Intents". Events it does not name need no intent.
var eventRules = buildEventRules()

func buildEventRules() map[string]eventRule {
	rules := make(map[string]eventRule)
	add := func(guild, direct Intents, names ...string) {
		for _, name := range names {
			r := rules[name]
			rules[name] = eventRule{guild: r.guild | guild, direct: r.direct | direct}
		}
	}
	add(IntentGuilds, 0,
		"GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE",
		"GUILD_ROLE_CREATE", "GUILD_ROLE_UPDATE", "GUILD_ROLE_DELETE",
		"CHANNEL_CREATE", "CHANNEL_UPDATE", "CHANNEL_DELETE",
		"THREAD_CREATE", "THREAD_UPDATE", "THREAD_DELETE", "THREAD_LIST_SYNC", "THREAD_MEMBER_UPDATE",
		"THREAD_MEMBERS_UPDATE", "STAGE_INSTANCE_CREATE", "STAGE_INSTANCE_UPDATE", "STAGE_INSTANCE_DELETE",
		"VOICE_CHANNEL_STATUS_UPDATE", "VOICE_CHANNEL_START_TIME_UPDATE")
	add(IntentGuilds, IntentDirectMessages, "CHANNEL_PINS_UPDATE")
	add(IntentGuildMembers, 0, "GUILD_MEMBER_ADD", "GUILD_MEMBER_UPDATE", "GUILD_MEMBER_REMOVE",
		"THREAD_MEMBERS_UPDATE")
	add(IntentGuildModeration, 0, "GUILD_AUDIT_LOG_ENTRY_CREATE", "GUILD_BAN_ADD", "GUILD_BAN_REMOVE")
	add(IntentGuildExpressions, 0, "GUILD_EMOJIS_UPDATE", "GUILD_STICKERS_UPDATE", "GUILD_SOUNDBOARD_SOUND_CREATE",
		"GUILD_SOUNDBOARD_SOUND_UPDATE", "GUILD_SOUNDBOARD_SOUND_DELETE", "GUILD_SOUNDBOARD_SOUNDS_UPDATE")
	add(IntentGuildIntegrations, 0, "GUILD_INTEGRATIONS_UPDATE", "INTEGRATION_CREATE", "INTEGRATION_UPDATE",
		"INTEGRATION_DELETE")
	add(IntentGuildWebhooks, 0, "WEBHOOKS_UPDATE")
	add(IntentGuildInvites, 0, "INVITE_CREATE", "INVITE_DELETE")
	add(IntentGuildVoiceStates, 0, "VOICE_STATE_UPDATE", "VOICE_CHANNEL_EFFECT_SEND")
	add(IntentGuildPresences, 0, "PRESENCE_UPDATE")
	add(IntentGuildMessages, IntentDirectMessages, "MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE")
	add(IntentGuildMessages, 0, "MESSAGE_DELETE_BULK")
	add(IntentGuildMessageReactions, IntentDirectMessageReactions, "MESSAGE_REACTION_ADD",
		"MESSAGE_REACTION_REMOVE", "MESSAGE_REACTION_REMOVE_ALL", "MESSAGE_REACTION_REMOVE_EMOJI")
	add(IntentGuildMessageTyping, IntentDirectMessageTyping, "TYPING_START")
	add(IntentGuildScheduledEvents, 0, "GUILD_SCHEDULED_EVENT_CREATE", "GUILD_SCHEDULED_EVENT_UPDATE",
		"GUILD_SCHEDULED_EVENT_DELETE", "GUILD_SCHEDULED_EVENT_USER_ADD", "GUILD_SCHEDULED_EVENT_USER_REMOVE")
	add(IntentAutoModerationConfiguration, 0, "AUTO_MODERATION_RULE_CREATE", "AUTO_MODERATION_RULE_UPDATE",
		"AUTO_MODERATION_RULE_DELETE")
	add(IntentAutoModerationExecution, 0, "AUTO_MODERATION_ACTION_EXECUTION")
	add(IntentGuildMessagePolls, IntentDirectMessagePolls, "MESSAGE_POLL_VOTE_ADD", "MESSAGE_POLL_VOTE_REMOVE")
	return rules
}

// unlisted are the events that need no intent.
var unlisted = []string{
	"APPLICATION_COMMAND_PERMISSIONS_UPDATE", "CHANNEL_INFO", "ENTITLEMENT_CREATE", "ENTITLEMENT_UPDATE", "ENTITLEMENT_DELETE",
	"GUILD_MEMBERS_CHUNK", "INTERACTION_CREATE", "SOUNDBOARD_SOUNDS", "SUBSCRIPTION_CREATE", "SUBSCRIPTION_UPDATE",
	"SUBSCRIPTION_DELETE", "USER_UPDATE", "VOICE_SERVER_UPDATE",
}

// known reports whether Discord knows the event, and so which shard it belongs to. READY, RESUMED and RATE_LIMITED are
// left out: they belong to a session.
func known(eventType string) bool {
	_, listed := eventRules[eventType]
	return listed || slices.Contains(unlisted, eventType)
}

// admits reports whether a session with these intents is sent the named event.
func (i Intents) admits(eventType string, inGuild bool) bool {
	rule, listed := eventRules[eventType]
	if !listed {
		return true
	}
	if inGuild {
		return i&rule.guild != 0
	}
	return i&rule.direct != 0
}
