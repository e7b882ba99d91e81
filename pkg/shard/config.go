package shard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"

	"github.com/hashicorp/go-hclog"
)

// ErrEndSession, as the cause of the context given to [Session.Run], asks Run to end the session with the connection:
// it closes with code 1000, after which nobody can resume it.
var ErrEndSession = errors.New("end the session")

// DefaultMaxMessageBytes bounds a decompressed message if [Config.MaxMessageBytes] is 0. Discord documents no bound;
// GUILD_CREATE of a large guild is several megabytes.
const DefaultMaxMessageBytes = 32 << 20

// maxCommandBytes is the largest message Discord accepts (Discord: Gateway, Sending Events).
const maxCommandBytes = 4096

// Event is one dispatch.
type Event struct {
	Seq  int64  // s, the number in the session; goes up by one
	Type string // t, such as "MESSAGE_CREATE"; the same string value for equal types, cheap to keep
	Data []byte // d as Discord sent it (READY: without the session id); valid only during Deliver
}

// Properties is what IDENTIFY says about the client.
type Properties struct {
	OS      string `json:"os"`
	Browser string `json:"browser"`
	Device  string `json:"device"`
}

// Config says which shard a [Session] is and how it meets the rest of the program. A session calls each callback on at
// most one goroutine at a time, and Gate and Identifier only while events of an earlier connection are no longer delivered.
type Config struct {
	ID             ID
	Token          string // the bare bot token, without "Bot "
	Intents        Intents
	Properties     Properties // default: the operating system, muster, muster
	LargeThreshold int        // 50 to 250; 0 leaves it to Discord
	Presence       *Presence  // sent with IDENTIFY; optional
	Capabilities   int64      // bits of IDENTIFY's field of that name, passed on as they are; 0 leaves it out

	Compression Compression // default CompressionZstd
	GatewayURL  string      // url of GET /gateway/bot, wss://…

	// Gate returns when this process may speak for the shard. It is asked before every dial and again right before
	// RESUME or IDENTIFY. Nil means always. An error ends Run.
	Gate func(context.Context) error
	// Identifier gives leave to IDENTIFY. Nil: one of this session's own, which knows nothing of other shards.
	Identifier Identifier
	// Store keeps the session for the next Run. Nil: a MemoryStore of this session's own.
	Store Store
	// Standby, if set, is taken in place of the first connection that would be dialled to where it leads. While it connects
	// that is waited for. One that is never taken is for its owner to end.
	Standby *Standby
	// Deliver takes each event in order, on the goroutine that reads the socket: while it blocks, the socket is not
	// read. It must return soon after its context, which is Run's, has ended. An error ends Run, and the event counts as
	// not delivered.
	Deliver func(context.Context, Event) error
	// Observe, if set, is told of each change of state. It must not block and must not call the Session.
	Observe func(Status)

	Logger hclog.Logger // nil logs nothing
	// DialContext opens the network connection, as net.Dialer.DialContext does, which is the default.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLSConfig is for wss:// connections; nil means Go's defaults, which trust the system's certificates.
	TLSConfig *tls.Config
	// MaxMessageBytes bounds a message, compressed and decompressed; default DefaultMaxMessageBytes. A larger one
	// breaks the connection.
	MaxMessageBytes int
}

// String names the shard only: a Config holds the token, which must not be printed by accident.
func (c Config) String() string { return "shard.Config(" + c.ID.String() + ")" }

// GoString is String.
func (c Config) GoString() string { return c.String() }

// withDefaults returns the configuration with its zero fields set.
func (c Config) withDefaults() Config {
	if c.Properties == (Properties{}) {
		c.Properties = Properties{OS: runtime.GOOS, Browser: "muster", Device: "muster"}
	}
	if c.Compression == "" {
		c.Compression = CompressionZstd
	}
	if c.Gate == nil {
		c.Gate = func(context.Context) error { return nil }
	}
	if c.Identifier == nil {
		c.Identifier = NewIdentifyQueue(IdentifyLimits{MaxConcurrency: 1})
	}
	if c.Store == nil {
		c.Store = new(MemoryStore)
	}
	if c.Observe == nil {
		c.Observe = func(Status) {}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.DialContext == nil {
		c.DialContext = new(net.Dialer).DialContext
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = DefaultMaxMessageBytes
	}
	return c
}

// validate names the first field that cannot work.
func (c Config) validate() error {
	switch {
	case c.ID.Total < 1 || c.ID.Index < 0 || c.ID.Index >= c.ID.Total:
		return fmt.Errorf("field ID is %s: want an index from 0 and below the total", c.ID)
	case c.Token == "":
		return errors.New("field Token is empty")
	case c.LargeThreshold != 0 && (c.LargeThreshold < 50 || c.LargeThreshold > 250):
		return fmt.Errorf("field LargeThreshold is %d: want 50 to 250, or 0", c.LargeThreshold)
	case c.Capabilities < 0:
		return fmt.Errorf("field Capabilities is %d: want none below 0", c.Capabilities)
	case c.Deliver == nil:
		return errors.New("field Deliver is nil")
	case c.MaxMessageBytes < 0:
		return fmt.Errorf("field MaxMessageBytes is %d: want none below 0", c.MaxMessageBytes)
	}
	if c.Presence != nil {
		if err := c.Presence.validate(); err != nil {
			return fmt.Errorf("field Presence: %w", err)
		}
	}
	if _, err := ParseCompression(string(c.Compression)); err != nil {
		return fmt.Errorf("field Compression: %w", err)
	}
	if err := checkGatewayURL(c.GatewayURL); err != nil {
		return fmt.Errorf("field GatewayURL: %w", err)
	}
	identify, err := identifyPayload(c)
	if err != nil {
		return fmt.Errorf("identify: %w", err)
	}
	if len(identify) > maxCommandBytes {
		return fmt.Errorf("field Presence: IDENTIFY with it takes %d bytes, and Discord accepts %d", len(identify), maxCommandBytes)
	}
	return nil
}

// checkGatewayURL accepts what can be dialled as a WebSocket.
func checkGatewayURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return err
	case u.Scheme != "wss" && u.Scheme != "ws":
		return fmt.Errorf("%q: want wss://host or ws://host", s)
	case u.Host == "":
		return fmt.Errorf("%q has no host", s)
	}
	return nil
}
