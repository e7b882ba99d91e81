package discordsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// opcode is a gateway opcode.
// See https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway.
type opcode int

const (
	opHeartbeat           opcode = 1
	opIdentify            opcode = 2
	opPresenceUpdate      opcode = 3
	opVoiceStateUpdate    opcode = 4
	opResume              opcode = 6
	opReconnect           opcode = 7
	opRequestGuildMembers opcode = 8
	opInvalidSession      opcode = 9
	opHello               opcode = 10
	opHeartbeatAck        opcode = 11
	opRequestSoundboard   opcode = 31
	opRequestChannelInfo  opcode = 43
)

const (
	// maxShards bounds num_shards. Discord's bound is not documented; this one only keeps arithmetic sane.
	maxShards = 1 << 20
	// maxShardGuilds is how many guilds Discord puts on one shard.
	maxShardGuilds = 2500
	// minLargeThreshold and maxLargeThreshold bound large_threshold in IDENTIFY; the smallest is the default.
	minLargeThreshold = 50
	maxLargeThreshold = 250
	// capObfuscation is the bit of capabilities that asks for channels the bot cannot view, obfuscated.
	capObfuscation = 1 << 15
)

// envelope is a message of a client.
type envelope struct {
	Op *opcode         `json:"op"`
	D  json.RawMessage `json:"d"`
}

// incoming is a client message that was read.
type incoming struct {
	raw []byte // cut after maxPayload+1 bytes
	op  opcode
	d   json.RawMessage
	err error // why there is no op
}

// decodeMessage reads a client message.
func decodeMessage(raw []byte) incoming {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil {
		return incoming{raw: raw, err: fmt.Errorf("decode message: %w", err)}
	}
	if e.Op == nil {
		return incoming{raw: raw, err: fmt.Errorf("decode message: no op")}
	}
	return incoming{raw: raw, op: *e.Op, d: e.D}
}

// decode reads d, which must be a JSON object.
func decode[T any](d json.RawMessage) (T, error) {
	var v T
	if trimmed := bytes.TrimLeft(d, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return v, fmt.Errorf("decode d: not an object")
	}
	if err := json.Unmarshal(d, &v); err != nil {
		return v, fmt.Errorf("decode d: %w", err)
	}
	return v, nil
}

// decodeSeq reads the d of a heartbeat: a sequence number or null.
func decodeSeq(d json.RawMessage) error {
	if len(d) == 0 || string(d) == "null" {
		return nil
	}
	if _, err := strconv.ParseUint(string(d), 10, 63); err != nil {
		return fmt.Errorf("decode heartbeat: d is neither a sequence number nor null")
	}
	return nil
}

// identify is the d of op 2. Pointers tell what was left out.
// See https://discord.com/developers/docs/events/gateway-events#identify.
type identify struct {
	Token          string          `json:"token"`
	Intents        *int64          `json:"intents"`
	Properties     *properties     `json:"properties"`
	Compress       bool            `json:"compress"`
	LargeThreshold *int            `json:"large_threshold"`
	Shard          *[]int64        `json:"shard"`
	Presence       *presenceUpdate `json:"presence"`
	Capabilities   *int64          `json:"capabilities"`
}

type properties struct {
	OS      *string `json:"os"`
	Browser *string `json:"browser"`
	Device  *string `json:"device"`
}

// resume is the d of op 6.
type resume struct {
	Token     string `json:"token"`
	SessionID string `json:"session_id"`
	Seq       *int64 `json:"seq"`
}

// bareToken drops the prefix some clients send in IDENTIFY and RESUME, which Discord tolerates.
func bareToken(token string) string { return strings.TrimPrefix(token, "Bot ") }

// pair is the shard the client wants to be; [0,1] when it does not say.
func (id identify) pair() (shardPair, bool) {
	if id.Shard == nil {
		return shardPair{0, 1}, true
	}
	s := *id.Shard
	if len(s) != 2 || s[1] < 1 || s[1] > maxShards || s[0] < 0 || s[0] >= s[1] {
		return noPair, false
	}
	return shardPair{int(s[0]), int(s[1])}, true
}

// String shows what may be shown of an IDENTIFY, which is not the token.
func (id identify) String() string {
	show := func(v any) string {
		b, _ := json.Marshal(v) // numbers always can be
		return string(b)
	}
	return fmt.Sprintf("shard %s, intents %s, large_threshold %s", show(id.Shard), show(id.Intents), show(id.LargeThreshold))
}

// view is how the session sees guilds.
func (id identify) view(obfuscate bool) view {
	v := view{presences: Intents(*id.Intents)&IntentGuildPresences != 0, large: minLargeThreshold}
	if id.LargeThreshold != nil {
		v.large = *id.LargeThreshold
	}
	v.obfuscated = obfuscate || id.Capabilities != nil && *id.Capabilities&capObfuscation != 0
	return v
}

// judge checks an IDENTIFY against what the bot is, in the order Discord does. It changes nothing.
func (id identify) judge(opts Options, tokenOK bool, guildsOn func(shardPair) int) *closeError {
	if !tokenOK {
		return closeWith(CloseAuthenticationFailed, "authentication failed")
	}
	pair, ok := id.pair()
	if !ok || pair.total%opts.ShardMultiple != 0 {
		return closeWith(CloseInvalidShard, "invalid shard")
	}
	if guildsOn(pair) > maxShardGuilds {
		return closeWith(CloseShardingRequired, "sharding required")
	}
	if id.Intents == nil || *id.Intents < 0 || Intents(*id.Intents)&^AllIntents != 0 {
		return closeWith(CloseInvalidIntents, "invalid intents")
	}
	if Intents(*id.Intents)&PrivilegedIntents&^opts.Privileged != 0 {
		return closeWith(CloseDisallowedIntents, "disallowed intents")
	}
	if id.Properties == nil {
		return closeWith(CloseDecodeError, "identify without properties")
	}
	if p := id.Presence; p != nil && p.Status != "" && !p.valid() { // discordgo leaves the status out, and gets in
		return closeWith(CloseDecodeError, "unknown status in presence")
	}
	if t := id.LargeThreshold; t != nil && (*t < minLargeThreshold || *t > maxLargeThreshold) {
		return closeWith(CloseDecodeError, "large_threshold out of range")
	}
	return nil
}

func hello(interval time.Duration) []byte {
	return appendMessage(opHello, fmt.Sprintf(`{"heartbeat_interval":%d,"_trace":["[\"discordsim\",{\"micros\":0.0}]"]}`,
		interval.Milliseconds()))
}

func invalidSession(resumable bool) []byte {
	return appendMessage(opInvalidSession, strconv.FormatBool(resumable))
}
