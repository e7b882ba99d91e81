package serve

import (
	"net"
	"net/http"
	"sync"

	"golang.org/x/time/rate"
)

// maxClients bounds how many clients a Limit tells apart.
const maxClients = 1024

// Limit bounds how often requests are answered; what is more gets 429. It is safe for concurrent use.
type Limit struct {
	each  rate.Limit
	burst int
	all   *rate.Limiter

	mu      sync.Mutex
	clients map[string]*rate.Limiter // by IP
}

// NewLimit allows each client so many requests a second, and burst at once, and all of them together ten times as many.
func NewLimit(each float64, burst int) *Limit {
	return &Limit{
		each: rate.Limit(each), burst: burst, all: rate.NewLimiter(rate.Limit(10*each), 10*burst), clients: map[string]*rate.Limiter{},
	}
}

// Each bounds each client, by its IP.
func (l *Limit) Each(next http.Handler) http.Handler {
	return bounded(next, func(r *http.Request) bool { return l.client(r.RemoteAddr).Allow() })
}

// All bounds all clients together. It is for behind an Admin: before it, strangers could use up what there is.
func (l *Limit) All(next http.Handler) http.Handler {
	return bounded(next, func(*http.Request) bool { return l.all.Allow() })
}

func bounded(next http.Handler, allow func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allow(r) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests: wait a second", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// client is what a client has left. When there are too many to remember, all begin anew.
func (l *Limit) client(address string) *rate.Limiter {
	ip, _, err := net.SplitHostPort(address)
	if err != nil {
		ip = address
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.clients[ip]
	if limiter == nil {
		if len(l.clients) >= maxClients {
			clear(l.clients)
		}
		limiter = rate.NewLimiter(l.each, l.burst)
		l.clients[ip] = limiter
	}
	return limiter
}
