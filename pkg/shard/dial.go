package shard

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// dialTimeout bounds everything up to the open WebSocket: name, TCP, TLS, upgrade.
const dialTimeout = 20 * time.Second

// socket is an open WebSocket and the network connection below it.
type socket struct {
	ws  *websocket.Conn
	raw net.Conn
}

// dial opens a WebSocket to a gateway URL.
func dial(ctx context.Context, cfg *Config, base string) (socket, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, fmt.Errorf("no connection within %s", dialTimeout))
	defer cancel()
	target, err := connectURL(base, cfg.Compression)
	if err != nil {
		return socket{}, err
	}
	var raw net.Conn
	client := &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := cfg.DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				raw = &burstConn{Conn: conn}
				return raw, nil
			},
			TLSClientConfig: cfg.TLSConfig.Clone(),
			// A refused upgrade must not leave an idle connection, and its goroutines, behind.
			DisableKeepAlives: true,
		},
		// The token follows the connection, so it goes where the URL says and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	ws, _, err := websocket.Dial(ctx, target, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return socket{}, fmt.Errorf("dial %s: %w", base, err)
	}
	ws.SetReadLimit(-1) // its default is 32 KiB; readAll has the limit, and closes with a code that keeps the session
	return socket{ws, raw}, nil
}

// connectURL adds the version, the encoding and the compression to a gateway URL. They belong to the connection, so
// the resume URL needs them as well (Discord: Gateway, Connecting and Resuming).
func connectURL(base string, c Compression) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("gateway URL: %w", err)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	query := u.Query()
	query.Set("v", "10")
	query.Set("encoding", "json")
	if c == CompressionNone {
		query.Del("compress")
	} else {
		query.Set("compress", string(c))
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// usable says whether the resume URL Discord gave can be used in place of the base URL. It must be one, and it must
// not drop the encryption, since the token goes there.
func usable(resumeURL, base string) bool {
	return checkGatewayURL(resumeURL) == nil &&
		(strings.HasPrefix(resumeURL, "wss:") || !strings.HasPrefix(base, "wss:"))
}
