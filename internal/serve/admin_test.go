package serve_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-gateway/muster/internal/serve"
)

const adminToken = "an-admin-token-of-some-length"

func TestAdmin(t *testing.T) {
	const near, far = "127.0.0.1:4321", "192.0.2.7:4321"
	for _, c := range []struct {
		name    string
		token   string // configured
		from    string
		host    string
		headers []string // name, value, …
		status  int
	}{
		{name: "no token, loopback", from: near, host: "127.0.0.1:8080", status: 200},
		{name: "no token, loopback by name", from: near, host: "LocalHost:8080", status: 200},
		{name: "no token, loopback of IPv6", from: "[::1]:4321", host: "[::1]:8080", status: 200},
		{name: "no token, another machine", from: far, host: "127.0.0.1:8080", status: 403},
		{name: "no token, no address", from: "", host: "127.0.0.1:8080", status: 403},
		{name: "no token, a name that was rebound", from: near, host: "evil.example:8080", status: 403},
		{name: "no token, a name like localhost", from: near, host: "localhost.evil.example", status: 403},
		{name: "no token, a name like an address", from: near, host: "127.0.0.1.evil.example", status: 403},
		{name: "no token, no host", from: near, host: "", status: 403},
		{name: "no token, another machine that says it is near", from: far, host: "127.0.0.1", headers: []string{"X-Forwarded-For", "127.0.0.1"}, status: 403},
		{name: "no token, a proxy on this machine", from: near, host: "127.0.0.1", headers: []string{"X-Forwarded-For", "192.0.2.7"}, status: 403},
		{name: "no token, another proxy", from: near, host: "127.0.0.1", headers: []string{"Forwarded", "for=192.0.2.7"}, status: 403},
		{name: "no token, nginx", from: near, host: "127.0.0.1", headers: []string{"X-Real-IP", "192.0.2.7"}, status: 403},
		{name: "no token, via", from: near, host: "127.0.0.1", headers: []string{"Via", "1.1 proxy"}, status: 403},
		{name: "no token, its own page", from: near, host: "127.0.0.1:8080", headers: []string{"Origin", "http://127.0.0.1:8080"}, status: 200},
		{name: "no token, another's page", from: near, host: "127.0.0.1:8080", headers: []string{"Origin", "http://evil.example"}, status: 403},
		{name: "no token, another port's page", from: near, host: "127.0.0.1:8080", headers: []string{"Origin", "http://127.0.0.1:8081"}, status: 403},
		{name: "no token, a page without origin", from: near, host: "127.0.0.1:8080", headers: []string{"Origin", "null"}, status: 403},
		{name: "no token, an image in another's page", from: near, host: "127.0.0.1:8080", headers: []string{"Sec-Fetch-Site", "cross-site"}, status: 403},
		{name: "no token is needed", from: near, host: "127.0.0.1", headers: []string{"Authorization", "Bearer x"}, status: 200},
		{name: "no token is none, from afar", from: far, host: "127.0.0.1", headers: []string{"Authorization", "Bearer "}, status: 403},

		{name: "token, from anywhere", token: adminToken, from: far, host: "muster.example", headers: []string{"Authorization", "Bearer " + adminToken}, status: 200},
		{name: "token, other spelling", token: adminToken, from: far, host: "muster.example", headers: []string{"Authorization", "bearer " + adminToken}, status: 200},
		{name: "token, by way of a proxy", token: adminToken, from: near, host: "muster.example", headers: []string{"Authorization", "Bearer " + adminToken, "X-Forwarded-For", "192.0.2.7"}, status: 200},
		{name: "token, another's page", token: adminToken, from: far, host: "muster.example", headers: []string{"Authorization", "Bearer " + adminToken, "Origin", "http://evil.example"}, status: 403},
		{name: "token, not given", token: adminToken, from: near, host: "127.0.0.1", status: 401},
		{name: "token, empty", token: adminToken, from: near, host: "127.0.0.1", headers: []string{"Authorization", "Bearer "}, status: 401},
		{name: "token, a wrong one", token: adminToken, from: near, host: "127.0.0.1", headers: []string{"Authorization", "Bearer " + strings.ToUpper(adminToken)}, status: 401},
		{name: "token, its beginning", token: adminToken, from: near, host: "127.0.0.1", headers: []string{"Authorization", "Bearer " + adminToken[:8]}, status: 401},
		{name: "token, and more", token: adminToken, from: near, host: "127.0.0.1", headers: []string{"Authorization", "Bearer " + adminToken + "x"}, status: 401},
		{name: "token, another scheme", token: adminToken, from: near, host: "127.0.0.1", headers: []string{"Authorization", "Basic " + adminToken}, status: 401},
		{name: "token, bare", token: adminToken, from: near, host: "127.0.0.1", headers: []string{"Authorization", adminToken}, status: 401},
		{name: "token, in the URL", token: adminToken, from: near, host: "127.0.0.1", headers: []string{"Cookie", "token=" + adminToken}, status: 401},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			r := httptest.NewRequestWithContext(t.Context(), method, "/?token="+adminToken, nil)
			r.RemoteAddr, r.Host = c.from, c.host
			for i := 0; i < len(c.headers); i += 2 {
				r.Header.Set(c.headers[i], c.headers[i+1])
			}
			w, reached := httptest.NewRecorder(), false
			serve.NewAdmin(c.token).Only(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true })).ServeHTTP(w, r)
			if w.Code != c.status || reached != (c.status == 200) {
				t.Errorf("%s, %s: %d, reached %v: %s", c.name, method, w.Code, reached, w.Body)
			}
			if !reached && strings.Count(w.Body.String(), "\n") != 1 {
				t.Errorf("%s: not one line: %q", c.name, w.Body)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (c.status == 401) {
				t.Errorf("%s: it asks %q", c.name, w.Header().Get("WWW-Authenticate"))
			}
		}
	}
	if text := fmt.Sprintf("%+v %#v", serve.NewAdmin(adminToken), serve.NewAdmin(adminToken)); strings.Contains(text, adminToken) {
		t.Error("it prints the token")
	}
}

// ask is the status that a handler gives a client.
func ask(t *testing.T, h http.Handler, from string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.RemoteAddr = from
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if (w.Header().Get("Retry-After") != "") != (w.Code == http.StatusTooManyRequests) {
		t.Errorf("%d with Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	return w.Code
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serve.NewLimit(2, 3)
		passed := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
		each, all := l.Each(passed), l.All(passed)
		took := func(h http.Handler, from string) (n int) {
			for n < 100 && ask(t, h, from) == http.StatusOK {
				n++
			}
			return n
		}
		if n := took(each, "192.0.2.1:1"); n != 3 {
			t.Errorf("a client gets %d at once", n)
		}
		if n := took(each, "192.0.2.1:2"); n != 0 {
			t.Errorf("from another port it gets %d more", n)
		}
		if n := took(each, "192.0.2.2:1"); n != 3 {
			t.Errorf("another client gets %d", n)
		}
		if n := took(all, "192.0.2.3:1"); n != 30 {
			t.Errorf("all together get %d at once", n)
		}
		time.Sleep(time.Second)
		if n := took(each, "192.0.2.1:1"); n != 2 {
			t.Errorf("a second later it gets %d", n)
		}
		if n := took(all, "192.0.2.1:1"); n != 20 {
			t.Errorf("a second later all get %d", n)
		}
		for i := range 3000 { // more than it remembers
			ask(t, each, fmt.Sprintf("198.51.%d.%d:1", i/250, i%250))
		}
		if n := took(each, "192.0.2.1:1"); n != 3 {
			t.Errorf("forgotten, it gets %d", n)
		}
	})
}

func TestReadJSON(t *testing.T) {
	type form struct {
		Shards int `json:"shards"`
	}
	for _, c := range []struct {
		name, kind, body string
		status           int // 0: accepted
		want             form
	}{
		{name: "given", kind: "application/json", body: `{"shards":4}`, want: form{4}},
		{name: "with its character set", kind: "application/json; charset=utf-8", body: `{"shards":4} `, want: form{4}},
		{name: "nothing", kind: "application/json", want: form{1}},
		{name: "no type", body: `{"shards":4}`, status: 415},
		{name: "a form", kind: "application/x-www-form-urlencoded", body: `{"shards":4}`, status: 415},
		{name: "text, as a page may send it unasked", kind: "text/plain", body: `{"shards":4}`, status: 415},
		{name: "like JSON", kind: "application/json-seq", body: `{}`, status: 415},
		{name: "not JSON", kind: "application/json", body: `shards=4`, status: 400},
		{name: "half of it", kind: "application/json", body: `{"shards":4`, status: 400},
		{name: "of another form", kind: "application/json", body: `{"shards":"4"}`, status: 400},
		{name: "with a field that is none", kind: "application/json", body: `{"shard":4}`, status: 400},
		{name: "two", kind: "application/json", body: `{"shards":4}{"shards":5}`, status: 400},
		{name: "and more", kind: "application/json", body: `{"shards":4}]`, status: 400},
		{name: "long", kind: "application/json", body: `{"shards":4` + strings.Repeat(" ", 5000) + `}`, status: 413},
		{name: "long behind it", kind: "application/json", body: `{"shards":4}` + strings.Repeat(" ", 5000), status: 413},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(c.body))
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		got, w := form{1}, httptest.NewRecorder()
		if err := serve.ReadJSON(w, r, &got); err != nil {
			serve.Refuse(w, err)
		}
		if c.status == 0 && (w.Body.Len() > 0 || got != c.want) {
			t.Errorf("%s: got %+v, refused with %q", c.name, got, w.Body)
		}
		if c.status != 0 && (w.Code != c.status || strings.Count(w.Body.String(), "\n") != 1) {
			t.Errorf("%s: %d %q, want %d and one line", c.name, w.Code, w.Body, c.status)
		}
	}
}

// Profiles are for an Admin, and the command line, which may have a token in it, for nobody.
func TestProfile(t *testing.T) {
	mux := http.NewServeMux()
	serve.Profile(mux, serve.NewAdmin(adminToken))
	for path, want := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/debug/pprof/goroutine?debug=2": 200, "/debug/pprof/symbol": 200, "/debug/pprof/profile?seconds=1": 200,
		"/debug/pprof/trace?seconds=0.1": 200, "/debug/pprof/cmdline": 404, "/debug/pprof/none": 404,
	} {
		for token, status := range map[string]int{"Bearer " + adminToken: want, "": 401} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
			r.Header.Set("Authorization", token)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != status {
				t.Errorf("%s with %q: %d, want %d: %s", path, token, w.Code, status, w.Body)
			}
		}
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/debug/pprof/symbol", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}
