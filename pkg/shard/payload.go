package shard

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Opcodes of API v10 that a session meets (Discord: Opcodes and Status Codes).
const (
	opDispatch        = 0
	opHeartbeat       = 1
	opIdentify        = 2
	opPresence        = 3
	opVoiceState      = 4
	opResume          = 6
	opReconnect       = 7
	opRequestMembers  = 8
	opInvalidSession  = 9
	opHello           = 10
	opHeartbeatAck    = 11
	opRequestSounds   = 31
	opRequestChannels = 43
)

type command struct {
	Op   int `json:"op"`
	Data any `json:"d"`
}

// marshal is json.Marshal without its escapes for HTML, which would make six bytes of one.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func identifyPayload(c Config) ([]byte, error) {
	var presence *Presence
	if c.Presence != nil {
		p := c.Presence.on(c.ID)
		presence = &p
	}
	return marshal(command{opIdentify, struct {
		Token          string     `json:"token"`
		Intents        Intents    `json:"intents"`
		Properties     Properties `json:"properties"`
		Shard          [2]int     `json:"shard"`
		LargeThreshold int        `json:"large_threshold,omitempty"`
		Presence       *Presence  `json:"presence,omitempty"`
		Capabilities   int64      `json:"capabilities,omitempty"`
	}{c.Token, c.Intents, c.Properties, [2]int{c.ID.Index, c.ID.Total}, c.LargeThreshold, presence, c.Capabilities}})
}

func resumePayload(token string, r Resume) ([]byte, error) {
	return marshal(command{opResume, struct {
		Token     string `json:"token"`
		SessionID string `json:"session_id"`
		Seq       int64  `json:"seq"`
	}{token, r.SessionID, r.Seq}})
}

// heartbeatPayload tells the last sequence number, or null if there is none yet.
func heartbeatPayload(seq int64) []byte {
	if seq == 0 {
		return []byte(`{"op":1,"d":null}`)
	}
	return append(strconv.AppendInt([]byte(`{"op":1,"d":`), seq, 10), '}')
}
