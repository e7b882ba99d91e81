package discordsim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// The paths of the gateway. A client connects to the first and resumes on the second, which READY names.
const (
	basePath   = "/"
	resumePath = "/resume"
)

func (s *Server) newHandler() http.Handler {
	mux := http.NewServeMux()
	all := http.NewServeMux()
	mux.HandleFunc("GET /api/{version}/gateway", s.getGateway)
	mux.HandleFunc("GET /api/{version}/gateway/bot", s.getGatewayBot)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { s.socket(w, r, basePath) })
	mux.HandleFunc("GET "+resumePath, func(w http.ResponseWriter, r *http.Request) { s.socket(w, r, resumePath) })
	mux.HandleFunc("GET "+resumePath+"/{$}", func(w http.ResponseWriter, r *http.Request) { s.socket(w, r, resumePath) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, apiError{Message: "404: Not Found"})
	})
	all.Handle("/", s.hooked(mux))
	if s.opts.ControlAPI {
		all.Handle(APIPath, s.ControlHandler())
	}
	return all
}

// apiError is the body of Discord's HTTP errors.
type apiError struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
}

// httpError adds what Discord says when it limits the rate.
type httpError struct {
	apiError
	RetryAfter float64 `json:"retry_after,omitempty"` // seconds
}

// gatewayBot is the body of GET /gateway/bot.
// See https://discord.com/developers/docs/events/gateway#get-gateway-bot.
type gatewayBot struct {
	URL    string       `json:"url"`
	Shards int          `json:"shards"`
	Limit  sessionStart `json:"session_start_limit"`
}

type sessionStart struct {
	Total          int   `json:"total"`
	Remaining      int   `json:"remaining"`
	ResetAfter     int64 `json:"reset_after"` // milliseconds
	MaxConcurrency int   `json:"max_concurrency"`
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that hung up does not hear us
}

// supported answers requests for API versions that do not exist.
func supported(w http.ResponseWriter, r *http.Request) bool {
	switch r.PathValue("version") {
	case "v9", "v10":
		return true
	}
	answer(w, http.StatusBadRequest, apiError{Message: "Invalid API version", Code: 50041})
	return false
}

func (s *Server) getGateway(w http.ResponseWriter, r *http.Request) {
	if !s.suffered(w, r, StageGateway, "") && supported(w, r) {
		answer(w, http.StatusOK, map[string]string{"url": socketURL(r)})
	}
}

func (s *Server) getGatewayBot(w http.ResponseWriter, r *http.Request) {
	if s.suffered(w, r, StageGateway, "") || !supported(w, r) {
		return
	}
	token, isBot := strings.CutPrefix(r.Header.Get("Authorization"), "Bot ")
	s.mu.Lock()
	ok := isBot && s.accepts(token)
	left, resetAfter := s.budget.remaining(time.Now())
	tooMany := ok && !s.rest.allow(time.Now())
	if tooMany {
		s.violate(0, noPair, RuleHTTPRate, fmt.Sprintf("more than %d requests in %v", httpLimit, httpPeriod))
	}
	s.mu.Unlock()
	switch {
	case !ok:
		answer(w, http.StatusUnauthorized, apiError{Message: "401: Unauthorized"})
		return
	case tooMany:
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusTooManyRequests, httpError{apiError{Message: "You are being rate limited."}, httpPeriod.Seconds()})
		return
	}
	answer(w, http.StatusOK, gatewayBot{
		URL:    socketURL(r),
		Shards: s.opts.Shards,
		Limit: sessionStart{
			Total:          s.opts.SessionLimit.Total,
			Remaining:      left,
			ResetAfter:     resetAfter.Milliseconds(),
			MaxConcurrency: s.opts.MaxConcurrency,
		},
	})
}

// accepts reports whether the token is the bot's. mu is held.
func (s *Server) accepts(token string) bool { return token == s.opts.Token && !s.tokenReset }

// socketURL is the WebSocket address of the host that the request was sent to.
func socketURL(r *http.Request) string {
	if r.TLS != nil {
		return "wss://" + r.Host
	}
	return "ws://" + r.Host
}

// socket accepts a WebSocket and serves it until it ends.
func (s *Server) socket(w http.ResponseWriter, r *http.Request, path string) {
	if s.suffered(w, r, StageHandshake, path) {
		return
	}
	takeover := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(takeover, r, nil)
	if err != nil {
		s.logger.Debug("websocket handshake failed", "error", err)
		return // Accept has answered
	}
	defer ws.CloseNow() //nolint:errcheck // closed already, except when we return early
	ws.SetReadLimit(-1) // receive has a limit of its own, which Discord answers with 4002

	c := newConn(s, ws, takeover.link)
	c.path, c.host, c.version = path, socketURL(r), r.URL.Query().Get("v")
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	defer c.cancel(nil)
	if !s.admit(c) {
		return
	}
	defer s.sockets.Done()
	var refused *closeError
	if c.encoder, refused = handshake(r); refused != nil {
		s.violation(c, RuleHandshake, refused.reason)
		c.encoder = plain{}
		c.cancel(refused)
	}
	c.run()
}

// handshake checks the query of the gateway URL. Discord documents a close code for a wrong version only; a wrong
// encoding or compression is given "unknown error".
// See https://discord.com/developers/docs/events/gateway#connecting.
func handshake(r *http.Request) (encoder, *closeError) {
	q := r.URL.Query()
	if v := q.Get("v"); v != "9" && v != "10" {
		return nil, closeWith(CloseInvalidAPIVersion, "v must be 9 or 10")
	}
	if encoding := q.Get("encoding"); encoding != "" && encoding != "json" {
		return nil, closeWith(CloseUnknownError, "encoding must be json")
	}
	enc, err := newEncoder(q.Get("compress"))
	if err != nil {
		return nil, closeWith(CloseUnknownError, "compress must be zlib-stream or zstd-stream")
	}
	return enc, nil
}
