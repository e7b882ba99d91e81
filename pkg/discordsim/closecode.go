package discordsim

import (
	"errors"
	"fmt"

	"github.com/coder/websocket"
)

// CloseCode is a WebSocket close code of the gateway.
// See https://discord.com/developers/docs/topics/opcodes-and-status-codes#gateway-gateway-close-event-codes.
type CloseCode int

// The close codes Discord documents, and the two of RFC 6455 that end a session when a client sends them.
const (
	CloseNormal               CloseCode = 1000
	CloseGoingAway            CloseCode = 1001
	CloseUnknownError         CloseCode = 4000
	CloseUnknownOpcode        CloseCode = 4001
	CloseDecodeError          CloseCode = 4002
	CloseNotAuthenticated     CloseCode = 4003
	CloseAuthenticationFailed CloseCode = 4004
	CloseAlreadyAuthenticated CloseCode = 4005
	CloseInvalidSeq           CloseCode = 4007
	CloseRateLimited          CloseCode = 4008
	CloseSessionTimedOut      CloseCode = 4009
	CloseInvalidShard         CloseCode = 4010
	CloseShardingRequired     CloseCode = 4011
	CloseInvalidAPIVersion    CloseCode = 4012
	CloseInvalidIntents       CloseCode = 4013
	CloseDisallowedIntents    CloseCode = 4014
)

// valid reports whether an endpoint may send the code in a close frame (RFC 6455, section 7.4).
func (c CloseCode) valid() bool {
	return c >= 1000 && c <= 1003 || c >= 1007 && c <= 1014 || c >= 3000 && c <= 4999
}

// closeError ends a connection with a close frame.
type closeError struct {
	code   CloseCode
	reason string
}

func (e *closeError) Error() string { return fmt.Sprintf("close %d (%s)", e.code, e.reason) }

func closeWith(code CloseCode, reason string) *closeError { return &closeError{code, reason} }

var (
	// errDropped ends a connection by cutting TCP, without a close frame.
	errDropped = errors.New("connection dropped")
	// errDoesNotRead ends a connection for which too many answers wait.
	errDoesNotRead = closeWith(CloseUnknownError, "client does not read")
	// errCut is the same once what is queued was sent.
	errCut = closeWith(0, "cut by fault")
)

// endsSession reports whether a client that hung up like this has given its session up. Only the codes 1000 and 1001
// do; any other code, or a connection that just breaks, leaves the session to be resumed.
func endsSession(readErr error) bool {
	switch websocket.CloseStatus(readErr) {
	case websocket.StatusNormalClosure, websocket.StatusGoingAway:
		return true
	}
	return false
}
