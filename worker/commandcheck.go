package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/muster-gateway/muster/pkg/shard"
)

// The commands that Discord knows (Discord: Gateway Events, Send Events), without those that are the session's own.
const (
	opPresence        = 3
	opVoiceState      = 4
	opRequestMembers  = 8
	opRequestSounds   = 31
	opRequestChannels = 43
)

// checkCommand looks for what Discord would close the connection for: whoever can write to Redis could otherwise keep a shard from its
// events by mistake. What it lets pass may still be refused, or not answered.
func checkCommand(op int, d json.RawMessage) error {
	check, known := commandChecks[op]
	if !known {
		return fmt.Errorf("op %d is no command: want 3, 4, 8, 31 or 43", op)
	}
	if !json.Valid(d) {
		return errors.New("d is not JSON")
	}
	if err := check(d); err != nil {
		return fmt.Errorf("op %d: %w", op, err)
	}
	return nil
}

var commandChecks = map[int]func(json.RawMessage) error{
	opPresence:        checkPresence,
	opVoiceState:      checkVoiceState,
	opRequestMembers:  checkRequestMembers,
	opRequestSounds:   checkRequestSounds,
	opRequestChannels: checkRequestChannels,
}

// checkPresence checks what shard.Presence knows of a presence, and lets other members pass.
func checkPresence(d json.RawMessage) error {
	var p shard.Presence
	if err := json.Unmarshal(d, &p); err != nil {
		return err
	}
	known, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = shard.ParsePresence(string(known))
	return err
}

func checkVoiceState(d json.RawMessage) error {
	var v struct {
		Guild   snowflake  `json:"guild_id"`
		Channel *snowflake `json:"channel_id"`
		Mute    bool       `json:"self_mute"`
		Deaf    bool       `json:"self_deaf"`
	}
	if err := json.Unmarshal(d, &v); err != nil {
		return err
	}
	return v.Guild.required()
}

func checkRequestMembers(d json.RawMessage) error {
	var r struct {
		Guild     snowflake       `json:"guild_id"`
		Query     *string         `json:"query"`
		Limit     int             `json:"limit"`
		UserIDs   json.RawMessage `json:"user_ids"`
		Presences bool            `json:"presences"`
		Nonce     string          `json:"nonce"`
	}
	if err := json.Unmarshal(d, &r); err != nil {
		return err
	}
	users, err := oneOrMany(r.UserIDs)
	switch {
	case err != nil:
		return fmt.Errorf("user_ids: %w", err)
	case r.Query == nil && len(users) == 0:
		return errors.New("neither query nor user_ids")
	case len(users) > 100:
		return fmt.Errorf("%d user_ids, at most 100 are accepted", len(users))
	case r.Limit < 0:
		return fmt.Errorf("limit is %d", r.Limit)
	}
	return r.Guild.required()
}

func checkRequestSounds(d json.RawMessage) error {
	var r struct {
		Guilds []snowflake `json:"guild_ids"`
	}
	if err := json.Unmarshal(d, &r); err != nil {
		return err
	}
	if len(r.Guilds) == 0 {
		return errors.New("no guild_ids")
	}
	return nil
}

func checkRequestChannels(d json.RawMessage) error {
	var r struct {
		Guild  snowflake `json:"guild_id"`
		Fields []string  `json:"fields"`
	}
	if err := json.Unmarshal(d, &r); err != nil {
		return err
	}
	return r.Guild.required()
}

// oneOrMany reads an id or a list of them.
func oneOrMany(text json.RawMessage) (ids []snowflake, err error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	if text[0] == '[' {
		return ids, json.Unmarshal(text, &ids)
	}
	ids = make([]snowflake, 1)
	return ids, json.Unmarshal(text, &ids[0])
}

// snowflake is an id of Discord's in JSON: a string of digits, or a number.
type snowflake uint64

// UnmarshalJSON implements json.Unmarshaler.
func (s *snowflake) UnmarshalJSON(text []byte) error {
	digits := string(text)
	if digits == "null" {
		return nil
	}
	if digits[0] == '"' {
		if err := json.Unmarshal(text, &digits); err != nil {
			return err
		}
	}
	id, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return errors.New("an id is not a number")
	}
	*s = snowflake(id)
	return nil
}

func (s snowflake) required() error {
	if s == 0 {
		return errors.New("no guild_id")
	}
	return nil
}
