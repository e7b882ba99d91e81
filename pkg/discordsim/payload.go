package discordsim

import "encoding/json"

// appendEvent appends the payload of an event. It is the same for the same event, except that without content a message
// is blanked as Discord blanks it for bots that lack MESSAGE_CONTENT. No two events have the same payload: each carries
// the event's own snowflake somewhere.
func (w *world) appendEvent(b []byte, e event, content bool) []byte {
	d := dice{e.seed}
	switch e.kind {
	case kindPresence:
		return w.presence(b, e, &d)
	case kindMessage:
		return w.message(b, e, &d, content, false)
	case kindEdit:
		return w.message(b, e, &d, content, true)
	case kindTyping:
		return w.typing(b, e, &d)
	case kindVoice:
		return w.voiceState(b, e, &d)
	case kindMember:
		return w.memberUpdate(b, e, &d)
	case kindInteraction:
		return w.interaction(b, e, &d)
	case kindReaction:
		return w.reaction(b, e, &d)
	default:
		return w.guildAgain(b, e, view{large: minLargeThreshold})
	}
}

// guildAgain is the GUILD_CREATE of a guild that came back.
func (w *world) guildAgain(b []byte, e event, v view) []byte {
	d := dice{e.seed}
	return w.guild(b, e.guild, e.id, e.at, 10+d.n(91), v)
}

// who picks somebody: a member of the event's guild, or one of the people who write to the bot.
func (w *world) who(e event, d *dice) person {
	if e.guild == 0 {
		return w.member(w.bot, d.n(500))
	}
	return w.member(e.guild, d.n(w.members(e.guild)))
}

// channel picks where the event happens.
func (w *world) channel(e event, p person, d *dice) uint64 {
	if e.guild == 0 {
		return derive(p.id, 'd', 0)
	}
	return derive(e.guild, 'c', d.n(textChannels(e.guild)))
}

func textChannels(guild uint64) int {
	if isLarge(guild) {
		return 60
	}
	return 6
}

// where appends guild_id, which what happens in direct messages lacks.
func where(b []byte, e event) []byte {
	if e.guild == 0 {
		return b
	}
	return idOf(b, `,"guild_id":`, e.guild)
}

func (w *world) presence(b []byte, e event, d *dice) []byte {
	p := w.who(e, d)
	status, device := d.pick(statuses), d.pick(devices)
	b = idOf(b, `{"user":{"id":`, p.id)
	b = str(b, `},"status":"`, status)
	b = idOf(b, `","guild_id":`, e.guild)
	b = str(b, `,"client_status":{"`, device)
	b = str(b, `":"`, status)
	b = append(b, `"},"broadcast":null,"activities":[`...)
	if d.chance(30) {
		b = str(b, `{"type":4,"state":"`, d.pick(words))
		b = str(b, ` `, d.pick(words))
		b = num(b, `","name":"Custom Status","id":"custom","created_at":`, e.at-int64(d.n(1e7)))
		b = append(b, `},`...)
	}
	start := e.at - int64(d.n(1e7))
	b = num(b, `{"type":0,"timestamps":{"start":`, start)
	b = str(b, `},"state":"`, d.pick(words))
	b = str(b, ` `, d.pick(words))
	b = hash(b, `","session_id":`, d.next(), e.id)
	b = str(b, `,"name":"`, d.pick(games))
	b = append(b, `","id":"`...)
	b = hex16(b, d.next())
	b = str(b, `","details":"`, d.pick(words))
	b = num(b, ` `, int64(d.n(100)))
	b = num(b, `","created_at":`, start+int64(d.n(1000)))
	b = idOf(b, `,"assets":{"large_text":"lvl","large_image":`, d.next())
	b = idOf(b, `},"application_id":`, derive(w.bot, 'a', d.n(15)))
	return append(b, `}]}`...)
}

// text appends so many words.
func text(b []byte, d *dice, count int) []byte {
	for i := range count {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, d.pick(words)...)
	}
	return b
}

func (w *world) message(b []byte, e event, d *dice, content, edited bool) []byte {
	author := w.who(e, d)
	channel := w.channel(e, author, d)
	id, sent := e.id, e.at
	if edited {
		id, sent = derive(channel, 'g', d.n(1000)), e.at-int64(d.n(1e6))
	}
	// What is said has dice of its own, so that the two forms of an event differ in nothing else.
	said := dice{d.next()}

	b = append(b, `{"type":0,"tts":false`...)
	b = stamp(b, `,"timestamp":`, sent)
	b = append(b, `,"pinned":false,"nonce":`...)
	b = idOf(b, ``, e.id)
	b = append(b, `,"mentions":[`...)
	if d.chance(25) {
		b = appendUser(b, w.who(e, d))
	}
	b = append(b, `],"mention_roles":[],"mention_everyone":false`...)
	if e.guild != 0 {
		b = append(b, `,"member":`...)
		b = appendMember(b, e.guild, author, false)
	}
	b = idOf(b, `,"id":`, id)
	b = append(b, `,"flags":0`...)
	b = w.said(b, e, &said, content)
	b = append(b, `,"edited_timestamp":`...)
	if edited {
		b = stamp(b, ``, e.at)
	} else {
		b = append(b, `null`...)
	}
	b = idOf(b, `,"channel_id":`, channel)
	if e.guild == 0 {
		b = append(b, `,"channel_type":1`...)
	} else {
		b = append(b, `,"channel_type":0`...)
	}
	b = append(b, `,"author":`...)
	b = appendUser(b, author)
	return append(where(b, e), '}')
}

// said appends what MESSAGE_CONTENT shows and its absence hides. In direct messages the bot always sees it.
func (w *world) said(b []byte, e event, d *dice, shown bool) []byte {
	if !shown && e.guild != 0 {
		return append(b, `,"embeds":[],"content":"","components":[],"attachments":[]`...)
	}
	b = append(b, `,"embeds":[`...)
	if d.chance(15) {
		b = append(b, `{"type":"rich","title":"`...)
		b = text(b, d, 4)
		b = append(b, `","description":"`...)
		b = text(b, d, 20+d.n(40))
		b = num(b, `","color":`, int64(d.n(1<<24)))
		b = append(b, `,"fields":[{"name":"`...)
		b = text(b, d, 2)
		b = append(b, `","value":"`...)
		b = text(b, d, 6)
		b = append(b, `","inline":true}]}`...)
	}
	b = append(b, `],"content":"`...)
	b = text(b, d, 3+d.n(40)+d.n(2)*d.n(120))
	b = append(b, `","components":[],"attachments":[`...)
	if d.chance(8) {
		b = idOf(b, `{"id":`, e.id-1)
		b = num(b, `,"filename":"image.png","size":`, int64(d.n(8<<20)))
		b = num(b, `,"content_type":"image/png","width":`, int64(400+d.n(2000)))
		b = num(b, `,"height":`, int64(300+d.n(1500)))
		b = append(b, `,"url":"https://cdn.discordsim.invalid/attachments/`...)
		b = hex16(b, d.next())
		b = append(b, `/image.png"}`...)
	}
	return append(b, ']')
}

func (w *world) typing(b []byte, e event, d *dice) []byte {
	p := w.who(e, d)
	b = idOf(b, `{"user_id":`, p.id)
	b = num(b, `,"timestamp":`, e.at/1000)
	if e.guild != 0 {
		b = append(b, `,"member":`...)
		b = appendMember(b, e.guild, person{p.id, e.id}, true)
	}
	b = idOf(b, `,"channel_id":`, w.channel(e, p, d))
	if e.guild == 0 {
		// A direct TYPING_START holds nothing that could tell two of the same second apart; the real one does not either.
		b = idOf(b, `,"nonce":`, e.id)
	}
	return append(where(b, e), '}')
}

func (w *world) voiceState(b []byte, e event, d *dice) []byte {
	p := w.who(e, d)
	b = append(b, `{"member":`...)
	b = appendMember(b, e.guild, p, true)
	b = idOf(b, `,"user_id":`, p.id)
	b = yes(b, `,"suppress":false,"self_video":`, d.chance(5))
	b = yes(b, `,"self_mute":`, d.chance(40))
	b = yes(b, `,"self_deaf":`, d.chance(20))
	b = hash(b, `,"session_id":`, d.next(), e.id)
	b = append(b, `,"request_to_speak_timestamp":null,"mute":false,"deaf":false`...)
	b = idOf(b, `,"guild_id":`, e.guild)
	if d.chance(40) {
		return append(b, `,"channel_id":null}`...)
	}
	return append(idOf(b, `,"channel_id":`, derive(e.guild, 'v', d.n(4))), '}')
}

// ownVoiceState is the answer to op 4. A nil channel means that the bot left.
func (w *world) ownVoiceState(guild uint64, channel *uint64, mute, deaf bool) []byte {
	b := idOf(nil, `{"user_id":`, w.bot)
	b = yes(b, `,"suppress":false,"self_video":false,"self_mute":`, mute)
	b = yes(b, `,"self_deaf":`, deaf)
	b = str(b, `,"session_id":"`, randomHex(16))
	b = append(b, `","request_to_speak_timestamp":null,"mute":false,"deaf":false`...)
	b = idOf(b, `,"guild_id":`, guild)
	if channel == nil {
		return append(b, `,"channel_id":null}`...)
	}
	return append(idOf(b, `,"channel_id":`, *channel), '}')
}

func (w *world) memberUpdate(b []byte, e event, d *dice) []byte {
	p := w.who(e, d)
	b = append(b, `{"user":`...)
	b = appendUser(b, person{p.id, e.id})
	b = append(b, `,"roles":[`...)
	for i := range 1 + d.n(4) {
		if i > 0 {
			b = append(b, ',')
		}
		b = idOf(b, ``, derive(e.guild, 'r', d.n(8)))
	}
	b = append(b, `],"premium_since":null,"pending":false`...)
	b = str(b, `,"nick":"`, d.pick(displayNames))
	b = stamp(b, `","joined_at":`, born(derive(p.id, 'j', 0)))
	b = idOf(b, `,"guild_id":`, e.guild)
	return append(b, `,"flags":0,"communication_disabled_until":null,"banner":null,"avatar":null}`...)
}

func (w *world) interaction(b []byte, e event, d *dice) []byte {
	p := w.who(e, d)
	b = append(b, `{"version":1,"type":2,"token":"aW50ZXJhY3Rpb246`...)
	for range 6 {
		b = hex16(b, d.next())
	}
	b = append(b, '"')
	if e.guild == 0 {
		b = append(b, `,"user":`...)
		b = appendUser(b, p)
	} else {
		b = append(b, `,"member":`...)
		b = appendMember(b, e.guild, p, true)
		b = append(b, `,"guild_locale":"en-US","app_permissions":"562949953421311"`...)
	}
	b = idOf(b, `,"locale":"de","id":`, e.id)
	b = append(b, `,"entitlements":[],"entitlement_sku_ids":[]`...)
	b = idOf(b, `,"data":{"type":1,"name":"play","id":`, derive(w.bot, 'k', d.n(20)))
	b = append(b, `,"options":[{"value":"`...)
	b = text(b, d, 1+d.n(8))
	b = append(b, `","type":3,"name":"query"}]}`...)
	b = idOf(b, `,"channel_id":`, w.channel(e, p, d))
	b = idOf(b, `,"application_id":`, w.bot)
	return append(where(b, e), '}')
}

func (w *world) reaction(b []byte, e event, d *dice) []byte {
	p := w.who(e, d)
	channel := w.channel(e, p, d)
	b = idOf(b, `{"user_id":`, p.id)
	b = idOf(b, `,"type":0,"message_id":`, e.id)
	b = idOf(b, `,"message_author_id":`, w.who(e, d).id)
	if e.guild != 0 {
		b = append(b, `,"member":`...)
		b = appendMember(b, e.guild, p, true)
	}
	b = str(b, `,"emoji":{"name":"`, d.pick(emoji))
	b = idOf(b, `","id":null},"channel_id":`, channel)
	return append(where(append(b, `,"burst":false`...), e), '}')
}

// appendUser appends a user object.
// See https://discord.com/developers/docs/resources/user#user-object.
func appendUser(b []byte, p person) []byte {
	d := dice{p.seed}
	b = p.appendName(append(b, `{"username":"`...), &d)
	b = idOf(b, `","public_flags":0,"id":`, p.id)
	b = str(b, `,"global_name":"`, d.pick(displayNames))
	b = append(b, `","discriminator":"0","clan":null,"avatar_decoration_data":null`...)
	b = hash(b, `,"avatar":`, d.next(), p.seed)
	return append(b, '}')
}

// appendName appends the user name, which the first of somebody's dice decide.
func (p person) appendName(b []byte, d *dice) []byte {
	return num(append(b, d.pick(names)...), ``, int64(d.n(10000)))
}

func (p person) name() string { return string(p.appendName(nil, &dice{p.seed})) }

// appendMember appends a guild member object, with or without its user.
// See https://discord.com/developers/docs/resources/guild#guild-member-object.
func appendMember(b []byte, guild uint64, p person, withUser bool) []byte {
	d := dice{p.seed ^ guild}
	b = append(b, '{')
	if withUser {
		b = append(b, `"user":`...)
		b = appendUser(b, p)
		b = append(b, ',')
	}
	b = idOf(b, `"roles":[`, derive(guild, 'r', d.n(8)))
	b = append(b, `],"premium_since":null,"pending":false,"nick":`...)
	if d.chance(30) {
		b = str(b, `"`, d.pick(displayNames))
		b = append(b, '"')
	} else {
		b = append(b, `null`...)
	}
	b = stamp(b, `,"mute":false,"joined_at":`, born(derive(p.id, 'j', 0)))
	return append(b, `,"flags":0,"deaf":false,"communication_disabled_until":null,"banner":null,"avatar":null}`...)
}

// appendBot appends the bot's own user.
func (w *world) appendBot(b []byte) []byte {
	b = idOf(b, `{"verified":true,"username":"simulated","mfa_enabled":true,"id":`, w.bot)
	return append(b, `,"global_name":null,"flags":0,"email":null,"discriminator":"0","bot":true,"avatar":null}`...)
}

// ready is the payload of READY: the bot and the names of its guilds, which follow one by one.
// See https://discord.com/developers/docs/events/gateway-events#ready.
func (w *world) ready(sess *session, c *conn, guilds []uint64, named bool) []byte {
	url, _ := json.Marshal(c.host + resumePath) // a string always can be
	b := str(nil, `{"v":`, c.version)
	b = w.appendBot(append(b, `,"user_settings":{},"user":`...))
	if named {
		b = num(b, `,"shard":[`, int64(sess.shard))
		b = num(b, `,`, int64(sess.total))
		b = append(b, ']')
	}
	b = str(b, `,"session_type":"normal","session_id":"`, sess.id)
	b = append(append(b, `","resume_gateway_url":`...), url...)
	b = append(b, `,"relationships":[],"private_channels":[],"presences":[],"guilds":[`...)
	for i, guild := range guilds {
		if i > 0 {
			b = append(b, ',')
		}
		b = idOf(b, `{"unavailable":true,"id":`, guild)
		b = append(b, '}')
	}
	b = append(b, `],"guild_join_requests":[],"geo_ordered_rtc_regions":["rotterdam","madrid"],"auth":{}`...)
	b = idOf(b, `,"application":{"flags_new":"565248","flags":565248,"id":`, w.bot)
	b = str(b, `},"_trace":["`, sess.trace)
	return append(b, `"]}`...)
}
