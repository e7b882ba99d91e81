package coordinator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/serve"
)

const (
	liveEvery    = 500 * time.Millisecond // how often a page is told, if there is news
	livePing     = 15 * time.Second       // how often it is told that there is none
	livePatience = 10 * time.Second       // how long a page may take to read
	maxLive      = 50                     // pages at once, of one replica
)

// live feeds pages with server-sent events (HTML Living Standard, "Server-sent events"): a state whenever the view is another one, and the
// samples and incidents that the page does not have yet. A ping says that there is no news, so that a page can tell when nobody is there any
// more. A page that does not read is cut off; it connects again by itself.
type live struct {
	view      *atomic.Pointer[api.Cluster]
	chronicle *chronicle
	pages     atomic.Int32

	mu   sync.Mutex
	of   *api.Cluster // what body was made of
	body []byte
}

func (l *live) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if l.pages.Add(1) > maxLive {
		l.pages.Add(-1)
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("more than %d pages are open: close some, or ask another replica", maxLive), http.StatusServiceUnavailable)
		return
	}
	defer l.pages.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := &feed{w: w, conn: http.NewResponseController(w)}
	if err := out.conn.SetReadDeadline(time.Time{}); err != nil { // the server's is for requests that end
		return
	}
	ticker := time.NewTicker(liveEvery)
	defer ticker.Stop()
	var shown *api.Cluster
	for {
		if view := l.view.Load(); view != nil && view != shown {
			shown = view
			out.send("state", l.state(view))
		}
		out.history(l.chronicle)
		out.ping()
		if out.err != nil {
			return // the page is gone, or does not read
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}

// state is the event's data, made once for all pages.
func (l *live) state(view *api.Cluster) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of != view {
		body, err := json.Marshal(compact(view))
		if err != nil { // it is made of plain values
			panic(fmt.Sprintf("coordinator: encode the live view: %v", err))
		}
		l.of, l.body = view, body
	}
	return l.body
}

// feed is what one page is sent.
type feed struct {
	w         http.ResponseWriter
	conn      *http.ResponseController
	sent      time.Time // the last event
	samples   int64     // until when the page has them
	incidents int64
	err       error
}

func (f *feed) history(c *chronicle) {
	var news struct {
		Samples   []sample   `json:"samples"`
		Incidents []incident `json:"incidents"`
	}
	news.Samples, news.Incidents = c.read(time.Now(), f.samples, f.incidents)
	if len(news.Samples)+len(news.Incidents) == 0 {
		return
	}
	if n := len(news.Samples); n > 0 {
		f.samples = news.Samples[n-1].At
	}
	if n := len(news.Incidents); n > 0 {
		f.incidents = news.Incidents[n-1].At
	}
	body, err := json.Marshal(news)
	if err != nil {
		panic(fmt.Sprintf("coordinator: encode history: %v", err))
	}
	f.send("history", body)
}

func (f *feed) ping() {
	if time.Since(f.sent) >= livePing {
		f.send("ping", []byte("{}")) // an event, since a page is not told of comments
	}
}

func (f *feed) send(event string, data []byte) {
	f.write("event: " + event + "\ndata: " + string(data) + "\n\n")
}

func (f *feed) write(text string) {
	if f.err != nil {
		return
	}
	if f.err = f.conn.SetWriteDeadline(time.Now().Add(livePatience)); f.err != nil {
		return
	}
	if _, f.err = f.w.Write([]byte(text)); f.err == nil {
		f.err = f.conn.Flush()
	}
	f.sent = time.Now()
}

// compactCluster is api.Cluster for a page that is told twice a second: a letter for each shard and a number for each range instead of an object.
type compactCluster struct {
	api.Cluster             // without what follows
	Ranges      []int       `json:"ranges"` // each one's owner, as an index of workers; -1: nobody
	Moves       []api.Range `json:"moves"`
	States      string      `json:"states"` // a letter for each shard: 'a' is StateNames[0]
	StateNames  []string    `json:"state_names"`
	ShardStates *struct{}   `json:"shard_states,omitempty"`
}

func compact(view *api.Cluster) compactCluster {
	c := compactCluster{Cluster: *view, Ranges: make([]int, len(view.Ranges)), Moves: []api.Range{}, StateNames: []string{}}
	index := map[string]int{}
	for i, w := range view.Workers {
		index[w.ID] = i
	}
	for i, r := range view.Ranges {
		c.Ranges[i] = -1
		if owner, ok := index[r.Owner]; ok {
			c.Ranges[i] = owner
		}
		if r.Moving {
			c.Moves = append(c.Moves, r)
		}
	}
	letters, states := map[string]byte{}, make([]byte, len(view.ShardStates))
	for i, s := range view.ShardStates {
		letter, known := letters[s.State]
		if !known {
			letter = 'a' + byte(len(letters))
			letters[s.State] = letter
			c.StateNames = append(c.StateNames, s.State)
		}
		states[i] = letter
	}
	c.States = string(states)
	return c
}

// serveShard answers with one shard, for a page that looks closer.
func (c *Coordinator) serveShard(w http.ResponseWriter, r *http.Request) {
	view := c.view.Load()
	if view == nil {
		serve.Refuse(w, errNotRead)
		return
	}
	shard, err := strconv.Atoi(r.PathValue("shard"))
	if err != nil || shard < 0 || shard >= len(view.ShardStates) {
		http.Error(w, fmt.Sprintf("no such shard: there are those from 0 to %d", len(view.ShardStates)-1), http.StatusNotFound)
		return
	}
	serve.JSON(w, view.ShardStates[shard])
}
