package shard

import (
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
)

// Resume is what it takes, besides the token, to go on with a session on another connection or in another process.
// Printing, logging or marshalling it never shows the session id.
type Resume struct {
	SessionID string `json:"-"`
	URL       string // resume_gateway_url; empty means the base URL
	Seq       int64  // of the last event that was delivered
}

// String returns the URL and Seq.
func (r Resume) String() string {
	return "session at " + r.URL + " after seq " + strconv.FormatInt(r.Seq, 10)
}

// GoString is String.
func (r Resume) GoString() string { return r.String() }

// LogValue is String.
func (r Resume) LogValue() slog.Value { return slog.StringValue(r.String()) }

// position is where the session stands. While connected the reader alone changes it; anybody may read it.
type position struct {
	mu      sync.Mutex
	id, url string
	seq     atomic.Int64 // apart from mu: it changes with each event
}

func (p *position) set(r Resume) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id, p.url = r.SessionID, r.URL
	p.seq.Store(r.Seq)
}

func (p *position) get() Resume {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Resume{SessionID: p.id, URL: p.url, Seq: p.seq.Load()}
}
