package discordsim

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Dispatch sends an event to the sessions of a shard that asked for its intent, those without a socket included, and
// returns how many they were. d is sent byte for byte. An event that Discord does not know needs no intent and may be sent
// to any shard. The others go where Discord sends them and nowhere else: an event whose d has a guild_id to the shard that
// has the guild, one without to shard 0. With [AllShards] that is all; naming another shard is an error.
func (s *Server) Dispatch(shard int, eventType string, d json.RawMessage) (sessions int, err error) {
	if err := sendable(eventType, d); err != nil {
		return 0, err
	}
	guild, inGuild := guildOf(eventType, d)
	belongs := func(sess *session) bool { return shardOf(guild, sess.total) == sess.shard }
	if !known(eventType) {
		belongs = func(*session) bool { return true }
	}
	strays := 0
	n := s.each(shard, func(sess *session) bool {
		if !belongs(sess) {
			strays++
			return false
		}
		return s.admits(sess, eventType, inGuild, d) && sess.dispatch(eventType, d)
	})
	if strays > 0 && shard != AllShards {
		where := "without guild_id Discord sends it to shard 0 only"
		if inGuild {
			where = fmt.Sprintf("guild %d is on another shard", guild)
		}
		return n, fmt.Errorf("discordsim: dispatch %s to shard %d: %s", eventType, shard, where)
	}
	return n, nil
}

// DispatchGuild is [Server.Dispatch] to the sessions whose shard has the guild, of each num_shards in use, whatever d says.
func (s *Server) DispatchGuild(guild uint64, eventType string, d json.RawMessage) (sessions int, err error) {
	if err := sendable(eventType, d); err != nil {
		return 0, err
	}
	return s.each(AllShards, func(sess *session) bool {
		return shardOf(guild, sess.total) == sess.shard && s.admits(sess, eventType, true, d) && sess.dispatch(eventType, d)
	}), nil
}

func sendable(eventType string, d json.RawMessage) error {
	name := func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' }
	if eventType == "" || strings.ContainsFunc(eventType, func(r rune) bool { return !name(r) }) {
		return fmt.Errorf("discordsim: dispatch %q: not an event name", eventType)
	}
	if !json.Valid(d) {
		return fmt.Errorf("discordsim: dispatch %q: d is not JSON", eventType)
	}
	return nil
}

// guildOf is the guild that an event names.
func guildOf(eventType string, d json.RawMessage) (guild uint64, named bool) {
	var names struct {
		GuildID *snowflake `json:"guild_id"`
		ID      *snowflake `json:"id"`
	}
	if json.Unmarshal(d, &names) != nil {
		return 0, false
	}
	switch eventType {
	case "GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE":
		names.GuildID = names.ID
	}
	if names.GuildID == nil {
		return 0, false
	}
	return uint64(*names.GuildID), true
}

// admits reports whether a session is sent such an event. That the bot itself was changed it hears in any case.
func (s *Server) admits(sess *session, eventType string, inGuild bool, d json.RawMessage) bool {
	if sess.intents.admits(eventType, inGuild) {
		return true
	}
	var member struct {
		User struct {
			ID snowflake `json:"id"`
		} `json:"user"`
	}
	return eventType == "GUILD_MEMBER_UPDATE" && json.Unmarshal(d, &member) == nil && uint64(member.User.ID) == s.world.bot
}
