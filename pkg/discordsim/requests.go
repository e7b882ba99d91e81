package discordsim

import (
	"encoding/json"
	"fmt"
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
	switch p.Status {
	case "online", "dnd", "idle", "invisible", "offline":
		return nil
	}
	return fmt.Errorf("decode d: unknown status")
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

const (
	chunkSize        = 1000             // members in one GUILD_MEMBERS_CHUNK
	maxQueryMembers  = 100              // members a query or a list of ids may ask for
	maxNonce         = 32               // bytes; a longer one is dropped
	allMembersPeriod = 30 * time.Second // between two requests for all members of one guild
)

// memberRequest is the d of op 8.
// See https://discord.com/developers/docs/events/gateway-events#request-guild-members.
type memberRequest struct {
	GuildID *snowflake      `json:"guild_id"`
	Query   *string         `json:"query"`
	Limit   int             `json:"limit"`
	UserIDs json.RawMessage `json:"user_ids"`
	Nonce   string          `json:"nonce"`
}

// requestGuildMembers answers with GUILD_MEMBERS_CHUNKs, or with RATE_LIMITED when all members of a guild are asked
// for too often. Asking for all of them without the intent gets no answer.
func (s *Server) requestGuildMembers(_ *conn, sess *session, d json.RawMessage) error {
	r, err := decode[memberRequest](d)
	if err != nil {
		return err
	}
	ids, err := userIDs(r.UserIDs)
	if err != nil {
		return err
	}
	if r.GuildID == nil || r.Query == nil && len(ids) == 0 || r.Limit < 0 || len(ids) > maxQueryMembers {
		return fmt.Errorf("decode d: not a request for members")
	}
	if len(r.Nonce) > maxNonce {
		r.Nonce = ""
	}
	guild := uint64(*r.GuildID)
	if !s.world.has(guild, sess) {
		return nil
	}
	count := len(ids)
	switch {
	case count > 0:
	case *r.Query == "" && r.Limit == 0:
		if sess.intents&IntentGuildMembers == 0 {
			return nil
		}
		if wait := allMembersPeriod - time.Since(s.requests[guild]); wait > 0 {
			sess.dispatch("RATE_LIMITED", fmt.Appendf(nil, `{"opcode":8,"retry_after":%.3f,"meta":{"guild_id":"%d"%s}}`,
				wait.Seconds(), guild, nonceField(r.Nonce)))
			return nil
		}
		s.requests[guild] = time.Now()
		count = s.world.members(guild)
	default:
		count = min(r.Limit, maxQueryMembers, s.world.members(guild))
	}
	s.sendMembers(sess, guild, ids, count, r.Nonce)
	return nil
}

// sendMembers dispatches count members in chunks: those with the given ids, else the guild's first ones.
func (s *Server) sendMembers(sess *session, guild uint64, ids []snowflake, count int, nonce string) {
	chunks := max(1, (count+chunkSize-1)/chunkSize)
	for chunk := range chunks {
		b := fmt.Appendf(nil, `{"guild_id":"%d","members":[`, guild)
		for i := chunk * chunkSize; i < min(count, (chunk+1)*chunkSize); i++ {
			if i%chunkSize > 0 {
				b = append(b, ',')
			}
			who := s.world.member(guild, i)
			if i < len(ids) {
				who = person{id: uint64(ids[i]), seed: mix(uint64(ids[i]))}
			}
			b = appendMember(b, guild, who, true)
		}
		b = fmt.Appendf(b, `],"chunk_index":%d,"chunk_count":%d,"not_found":[]%s}`, chunk, chunks, nonceField(nonce))
		sess.dispatch("GUILD_MEMBERS_CHUNK", b)
	}
}

// userIDs reads user_ids, which is one id or a list.
func userIDs(raw json.RawMessage) ([]snowflake, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '[' {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	var ids []snowflake
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, fmt.Errorf("decode d: user_ids: %w", err)
	}
	return ids, nil
}

func nonceField(nonce string) string {
	if nonce == "" {
		return ""
	}
	quoted, _ := json.Marshal(nonce) // a string always can be
	return `,"nonce":` + string(quoted)
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
	b := fmt.Appendf(nil, `{"guild_id":"%d","channels":[{"id":"%d"`, guild, derive(guild, 'c', 0))
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
