package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Admin says who may change anything: whoever has the token; or, if there is none, whoever asks from this machine. It is a value.
type Admin struct {
	sum   [sha256.Size]byte // of the token
	token bool              // there is one
}

// NewAdmin is Admin with the given token; "" is none.
func NewAdmin(token string) Admin { return Admin{sha256.Sum256([]byte(token)), token != ""} }

// Only passes on only what is allowed to. The others are answered 401, if they lack the token, or 403, in one line.
func (a Admin) Only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch err := a.allow(r); {
		case errors.Is(err, errNoToken):
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case err != nil:
			http.Error(w, err.Error(), http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

var (
	errNoToken   = errors.New("this takes the admin token: Authorization: Bearer TOKEN")
	errNotNear   = errors.New("no admin token is configured (MUSTER_ADMIN_TOKEN_FILE), so this is accepted from the same machine only")
	errForwarded = errors.New("no admin token is configured (MUSTER_ADMIN_TOKEN_FILE), so this is not accepted by way of a proxy")
	errHost      = errors.New("no admin token is configured (MUSTER_ADMIN_TOKEN_FILE), so this is accepted for localhost only, not for another Host")
	errOrigin    = errors.New("this is not accepted from a page of another origin")
)

// allow says why a request is not allowed. Sums are compared, not tokens, so that the time it takes tells nothing of the token.
func (a Admin) allow(r *http.Request) error {
	if a.token {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], a.sum[:]) == 0 {
			return errNoToken
		}
	} else if err := near(r); err != nil {
		return err
	}
	// The library lets safe methods pass. Here none is: what is read may not be for everybody either.
	unsafe := *r
	unsafe.Method = http.MethodPost
	if new(http.CrossOriginProtection).Check(&unsafe) != nil {
		return errOrigin
	}
	return nil
}

// near says whether a request is from this machine, and meant for it. A proxy on this machine makes everybody near, so none may be
// between; and a page whose name was rebound to 127.0.0.1 has that name for a Host.
func near(r *http.Request) error {
	if !loopback(r.RemoteAddr) {
		return errNotNear
	}
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(header)) > 0 {
			return errForwarded
		}
	}
	if name := (&url.URL{Host: r.Host}).Hostname(); !strings.EqualFold(name, "localhost") && !loopback(r.Host) {
		return errHost
	}
	return nil
}

// loopback reports whether an address, with or without a port, is a loopback IP.
func loopback(address string) bool {
	ip := net.ParseIP((&url.URL{Host: address}).Hostname())
	return ip != nil && ip.IsLoopback()
}
