package shard

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Command is a message to Discord, for [Session.Send]: one of the types of this file. They are checked before they are
// sent, because Discord answers what it does not like by closing the connection.
type Command interface {
	// command returns the opcode and d, for one shard.
	command(id ID) (op int, d any, err error)
}

// ErrBadCommand says that a command can never be sent as it is: too large, or not of the form Discord accepts.
var ErrBadCommand = errors.New("bad command")

// UpdateVoiceState joins, moves between or leaves the voice channels of a guild (Discord: Gateway Events, Update Voice
// State).
type UpdateVoiceState struct {
	GuildID   uint64
	ChannelID uint64 // 0: leave
	SelfMute  bool
	SelfDeaf  bool
}

func (c UpdateVoiceState) command(ID) (int, any, error) {
	if c.GuildID == 0 {
		return 0, nil, errors.New("no GuildID")
	}
	var channel *uint64
	if c.ChannelID != 0 {
		channel = &c.ChannelID
	}
	return opVoiceState, struct {
		GuildID   uint64  `json:"guild_id,string"`
		ChannelID *uint64 `json:"channel_id,string"`
		SelfMute  bool    `json:"self_mute"`
		SelfDeaf  bool    `json:"self_deaf"`
	}{c.GuildID, channel, c.SelfMute, c.SelfDeaf}, nil
}

// RequestGuildMembers asks for members of a guild, which come as GUILD_MEMBERS_CHUNK (Discord: Gateway Events, Request
// Guild Members). It asks for UserIDs, or if there are none for up to Limit whose names begin with Query; with neither
// it asks for everybody, which needs the intent GUILD_MEMBERS, and which Discord allows once in 30 s for a guild.
type RequestGuildMembers struct {
	GuildID   uint64
	UserIDs   []uint64 // at most 100
	Query     string
	Limit     int
	Presences bool   // theirs too; needs the intent GUILD_PRESENCES
	Nonce     string // comes back with the answer; at most 32 bytes
}

// What Discord accepts in op 8 (Discord: Gateway Events, Request Guild Members).
const (
	maxUserIDs    = 100
	maxNonceBytes = 32
)

func (c RequestGuildMembers) command(ID) (int, any, error) {
	switch {
	case c.GuildID == 0:
		return 0, nil, errors.New("no GuildID")
	case len(c.UserIDs) > maxUserIDs:
		return 0, nil, fmt.Errorf("%d UserIDs, at most %d are accepted", len(c.UserIDs), maxUserIDs)
	case len(c.UserIDs) > 0 && (c.Query != "" || c.Limit != 0):
		return 0, nil, errors.New("UserIDs together with Query or Limit")
	case c.Limit < 0:
		return 0, nil, fmt.Errorf("a Limit of %d", c.Limit)
	case len(c.Nonce) > maxNonceBytes:
		return 0, nil, fmt.Errorf("a Nonce of %d bytes, at most %d are accepted", len(c.Nonce), maxNonceBytes)
	}
	d := map[string]any{"guild_id": snowflake(c.GuildID)}
	if len(c.UserIDs) > 0 {
		d["user_ids"] = snowflakes(c.UserIDs)
	} else {
		d["query"], d["limit"] = c.Query, c.Limit
	}
	if c.Presences {
		d["presences"] = true
	}
	if c.Nonce != "" {
		d["nonce"] = c.Nonce
	}
	return opRequestMembers, d, nil
}

// RequestSoundboardSounds asks for the soundboard sounds of guilds, which come as one SOUNDBOARD_SOUNDS for each
// (Discord: Gateway Events, Request Soundboard Sounds).
type RequestSoundboardSounds struct {
	GuildIDs []uint64
}

func (c RequestSoundboardSounds) command(ID) (int, any, error) {
	if len(c.GuildIDs) == 0 {
		return 0, nil, errors.New("no GuildIDs")
	}
	return opRequestSounds, map[string]any{"guild_ids": snowflakes(c.GuildIDs)}, nil
}

// RequestChannelInfo asks for what GUILD_CREATE leaves out of a guild's channels, which comes as CHANNEL_INFO (Discord:
// Gateway Events, Request Channel Info).
type RequestChannelInfo struct {
	GuildID uint64
	Fields  []string // "status", "voice_start_time"
}

func (c RequestChannelInfo) command(ID) (int, any, error) {
	switch {
	case c.GuildID == 0:
		return 0, nil, errors.New("no GuildID")
	case len(c.Fields) == 0:
		return 0, nil, errors.New("no Fields")
	}
	return opRequestChannels, map[string]any{"guild_id": snowflake(c.GuildID), "fields": c.Fields}, nil
}

// Raw is a command in Discord's own form, such as one that is newer than this package. The limits of its opcode hold for it
// as well.
type Raw struct {
	Op   int
	Data json.RawMessage
}

// notCommands are the opcodes that belong to the session itself, or that only Discord sends.
var notCommands = []int{opDispatch, opHeartbeat, opIdentify, opResume, opReconnect, opInvalidSession, opHello, opHeartbeatAck}

func (c Raw) command(ID) (int, any, error) {
	switch {
	case c.Op < 0 || slices.Contains(notCommands, c.Op):
		return 0, nil, fmt.Errorf("op %d is not for a caller to send", c.Op)
	case !json.Valid(c.Data):
		return 0, nil, errors.New("no JSON in Data")
	}
	return c.Op, c.Data, nil
}

// snowflake is an id as Discord writes it.
func snowflake(id uint64) string { return strconv.FormatUint(id, 10) }

func snowflakes(ids []uint64) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = snowflake(id)
	}
	return texts
}

// outgoing is a command that is ready to be sent.
type outgoing struct {
	payload []byte
	lane    lane
	// everyone: the command asks for all members of a guild.
	everyone bool
	done     chan error // gets exactly one, when its fate is known
}

// lane is what keeps its order whatever is held back: commands of one opcode, for op 8 those of one guild.
type lane struct {
	op    int
	guild string
}

// encode makes a command ready for one shard. Its error is an ErrBadCommand.
func encode(cmd Command, id ID) (*outgoing, error) {
	op, d, err := cmd.command(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %T: %w", ErrBadCommand, cmd, err)
	}
	out := &outgoing{lane: lane{op: op}, done: make(chan error, 1)}
	if out.payload, err = marshal(command{op, d}); err != nil {
		return nil, fmt.Errorf("%w: %T: %w", ErrBadCommand, cmd, err)
	}
	if n := len(out.payload); n > maxCommandBytes {
		return nil, fmt.Errorf("%w: %T takes %d bytes, and Discord accepts %d", ErrBadCommand, cmd, n, maxCommandBytes)
	}
	if op == opRequestMembers {
		out.lane.guild, out.everyone = membersOf(out.payload)
	}
	return out, nil
}

// membersOf reads what the limits of op 8 depend on from a message. A request in a form unknown to us is one for everybody.
func membersOf(payload []byte) (guild string, everyone bool) {
	var m struct {
		D struct {
			GuildID json.RawMessage `json:"guild_id"`
			UserIDs json.RawMessage `json:"user_ids"`
			Query   string          `json:"query"`
			Limit   int             `json:"limit"`
		} `json:"d"`
	}
	if json.Unmarshal(payload, &m) != nil {
		return "", true
	}
	return unquote(m.D.GuildID), !named(m.D.UserIDs) && m.D.Query == "" && m.D.Limit == 0
}

// named says whether user_ids, which is one id or a list, names anybody.
func named(ids json.RawMessage) bool {
	var list []json.RawMessage
	if json.Unmarshal(ids, &list) == nil {
		return len(list) > 0
	}
	return len(ids) > 0
}

// unquote is an id as digits, whether JSON has it as a string or as a number.
func unquote(id json.RawMessage) string {
	var text string
	if json.Unmarshal(id, &text) == nil {
		return text
	}
	return string(id)
}
