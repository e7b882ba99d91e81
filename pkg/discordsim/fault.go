package discordsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Fault is one thing that goes wrong: a kind of trouble and the stage of a connection where it strikes. It is a plain
// value, the same in Go and, as JSON, in the control API:
//
//	{"stage":"login","kind":"send","message":{"op":9,"d":false}}        every IDENTIFY and RESUME is answered with op 9
//	{"stage":"handshake","path":"resume","kind":"status","code":503}    the resume host is down, the base URL is not
//	{"stage":"gateway","kind":"status","code":429,"retry_after":5,"times":1}
//	{"kind":"blackhole","shards":[3]}                                   shard 3's sockets are half-open from now on
//
// Of the faults that wait at a stage the first injected strikes.
type Fault struct {
	// Stage is where it strikes. Default [StageNow].
	Stage Stage `json:"stage,omitempty"`
	// Kind is what happens.
	Kind FaultKind `json:"kind"`
	// Shards are those it is for; none means all. Only [StageNow] and [StageLogin] know a shard.
	Shards []int `json:"shards,omitempty"`
	// Path makes a waiting fault strike only connections on one URL: "base", or "resume" for resume_gateway_url.
	Path string `json:"path,omitempty"`
	// Times is how often a waiting fault strikes. 0 means until it is lifted.
	Times int `json:"times,omitempty"`

	// Code is the close code of [FaultClose] and the HTTP status of [FaultStatus].
	Code int `json:"code,omitempty"`
	// RetryAfter is the seconds of a [FaultStatus]'s Retry-After header; 0 means no header.
	RetryAfter float64 `json:"retry_after,omitempty"`
	// Message is what [FaultSend] sends. It need not be a message that Discord knows.
	Message json.RawMessage `json:"message,omitempty"`
	// BytesPerSecond is the speed of [FaultSlow].
	BytesPerSecond int `json:"bytes_per_second,omitempty"`
	// Size is the bytes of a [FaultBomb] before compression. Default 64 MiB, at most 1 GiB.
	Size int `json:"size,omitempty"`
}

// Stage is a point in the life of a connection.
type Stage string

// The stages, in the order a connection goes through them.
const (
	StageNow        Stage = "now"         // every socket that is open at this moment, once
	StageGateway    Stage = "gateway"     // GET /gateway and GET /gateway/bot
	StageHandshake  Stage = "handshake"   // a WebSocket's HTTP request
	StageHello      Stage = "hello"       // in place of HELLO
	StageAfterHello Stage = "after-hello" // HELLO was sent
	StageLogin      Stage = "login"       // in place of the answer to an IDENTIFY or RESUME that would have been accepted
)

// FaultKind is a kind of trouble.
type FaultKind string

// The kinds of trouble. A socket that is cut, closed or lost in a black hole leaves its session to be resumed.
const (
	// FaultDrop cuts TCP without a word.
	FaultDrop FaultKind = "drop"
	// FaultBlackHole leaves TCP open and nothing else: what the client sends is swallowed, and nothing comes. A socket
	// never leaves a black hole. The server forgets it when heartbeats are missing, which is no violation, or when its
	// session is resumed. An HTTP request is never answered.
	FaultBlackHole FaultKind = "blackhole"
	// FaultClose closes with Code.
	FaultClose FaultKind = "close"
	// FaultSend sends Message: {"op":7,"d":null} and {"op":9,"d":false} among others, an opcode or an event nobody
	// knows, a dispatch with a number that is not due. The session does not hear of it.
	FaultSend FaultKind = "send"
	// FaultStatus answers an HTTP request with the status Code.
	FaultStatus FaultKind = "status"
	// FaultGarbage answers an HTTP request with 200 and something that is not JSON.
	FaultGarbage FaultKind = "garbage"
	// FaultSlow lets only BytesPerSecond through to the client, until it is lifted.
	FaultSlow FaultKind = "slow"
	// FaultSplit sends every byte in a write of its own, until it is lifted.
	FaultSplit FaultKind = "split"
	// FaultCorrupt makes the next message undecodable: as a compressed stream, or as JSON if it is not compressed.
	FaultCorrupt FaultKind = "corrupt"
	// FaultBomb puts a message of Size bytes that compress to almost nothing before the next one.
	FaultBomb FaultKind = "bomb"
	// FaultOmit leaves the next dispatch out: the client sees a number skipped. A RESUME replays it.
	FaultOmit FaultKind = "omit"
	// FaultRepeat sends the next dispatch twice.
	FaultRepeat FaultKind = "repeat"
)

// faultStages says at which stages a kind makes sense.
var faultStages = map[FaultKind][]Stage{
	FaultDrop:      {StageNow, StageGateway, StageHandshake, StageHello, StageAfterHello, StageLogin},
	FaultBlackHole: {StageNow, StageGateway, StageHandshake, StageHello, StageAfterHello, StageLogin},
	FaultClose:     {StageNow, StageHello, StageAfterHello, StageLogin},
	FaultSend:      {StageNow, StageHello, StageAfterHello, StageLogin},
	FaultStatus:    {StageGateway, StageHandshake},
	FaultGarbage:   {StageGateway, StageHandshake},
	FaultSlow:      {StageNow, StageHello, StageAfterHello, StageLogin},
	FaultSplit:     {StageNow, StageHello, StageAfterHello, StageLogin},
	FaultCorrupt:   {StageNow, StageHello, StageAfterHello, StageLogin},
	FaultBomb:      {StageNow, StageHello, StageAfterHello, StageLogin},
	FaultOmit:      {StageNow, StageLogin},
	FaultRepeat:    {StageNow, StageLogin},
}

const (
	defaultBomb = 64 << 20
	maxBomb     = 1 << 30
)

func (f Fault) withDefaults() Fault {
	orDefault(&f.Stage, StageNow)
	if f.Kind == FaultBomb {
		orDefault(&f.Size, defaultBomb)
	}
	return f
}

// validate names everything about the fault that makes no sense.
func (f Fault) validate() error {
	stages, known := faultStages[f.Kind]
	if !known {
		return fmt.Errorf("discordsim: fault: kind is %q, unknown", f.Kind)
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("discordsim: fault "+string(f.Kind)+": "+format, args...))
		}
	}
	only := func(field string, given bool, kinds ...FaultKind) {
		check(!given || slices.Contains(kinds, f.Kind), "%s is given, which it has no use for", field)
	}
	check(slices.Contains(stages, f.Stage), "stage is %q, must be one of %s", f.Stage, list(stages))
	check(len(f.Shards) == 0 || f.Stage == StageNow || f.Stage == StageLogin, "shards are given, which are not known at stage %s", f.Stage)
	check(f.Path == "" || f.Path == "base" || f.Path == "resume", `path is %q, must be "base", "resume" or nothing`, f.Path)
	check(f.Path == "" || f.Stage != StageNow && f.Stage != StageGateway, "path is given, which makes no difference at stage %s", f.Stage)
	check(f.Times >= 0, "times is %d, must not be negative", f.Times)
	check(f.Times == 0 || f.Stage != StageNow, "times is given, but now is only once")
	only("code", f.Code != 0, FaultClose, FaultStatus)
	only("retry_after", f.RetryAfter != 0, FaultStatus)
	only("message", f.Message != nil, FaultSend)
	only("bytes_per_second", f.BytesPerSecond != 0, FaultSlow)
	only("size", f.Size != 0, FaultBomb)
	switch f.Kind {
	case FaultClose:
		check(CloseCode(f.Code).valid(), "code is %d, must be a close code that may be sent: 1000 to 1003, 1007 to 1014 or 3000 to 4999", f.Code)
	case FaultStatus:
		check(f.Code >= 200 && f.Code <= 599, "code is %d, must be an HTTP status of 200 to 599", f.Code)
		check(f.RetryAfter >= 0 && f.RetryAfter <= math.MaxInt32, "retry_after is %v, must not be negative", f.RetryAfter)
	case FaultSend:
		check(json.Valid(f.Message), "message is not JSON")
	case FaultSlow:
		check(f.BytesPerSecond > 0, "bytes_per_second is %d, must be positive", f.BytesPerSecond)
	case FaultBomb:
		check(f.Size > 0 && f.Size <= maxBomb, "size is %d, must be between 1 and %d", f.Size, maxBomb)
	}
	return errors.Join(errs...)
}

func list(stages []Stage) string {
	names := make([]string, len(stages))
	for i, stage := range stages {
		names[i] = string(stage)
	}
	return strings.Join(names, ", ")
}

// strikes reports whether a waiting fault is for such a connection.
func (f Fault) strikes(stage Stage, path string, shard int) bool {
	if f.Stage != stage || len(f.Shards) > 0 && !slices.Contains(f.Shards, shard) {
		return false
	}
	return f.Path == "" || (f.Path == "resume") == (path == resumePath)
}
