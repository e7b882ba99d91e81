package serve_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-gateway/muster/internal/serve"
)

// pipes is a listener in memory, for virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// served is the server's end of a connection.
type served struct {
	net.Conn
	gone func() // called when the server closes it
}

func (s *served) Close() error {
	s.gone()
	return s.Conn.Close()
}

const answer = 1 << 16 // bytes

// Nobody holds a connection for long who sends a request slowly, does not read its answer, or says nothing more, however that is gone about.
func TestSlowClientsAreCutOff(t *testing.T) {
	const get, post = "GET / HTTP/1.1\r\nHost: localhost\r\n", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n"
	for name, c := range map[string]struct {
		says  string
		drips bool // and goes on, a letter at a time
		sips  time.Duration
		after time.Duration
	}{
		"nothing":                    {after: 5 * time.Second},
		"half a header":              {says: get, after: 5 * time.Second},
		"a header in drops":          {says: get + "X: ", drips: true, after: 5 * time.Second},
		"half a body":                {says: post + "half", after: 10 * time.Second},
		"a body in drops":            {says: post, drips: true, after: 10 * time.Second},
		"an answer that is not read": {says: get + "\r\n", sips: time.Hour, after: 30 * time.Second},
		"an answer in sips":          {says: get + "\r\n", sips: time.Second, after: 30 * time.Second},
		"nothing after an answer":    {says: get + "\r\n", after: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				listener := &pipes{make(chan net.Conn), make(chan struct{})}
				ended := make(chan error, 1)
				go func() {
					ended <- serve.HTTP(ctx, listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						if _, err := io.Copy(io.Discard, r.Body); err == nil {
							io.WriteString(w, strings.Repeat("x", answer))
						}
					}))
				}()
				client, server := net.Pipe()
				gone := make(chan struct{})
				listener.conns <- &served{server, sync.OnceFunc(func() { close(gone) })}
				began := time.Now()
				var talk sync.WaitGroup
				talk.Go(func() { speak(client, c.says, c.drips) })
				talk.Go(func() { listen(client, c.sips) })
				<-gone
				if took := time.Since(began); took < c.after || took > c.after+time.Second {
					t.Errorf("cut off after %v, want %v", took, c.after)
				}
				talk.Wait()
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// speak sends a text, and then, if it is to, a letter each half second until nobody takes one.
func speak(conn net.Conn, text string, drips bool) {
	_, err := io.WriteString(conn, text)
	for err == nil && drips {
		time.Sleep(500 * time.Millisecond)
		_, err = io.WriteString(conn, "x")
	}
}

// listen reads until there is nothing more: at once, or a letter at such intervals.
func listen(conn net.Conn, sips time.Duration) {
	for err := error(nil); err == nil && sips > 0; time.Sleep(sips) {
		_, err = conn.Read(make([]byte, 1))
	}
	io.Copy(io.Discard, conn)
}

// What is too long is refused before it is read.
func TestLongHeadersAreRefused(t *testing.T) {
	url, stop := start(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for length, want := range map[int]int{1 << 10: http.StatusNoContent, 1 << 17: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Long", strings.Repeat("x", length))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a header of %d bytes: %s", length, resp.Status)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
