package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// MaxCommandBytes is the largest message Discord accepts, opcode included
// (Discord: Gateway, Sending Events).
const MaxCommandBytes = 4096

// Names of a command's fields in Redis, beside d. The last three are a dead
// letter's.
const (
	fieldOp      = "op"
	fieldExpires = "exp"
	fieldReason  = "reason"
	fieldID      = "id"
	fieldAt      = "at"
)

// ErrBadCommand says that a command can never be sent as it is.
var ErrBadCommand = errors.New("bad command")

// Command is a message to Discord by way of a shard (Discord: Gateway Events,
// Send Events).
type Command struct {
	Op      int
	Data    json.RawMessage // d
	Expires time.Time       // from when on it is not to be sent any more; zero: never
}

// DeadCommandsKey is the stream of a shard's commands that were not sent and
// never will be, "<cluster>:{<shard>}:commands:dead".
func DeadCommandsKey(cluster string, shard int) string {
	return shardKey(cluster, shard, "commands:dead")
}

// fields are the command as an entry has it. The error is an ErrBadCommand.
func (c Command) fields() ([]any, error) {
	if c.Op < 0 || c.Op > math.MaxInt32 {
		return nil, fmt.Errorf("%w: op is %d", ErrBadCommand, c.Op)
	}
	if !json.Valid(c.Data) {
		return nil, fmt.Errorf("%w: d is not JSON", ErrBadCommand)
	}
	var d bytes.Buffer
	if err := json.Compact(&d, c.Data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	if n := len(fmt.Sprintf(`{"op":%d,"d":}`, c.Op)) + d.Len(); n > MaxCommandBytes {
		return nil, fmt.Errorf("%w: it takes %d bytes, and Discord accepts %d", ErrBadCommand, n, MaxCommandBytes)
	}
	fields := []any{fieldOp, c.Op, fieldData, d.Bytes()}
	if !c.Expires.IsZero() {
		fields = append(fields, fieldExpires, max(0, c.Expires.UnixMilli()))
	}
	return fields, nil
}

// parseCommand reads an entry of a commands stream, written by whoever can write
// there. It looks at the form only; whether Discord would accept d is for the
// shard's owner to judge.
func parseCommand(values map[string]any) (Command, error) {
	op, okOp := values[fieldOp].(string)
	d, okData := values[fieldData].(string)
	if !okOp || !okData {
		return Command{}, fmt.Errorf("want fields %s and %s", fieldOp, fieldData)
	}
	n, err := strconv.ParseUint(op, 10, 31)
	if err != nil {
		return Command{}, fmt.Errorf("field %s is not a number", fieldOp)
	}
	if len(d) > MaxCommandBytes {
		return Command{}, fmt.Errorf("field %s has %d bytes, and Discord accepts %d", fieldData, len(d), MaxCommandBytes)
	}
	c := Command{Op: int(n), Data: json.RawMessage(d)}
	if exp, ok := values[fieldExpires].(string); ok {
		ms, err := strconv.ParseUint(exp, 10, 63)
		if err != nil {
			return Command{}, fmt.Errorf("field %s is not a time in Unix milliseconds", fieldExpires)
		}
		c.Expires = time.UnixMilli(int64(ms))
	}
	return c, nil
}
