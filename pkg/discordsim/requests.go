package discordsim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// requests are the opcodes a client may send once it has a session. They are checked for shape and answered plausibly.
// An error means that d could not be read. Server.mu is held.
var requests = map[opcode]func(*Server, *conn, *session, json.RawMessage) error{
	opPresenceUpdate:      (*Server).updatePresence,
	opVoiceStateUpdate:    (*Server).updateVoiceState,
	opRequestGuildMembers: (*Server).requestGuildMembers,
	opRequestSoundboard:   (*Server).requestSoundboard,
	opRequestChannelInfo:  (*Server).requestChannelInfo,
}

// snowflake is an id as JSON carries it: a string of digits.
type snowflake uint64

// UnmarshalJSON implements [json.Unmarshaler]. Like Discord it takes a number as well.
func (id *snowflake) UnmarshalJSON(b []byte) error {
	text := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("id is not a snowflake")
	}
	*id = snowflake(n)
	return nil
}

// presenceUpdate is the d of op 3, and "presence" in IDENTIFY.
type presenceUpdate struct {
	Since      *int64            `json:"since"`
	Activities []json.RawMessage `json:"activities"`
	Status     string            `json:"status"`
	AFK        bool              `json:"afk"`
}

// updatePresence accepts a presence, one that comes too soon as well. A bot is not told of its own.
func (s *Server) updatePresence(c *conn, _ *session, d json.RawMessage) error {
	p, err := decode[presenceUpdate](d)
	if err != nil {
		return err
	}
	if !c.presences.allow(time.Now()) {
		s.blame(c, RulePresenceRate, fmt.Sprintf("more than %d in %v", presenceLimit, presencePeriod))
	}
	if !p.valid() {
		return fmt.Errorf("decode d: unknown status")
	}
	return nil
}

// valid reports whether there is such a status.
func (p presenceUpdate) valid() bool {
	return slices.Contains([]string{"online", "dnd", "idle", "invisible", "offline"}, p.Status)
}

// updateVoiceState joins, moves or leaves a voice channel.
func (s *Server) updateVoiceState(_ *conn, sess *session, d json.RawMessage) error {
	v, err := decode[struct {
		GuildID   *snowflake `json:"guild_id"`
		ChannelID *snowflake `json:"channel_id"`
		SelfMute  bool       `json:"self_mute"`
		SelfDeaf  bool       `json:"self_deaf"`
	}](d)
	if err != nil {
		return err
	}
	if v.GuildID == nil {
		return fmt.Errorf("decode d: no guild_id")
	}
	guild := uint64(*v.GuildID)
	if !s.world.has(guild, sess) {
		return nil
	}
	if sess.intents.admits("VOICE_STATE_UPDATE", true) {
		sess.dispatch("VOICE_STATE_UPDATE", s.world.ownVoiceState(guild, (*uint64)(v.ChannelID), v.SelfMute, v.SelfDeaf))
	}
	if v.ChannelID != nil {
		sess.dispatch("VOICE_SERVER_UPDATE", fmt.Appendf(nil, `{"token":"%s","guild_id":"%d","endpoint":"voice-%d.discordsim.invalid:2083"}`,
			randomHex(8), guild, guild%100))
	}
	return nil
}

// requestSoundboard answers op 31 with one SOUNDBOARD_SOUNDS for each guild.
func (s *Server) requestSoundboard(_ *conn, sess *session, d json.RawMessage) error {
	r, err := decode[struct {
		GuildIDs []snowflake `json:"guild_ids"`
	}](d)
	if err != nil {
		return err
	}
	for _, id := range r.GuildIDs {
		guild := uint64(id)
		if s.world.has(guild, sess) {
			sess.dispatch("SOUNDBOARD_SOUNDS", fmt.Appendf(nil,
				`{"soundboard_sounds":[{"name":"airhorn","sound_id":"%d","volume":1.0,"emoji_id":null,"emoji_name":"📣","guild_id":"%d","available":true}],"guild_id":"%d"}`,
				derive(guild, 'b', 0), guild, guild))
		}
	}
	return nil
}

// requestChannelInfo answers op 43 for the guild's first voice channel.
func (s *Server) requestChannelInfo(_ *conn, sess *session, d json.RawMessage) error {
	r, err := decode[struct {
		GuildID *snowflake `json:"guild_id"`
		Fields  []string   `json:"fields"`
	}](d)
	if err != nil {
		return err
	}
	if r.GuildID == nil {
		return fmt.Errorf("decode d: no guild_id")
	}
	guild := uint64(*r.GuildID)
	if !s.world.has(guild, sess) {
		return nil
	}
	b := fmt.Appendf(nil, `{"guild_id":"%d","channels":[{"id":"%d"`, guild, derive(guild, 'v', 0))
	for _, field := range r.Fields {
		switch field {
		case "status":
			b = append(b, `,"status":"listening to rain"`...)
		case "voice_start_time":
			b = fmt.Appendf(b, `,"voice_start_time":%d`, time.Now().Add(-time.Hour).Unix())
		}
	}
	sess.dispatch("CHANNEL_INFO", append(b, `}]}`...))
	return nil
}
