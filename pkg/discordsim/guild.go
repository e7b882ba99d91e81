package discordsim

import "time"

// view is how a session sees guilds.
type view struct {
	presences  bool // all members are shown, with presences; without, the bot and who is in a voice channel
	large      int  // members beyond which a guild is large
	obfuscated bool // channels the bot cannot view are shown, but not what they are
}

// guildCreate is the payload of a guild's GUILD_CREATE after READY. One guild in sixteen has up to 500 KB.
func (w *world) guildCreate(guild uint64, v view, now time.Time) []byte {
	size := 1
	if isLarge(guild) {
		size = 10 + int(mix(guild^'s')%91)
	}
	return w.guild(nil, guild, w.nextID(now), now.UnixMilli(), size, v)
}

// outage is the payload of the GUILD_DELETE that says that a guild is unavailable.
// See https://discord.com/developers/docs/events/gateway-events#guild-delete.
func outage(guild uint64) []byte { return append(idOf(nil, `{"unavailable":true,"id":`, guild), '}') }

// guild appends a guild object as GUILD_CREATE carries it, of about size times 5 KB if all is seen. id makes it unlike any other.
// See https://discord.com/developers/docs/events/gateway-events#guild-create.
func (w *world) guild(b []byte, guild, id uint64, at int64, size int, v view) []byte {
	d := dice{mix(guild)}
	members := w.members(guild)
	b = idOf(b, `{"id":`, guild)
	b = str(b, `,"name":"`, d.pick(guildNames))
	b = idOf(b, `","owner_id":`, w.member(guild, 0).id)
	b = num(b, `,"member_count":`, int64(members))
	b = stamp(b, `,"joined_at":`, born(derive(guild, 'j', 1)))
	b = yes(b, `,"large":`, members > v.large)
	b = hash(b, `,"icon":`, d.next(), guild)
	b = idOf(b, `,"latest_onboarding_question_id":`, id)
	b = append(b, guildSettings...)
	b = w.roles(b, guild, 2*size+6, &d)
	b = w.channels(b, guild, 5*size+5, &d, v)
	b = w.emojis(b, guild, 2*size, &d)
	b = w.voices(b, guild, id, size, &d)
	shown := size // who is in a voice channel
	if v.presences {
		shown = 4 * size
	}
	b = w.appendSelf(append(b, `,"members":[`...), guild)
	people := make([]person, min(shown, members))
	for i := range people {
		people[i] = w.member(guild, i)
		b = appendMember(append(b, ','), guild, people[i], true)
	}
	b = append(b, ']')
	if !v.presences {
		people = nil
	}
	b = appendPresences(b, people)
	return append(b, `,"threads":[],"stickers":[],"stage_instances":[],"guild_scheduled_events":[],"soundboard_sounds":[]}`...)
}

// appendSelf appends the bot as a member.
func (w *world) appendSelf(b []byte, guild uint64) []byte {
	b = w.appendBot(append(b, `{"user":`...))
	b = stamp(b, `,"roles":[],"premium_since":null,"pending":false,"nick":null,"mute":false,"joined_at":`, born(derive(guild, 'j', 1)))
	return append(b, `,"flags":0,"deaf":false,"communication_disabled_until":null,"banner":null,"avatar":null}`...)
}

const guildSettings = `,"unavailable":false,"version":1712345678901,"verification_level":1,"vanity_url_code":null,"system_channel_id":null,` +
	`"system_channel_flags":0,"splash":null,"safety_alerts_channel_id":null,"rules_channel_id":null,"region":"deprecated",` +
	`"public_updates_channel_id":null,"premium_tier":1,"premium_subscription_count":3,"premium_progress_bar_enabled":false,` +
	`"preferred_locale":"en-US","nsfw_level":0,"nsfw":false,"mfa_level":0,"max_video_channel_users":25,"max_members":500000,` +
	`"lazy":true,"hub_type":null,"explicit_content_filter":2,"discovery_splash":null,"description":null,` +
	`"default_message_notifications":1,"banner":null,"application_id":null,"afk_timeout":300,"afk_channel_id":null,` +
	`"features":["COMMUNITY","NEWS"]`

func (w *world) roles(b []byte, guild uint64, count int, d *dice) []byte {
	b = idOf(b, `,"roles":[{"version":0,"unicode_emoji":null,"tags":{},"position":0,"permissions":"2248473465835073","name":"@everyone","mentionable":false,"managed":false,"icon":null,"hoist":false,"flags":0,"color":0,"id":`, guild)
	b = append(b, '}')
	for i := range count {
		b = str(b, `,{"version":0,"unicode_emoji":null,"tags":{},"permissions":"6442450944","name":"`, d.pick(words))
		b = num(b, `","mentionable":false,"managed":false,"icon":null,"hoist":true,"flags":0,"position":`, int64(i+1))
		b = num(b, `,"color":`, int64(d.n(1<<24)))
		b = idOf(b, `,"id":`, derive(guild, 'r', i))
		b = append(b, '}')
	}
	return append(b, ']')
}

func (w *world) channels(b []byte, guild uint64, count int, d *dice, v view) []byte {
	b = append(b, `,"channels":[`...)
	for i := range count {
		if i > 0 {
			b = append(b, ',')
		}
		if v.obfuscated && i%obfuscatedEvery == obfuscatedEvery-1 {
			b = obfuscatedChannel(b, guild, i)
			continue
		}
		if i%5 == 4 {
			b = idOf(b, `{"version":0,"user_limit":0,"type":2,"rtc_region":null,"rate_limit_per_user":0,"bitrate":64000,"id":`, derive(guild, 'v', i/5))
		} else {
			b = append(b, `{"version":0,"type":0,"topic":"`...)
			b = text(b, d, d.n(12))
			b = idOf(b, `","rate_limit_per_user":0,"last_message_id":`, derive(guild, 'l', i))
			b = idOf(b, `,"id":`, derive(guild, 'c', i-i/5))
		}
		b = num(b, `,"position":`, int64(i))
		b = idOf(b, `,"permission_overwrites":[{"type":0,"deny":"1024","allow":"0","id":`, guild)
		b = idOf(b, `},{"type":0,"deny":"0","allow":"1024","id":`, derive(guild, 'r', d.n(8)))
		b = str(b, `}],"parent_id":null,"name":"`, d.pick(topics))
		b = append(b, `","flags":0}`...)
	}
	return append(b, ']')
}

// obfuscatedEvery is how many channels are shown for each that the bot cannot view.
const obfuscatedEvery = 7

// obfuscatedChannel appends a channel that the bot cannot view: that it is there, with bit 17 of flags, and no more.
// See https://discord.com/developers/docs/change-log of August 2026.
func obfuscatedChannel(b []byte, guild uint64, i int) []byte {
	b = idOf(b, `{"type":0,"name":"___hidden___","flags":131072,"id":`, derive(guild, 'h', i))
	return append(num(b, `,"position":`, int64(i)), '}')
}

func (w *world) emojis(b []byte, guild uint64, count int, d *dice) []byte {
	b = append(b, `,"emojis":[`...)
	for i := range count {
		if i > 0 {
			b = append(b, ',')
		}
		b = str(b, `{"version":0,"roles":[],"require_colons":true,"name":"`, d.pick(names))
		b = idOf(b, `","managed":false,"available":true,"animated":false,"id":`, derive(guild, 'e', i))
		b = append(b, '}')
	}
	return append(b, ']')
}

func (w *world) voices(b []byte, guild, id uint64, count int, d *dice) []byte {
	b = append(b, `,"voice_states":[`...)
	for i := range count {
		if i > 0 {
			b = append(b, ',')
		}
		b = idOf(b, `{"user_id":`, w.member(guild, i).id)
		b = append(b, `,"suppress":false,"self_video":false,"self_mute":true,"self_deaf":false`...)
		b = hash(b, `,"session_id":`, d.next(), id)
		b = idOf(b, `,"request_to_speak_timestamp":null,"mute":false,"deaf":false,"channel_id":`, derive(guild, 'v', d.n(4)))
		b = append(b, '}')
	}
	return append(b, ']')
}
