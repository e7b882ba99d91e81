package discordsim

import "time"

// guildCreate is the payload of a guild's GUILD_CREATE after READY. One guild in sixteen has 50 to 500 KB.
func (w *world) guildCreate(guild uint64, _ Intents, now time.Time) []byte {
	size := 1
	if isLarge(guild) {
		size = 10 + int(mix(guild^'s')%91)
	}
	return w.guild(nil, guild, w.nextID(now), now.UnixMilli(), size)
}

// outage is the payload of the GUILD_DELETE that says that a guild is unavailable.
// See https://discord.com/developers/docs/events/gateway-events#guild-delete.
func outage(guild uint64) []byte { return append(idOf(nil, `{"unavailable":true,"id":`, guild), '}') }

// guild appends a guild object as GUILD_CREATE carries it, of about size times 5 KB. id makes it unlike any other.
// See https://discord.com/developers/docs/events/gateway-events#guild-create.
func (w *world) guild(b []byte, guild, id uint64, at int64, size int) []byte {
	d := dice{mix(guild)}
	members := w.members(guild)
	b = idOf(b, `{"id":`, guild)
	b = str(b, `,"name":"`, d.pick(guildNames))
	b = idOf(b, `","owner_id":`, w.member(guild, 0).id)
	b = num(b, `,"member_count":`, int64(members))
	b = stamp(b, `,"joined_at":`, born(derive(guild, 'j', 1)))
	b = yes(b, `,"large":`, members > 250)
	b = hash(b, `,"icon":`, d.next(), guild)
	b = idOf(b, `,"latest_onboarding_question_id":`, id)
	b = append(b, guildSettings...)
	b = w.roles(b, guild, 2*size+6, &d)
	b = w.channels(b, guild, 5*size+5, &d)
	b = w.emojis(b, guild, 2*size, &d)
	b = w.voices(b, guild, id, size, &d)
	b = append(b, `,"members":[`...)
	for i := range 1 + 4*size {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMember(b, guild, w.member(guild, i%members), true)
	}
	return append(b, `],"presences":[],"threads":[],"stickers":[],"stage_instances":[],"guild_scheduled_events":[],"soundboard_sounds":[]}`...)
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

func (w *world) channels(b []byte, guild uint64, count int, d *dice) []byte {
	b = append(b, `,"channels":[`...)
	for i := range count {
		if i > 0 {
			b = append(b, ',')
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
