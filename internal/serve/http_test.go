package serve_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/muster-gateway/muster/internal/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start serves on loopback. The returned function stops the server and says what HTTP returned.
func start(t *testing.T, handler http.HandlerFunc) (url string, stop func() error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serve.HTTP(ctx, listener, handler) }()
	return "http://" + listener.Addr().String(), func() error { cancel(); return <-done }
}

// get keeps no connection open, which would be a goroutine left behind.
func get(t *testing.T, url string) (int, string, error) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestServesUntilTheContextEnds(t *testing.T) {
	url, stop := start(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "here") })
	if status, body, err := get(t, url); err != nil || status != http.StatusOK || body != "here" {
		t.Errorf("got %d %q, error %v", status, body, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	if _, _, err := get(t, url); err == nil {
		t.Error("the listener is still open")
	}
}

func TestFinishesRequestsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // for a request has a second, however slow the machine
		ctx, cancel := context.WithCancel(t.Context())
		entered, leave := make(chan struct{}), make(chan struct{})
		listener := &pipes{make(chan net.Conn), make(chan struct{})}
		stopped := make(chan error, 1)
		go func() {
			stopped <- serve.HTTP(ctx, listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(entered)
				<-leave
				fmt.Fprint(w, "late")
			}))
		}()
		client, server := net.Pipe()
		listener.conns <- server
		go speak(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", false)
		<-entered
		cancel()
		<-listener.closed // before the requests are waited for
		close(leave)
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "late" || err != nil {
			t.Errorf("the request under way got %q, %v", body, err)
		}
		if err := <-stopped; err != nil {
			t.Errorf("stopped: %v", err)
		}
	})
}

func TestCutsOffRequestsThatDoNotFinish(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	url, stop := start(t, func(_ http.ResponseWriter, r *http.Request) {
		defer close(left)
		close(entered)
		<-r.Context().Done()
	})
	answer := make(chan error, 1)
	go func() {
		_, _, err := get(t, url)
		answer <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	if err := <-answer; err == nil {
		t.Error("the request got an answer")
	}
	<-left
}

func TestAContextThatHasEndedClosesTheListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := serve.HTTP(ctx, listener, http.NotFoundHandler()); err != nil {
		t.Errorf("got error %v", err)
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}

func TestAListenerThatFailsIsAnError(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := serve.HTTP(t.Context(), listener, http.NotFoundHandler()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got error %v", err)
	}
}

// Every answer tells browsers not to frame, sniff, keep or share it; a handler may say something else.
func TestHeaders(t *testing.T) {
	url, stop := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page" {
			w.Header().Set("Content-Security-Policy", "default-src 'self'")
		}
	})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for path, policy := range map[string]string{"/": "default-src 'none'; frame-ancestors 'none'", "/page": "default-src 'self'"} {
		resp, err := client.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestJSON(t *testing.T) {
	for _, test := range []struct {
		value  any
		status int
		kind   string
		body   string
	}{
		{map[string]int{"shards": 3}, http.StatusOK, "application/json", "{\n  \"shards\": 3\n}\n"},
		{math.NaN(), http.StatusInternalServerError, "text/plain; charset=utf-8", "the answer cannot be encoded\n"},
	} {
		w := httptest.NewRecorder()
		serve.JSON(w, test.value)
		if w.Code != test.status || w.Header().Get("Content-Type") != test.kind || w.Body.String() != test.body {
			t.Errorf("%v: %d, %s, %q", test.value, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
}

func TestHealth(t *testing.T) {
	for _, test := range []struct {
		word   string
		err    error
		status int
		body   string
	}{
		{"", nil, http.StatusOK, "ok\n"},
		{"down by order", nil, http.StatusOK, "down by order\n"},
		{"", errors.New("etcd was not read yet"), http.StatusServiceUnavailable, "etcd was not read yet\n"},
	} {
		w := httptest.NewRecorder()
		serve.Health(func() (string, error) { return test.word, test.err })(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		if w.Code != test.status || w.Body.String() != test.body {
			t.Errorf("%v: %d %q", test.err, w.Code, w.Body)
		}
	}
}
