package coordinator

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/serve"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

// listen reads the events that a page is sent.
func listen(t *testing.T, url string) (next func() (event, data string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("%s, %s", resp.Status, kind)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return func() (event, data string) {
		for lines.Scan() {
			switch line := lines.Text(); {
			case strings.HasPrefix(line, "event: "):
				event = line[len("event: "):]
			case strings.HasPrefix(line, "data: "):
				data = line[len("data: "):]
			case line == "" && event != "":
				return event, data
			}
		}
		t.Fatal("the events end: ", lines.Err())
		return "", ""
	}
}

// A page is told of the cluster as it is, and then of each view that is another one, and of what happened, once.
func TestLive(t *testing.T) {
	var view atomic.Pointer[api.Cluster]
	l := &live{view: &view, chronicle: &chronicle{}}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	show := func(v *api.Cluster) { view.Store(v); l.chronicle.note(v) }
	show(clusterOf("a", "", "b"))
	next := listen(t, server.URL)

	event, data := next()
	var got compactCluster
	if err := json.Unmarshal([]byte(data), &got); err != nil || event != "state" {
		t.Fatalf("%s %s: %v", event, data, err)
	}
	if got.States != "aaaabbbbaaaa" || got.StateNames[0] != api.StateLive || len(got.Workers) != 2 || got.Ranges[1] != -1 || got.Ranges[2] != 1 {
		t.Errorf("the state is %s", data)
	}
	if strings.Contains(data, "shard_states") {
		t.Errorf("every shard is an object: %s", data)
	}
	if event, data = next(); event != "history" || !strings.Contains(data, `"live":8`) {
		t.Errorf("%s %s", event, data)
	}
	later := clusterOf("a", "a", "b")
	later.At = epoch.Add(sampleEvery)
	show(later)
	if event, data = next(); event != "state" || !strings.Contains(data, `"aaaaaaaaaaaa"`) {
		t.Errorf("%s %s", event, data)
	}
	if event, data = next(); event != "history" || !strings.Contains(data, "a took 4 shards that nobody had") || strings.Contains(data, `"live":8`) {
		t.Errorf("%s %s", event, data)
	}
}

// deadlines is a ResponseWriter that can do what a connection's can.
type deadlines struct{ *httptest.ResponseRecorder }

func (deadlines) SetWriteDeadline(time.Time) error { return nil }

// A page that there is no news for is told so, in an event: of comments it does not hear.
func TestLivePings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := deadlines{httptest.NewRecorder()}
		f := &feed{w: w, conn: http.NewResponseController(w)}
		f.send("state", []byte("{}"))
		time.Sleep(livePing - 1)
		f.ping()
		if got := w.Body.String(); got != "event: state\ndata: {}\n\n" {
			t.Errorf("pinged too early: %q", got)
		}
		time.Sleep(time.Nanosecond)
		f.ping()
		f.ping()
		if got := w.Body.String(); f.err != nil || got != "event: state\ndata: {}\n\nevent: ping\ndata: {}\n\n" {
			t.Errorf("told %q, %v", got, f.err)
		}
	})
}

func TestLivePagesAreBounded(t *testing.T) {
	var view atomic.Pointer[api.Cluster]
	view.Store(clusterOf("a"))
	l := &live{view: &view, chronicle: &chronicle{}}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	for range maxLive {
		next := listen(t, server.URL)
		next()
	}
	resp, err := http.Get(server.URL)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one page too many is answered with %s", resp.Status)
	}
}

// Every state that a shard can be in has a look of its own in the grid.
func TestGridKnowsEveryState(t *testing.T) {
	grid, err := pageFiles.ReadFile("page/grid.js")
	must(t, err)
	states := []string{api.StateUnassigned, api.StateUnknown, api.StateDown, api.StateHalted, lease.StateMuted}
	for _, state := range shard.States {
		states = append(states, string(state))
	}
	letters := map[string]string{}
	for _, state := range states {
		look := regexp.MustCompile(`\n  ` + state + `: { letter: '(.)'`).FindSubmatch(grid)
		if look == nil {
			t.Errorf("the grid has no look for %q", state)
			continue
		}
		if other, taken := letters[string(look[1])]; taken {
			t.Errorf("%q and %q have the same letter", state, other)
		}
		letters[string(look[1])] = state
	}
}

// A page looks closer at one shard.
func TestServeShard(t *testing.T) {
	c := New(Config{Logger: quiet})
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		c.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, _ := ask("/v1/shards/0"); code != http.StatusServiceUnavailable {
		t.Errorf("before etcd was read: %d", code)
	}
	c.view.Store(clusterOf("a", "b"))
	if code, body := ask("/v1/shards/5"); code != http.StatusOK || !strings.Contains(body, `"worker": "b"`) {
		t.Errorf("shard 5: %d %s", code, body)
	}
	for _, path := range []string{"/v1/shards/8", "/v1/shards/-1", "/v1/shards/x"} {
		if code, body := ask(path); code != http.StatusNotFound || body != "no such shard: there are those from 0 to 7\n" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}

// A page that does not read is let go of; the connection ends, and with it what the server keeps for it.
func TestLiveLetsGoOfAPageThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var view atomic.Pointer[api.Cluster]
		view.Store(clusterOf("a"))
		l := &live{view: &view, chronicle: &chronicle{}}
		client, server := net.Pipe()
		listener := &oneConn{conn: server, gone: make(chan struct{}), closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- serve.HTTP(ctx, listener, l) }()
		_, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
		must(t, err)
		began := time.Now()
		<-listener.gone
		if took := time.Since(began); took != livePatience {
			t.Errorf("it is let go of after %v, want %v", took, livePatience)
		}
		cancel()
		must(t, <-ended)
		if n := l.pages.Load(); n != 0 {
			t.Errorf("%d pages are open", n)
		}
	})
}

// oneConn is a listener with one connection.
type oneConn struct {
	conn   net.Conn      // nil once it was accepted
	gone   chan struct{} // closed with the connection
	closed chan struct{} // closed with the listener
}

func (o *oneConn) Accept() (net.Conn, error) {
	if conn := o.conn; conn != nil {
		o.conn = nil
		return &watchedConn{conn, sync.OnceFunc(func() { close(o.gone) })}, nil
	}
	<-o.closed
	return nil, net.ErrClosed
}

func (o *oneConn) Close() error   { close(o.closed); return nil }
func (o *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// watchedConn tells when it is closed.
type watchedConn struct {
	net.Conn
	gone func()
}

func (c *watchedConn) Close() error {
	c.gone()
	return c.Conn.Close()
}
