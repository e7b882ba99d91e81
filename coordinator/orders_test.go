package coordinator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/pkg/lease"
)

// desk takes orders over HTTP in a cluster of eight shards and worker a, without a leader.
type desk struct {
	t     *testing.T
	store *lease.Store
	a     *lease.Registration
	c     *Coordinator
	http  http.Handler
	asked int
}

func newDesk(t *testing.T, adminToken string) *desk {
	t.Helper()
	d := &desk{t: t, store: newStore(t)}
	d.a = register(t, d.store, "a")
	d.c = New(Config{ID: "one", Store: d.store, Logger: quiet, AdminToken: adminToken})
	d.http = d.c.handler()
	d.c.view.Store(d.c.buildView(&lease.Cluster{
		Plan:    lease.Plan{Generation: 1, Shards: 8, RangeSize: 4},
		Workers: map[string]lease.Worker{"a": {ID: "a", Incarnation: d.a.Ref().Incarnation}, "late": {ID: "late", Incarnation: 1}},
	}, epoch))
	return d
}

// ask makes one request, with names and values of headers, each from another loopback address, or the limit would be met.
func (d *desk) ask(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	d.t.Helper()
	d.asked++
	r := httptest.NewRequestWithContext(d.t.Context(), method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost:8080", fmt.Sprintf("127.0.%d.%d:999", d.asked/250, d.asked%250)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.http.ServeHTTP(w, r)
	return w
}

// order gives an order that is taken, and returns what stands then.
func (d *desk) order(method, path, body string) api.Directives {
	d.t.Helper()
	w := d.ask(method, path, body)
	var answer api.Ordered
	if w.Code != http.StatusAccepted || json.Unmarshal(w.Body.Bytes(), &answer) != nil {
		d.t.Fatalf("%s %s %s: %d %s", method, path, body, w.Code, w.Body)
	}
	stands, err := d.store.Directives(d.t.Context())
	must(d.t, err)
	if answer.Revision != revisionOf(stands) {
		d.t.Errorf("%s %s: revision %d, what stands is of %d", method, path, answer.Revision, revisionOf(stands))
	}
	return answer.Directives
}

func TestOrders(t *testing.T) {
	d := newDesk(t, "")
	if s := d.order("POST", "/v1/workers/a/drain", ""); len(s.Drains) != 1 || s.Drains[0].Worker != "a" || s.Drains[0].Incarnation != d.a.Ref().Incarnation || s.Drains[0].At.IsZero() {
		t.Errorf("drain: %+v", s)
	}
	if s := d.order("POST", "/v1/rebalance", "{}"); s.Rebalance == nil || s.Rebalance.At.IsZero() || len(s.Drains) != 1 {
		t.Errorf("rebalance: %+v", s)
	}
	if s := d.order("POST", "/v1/down", ""); s.Down == nil || s.Down.EndSessions || s.Down.At.IsZero() {
		t.Errorf("down: %+v", s)
	}
	if s := d.order("POST", "/v1/down", `{"end_sessions":true}`); s.Down == nil || !s.Down.EndSessions {
		t.Errorf("down: %+v", s)
	}
	if s := d.order("POST", "/v1/up", "{}"); s.Down != nil || s.Rebalance == nil {
		t.Errorf("up: %+v", s)
	}
	d.order("POST", "/v1/up", "{}") // though it is up
	if s := d.order("POST", "/v1/reshard", `{"shards":16}`); s.Reshard == nil || s.Reshard.Shards != 16 || s.Reshard.Abort || s.Reshard.At.IsZero() {
		t.Errorf("reshard: %+v", s)
	}
	if s := d.order("DELETE", "/v1/reshard", ""); s.Reshard == nil || s.Reshard.Shards != 16 || !s.Reshard.Abort {
		t.Errorf("abort: %+v", s)
	}
	if s := d.order("DELETE", "/v1/workers/a/drain", ""); len(s.Drains) != 0 {
		t.Errorf("cancel: %+v", s)
	}
}

// A reshard that was refused is replaced by the next.
func TestReshardAfterRefusal(t *testing.T) {
	d := newDesk(t, "")
	d.order("POST", "/v1/reshard", `{"shards":16}`)
	stands, err := d.store.Directives(t.Context())
	must(t, err)
	term, err := d.store.Campaign(t.Context(), "leader")
	must(t, err)
	defer term.Resign()
	must(t, term.RefuseReshard(t.Context(), *stands.Reshard, "the budget is not enough"))
	if s := d.order("POST", "/v1/rebalance", ""); s.Reshard.Refused != "the budget is not enough" {
		t.Errorf("refused: %+v", s.Reshard)
	}
	if s := d.order("POST", "/v1/reshard", `{"shards":12}`); s.Reshard.Shards != 12 || s.Reshard.Refused != "" {
		t.Errorf("the next: %+v", s.Reshard)
	}
}

// What cannot be is refused in one line that says why, and nothing is written.
func TestRefusedOrders(t *testing.T) {
	d := newDesk(t, "")
	must(t, d.store.DirectDrain(t.Context(), d.a.Ref(), epoch))
	before, err := d.store.Directives(t.Context())
	must(t, err)
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		says               string
	}{
		{"POST", "/v1/workers/b/drain", "", nil, 404, `no worker "b" is alive`},
		{"POST", "/v1/workers/late/drain", "", nil, 404, `no worker "late" is alive`}, // it died after the view was made
		{"POST", "/v1/workers/" + strings.Repeat("x", 9000) + "/drain", "", nil, 404, "xxx"},
		{"POST", "/v1/workers/a%2Fb/drain", "", nil, 404, `"a/b"`},
		{"POST", "/v1/workers//drain", "", nil, 307, ""},
		{"DELETE", "/v1/workers/b/drain", "", nil, 404, "no drain"},
		{"DELETE", "/v1/reshard", "", nil, 404, "no change"},
		{"POST", "/v1/reshard", "", nil, 400, "shards is 0: want 1 to 200000"},
		{"POST", "/v1/reshard", `{"shards":-1}`, nil, 400, "shards is -1"},
		{"POST", "/v1/reshard", `{"shards":200001}`, nil, 400, "shards is 200001"},
		{"POST", "/v1/reshard", `{"shards":1e99}`, nil, 400, "not JSON of its form"},
		{"POST", "/v1/reshard", `{"shards":8}`, nil, 409, "has 8 shards already"},
		{"POST", "/v1/down", `{"end_session":true}`, nil, 400, "end_session"},
		{"POST", "/v1/down", `[]`, nil, 400, "not JSON of its form"},
		{"POST", "/v1/down", `{"end_sessions":true}`, []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"POST", "/v1/up", "", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"POST", "/v1/rebalance", "", []string{"Content-Type", ""}, 415, "application/json"},
		{"POST", "/v1/workers/a/drain", "", []string{"Content-Type", ""}, 415, "application/json"},
		{"POST", "/v1/reshard", `{"shards":9}`, []string{"Content-Type", ""}, 415, "application/json"},
		{"POST", "/v1/rebalance", strings.Repeat(" ", 5000), nil, 413, "longer than"},
	} {
		w := d.ask(c.method, c.path, c.body, c.headers...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || c.status >= 400 && strings.Count(w.Body.String(), "\n") != 1 || w.Body.Len() > 300 {
			t.Errorf("%s %.60s %.60s: %d %.300s", c.method, c.path, c.body, w.Code, w.Body)
		}
	}
	after, err := d.store.Directives(t.Context())
	must(t, err)
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("from %v it became %v", before, after)
	}
	d.order("POST", "/v1/reshard", `{"shards":16}`)
	if w := d.ask("POST", "/v1/reshard", `{"shards":32}`); w.Code != 409 || !strings.Contains(w.Body.String(), "abort it first") {
		t.Errorf("a second reshard: %d %s", w.Code, w.Body)
	}
}

// What needs to know the cluster waits until it was read, and a cluster without a plan has nothing to be changed.
func TestOrdersBeforeTheClusterIsKnown(t *testing.T) {
	d := newDesk(t, "")
	d.c.view.Store(d.c.buildView(&lease.Cluster{}, epoch))
	if w := d.ask("POST", "/v1/reshard", `{"shards":16}`); w.Code != 409 || !strings.Contains(w.Body.String(), "no plan") {
		t.Errorf("reshard without a plan: %d %s", w.Code, w.Body)
	}
	d.c.view.Store(nil)
	for path, body := range map[string]string{"/v1/workers/a/drain": "", "/v1/reshard": `{"shards":16}`} {
		if w := d.ask("POST", path, body); w.Code != 503 || !strings.Contains(w.Body.String(), "not read") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	d.order("POST", "/v1/down", "")
}

var orderPaths = []string{
	"POST /v1/workers/a/drain", "DELETE /v1/workers/a/drain", "POST /v1/rebalance", "POST /v1/down", "POST /v1/up", "POST /v1/reshard", "DELETE /v1/reshard",
}

// Every order, and every profile, is for an admin only; reading is for everybody. No GET changes anything.
func TestOrdersAreForAdmins(t *testing.T) {
	const adminToken = "an-admin-token-of-some-length"
	d, near := newDesk(t, adminToken), newDesk(t, "")
	for _, order := range append(orderPaths, "GET /debug/pprof/", "GET /debug/pprof/heap", "GET /debug/pprof/symbol") {
		method, path, _ := strings.Cut(order, " ")
		if w := d.ask(method, path, "{}"); w.Code != 401 {
			t.Errorf("%s without the token: %d %s", order, w.Code, w.Body)
		}
		if w := d.ask(method, path, "{}", "Authorization", "Bearer "+adminToken); w.Code == 401 || w.Code == 403 {
			t.Errorf("%s with the token: %d %s", order, w.Code, w.Body)
		}
		if w := near.ask(method, path, "{}", "Origin", "http://evil.example"); w.Code != 403 {
			t.Errorf("%s from another's page: %d %s", order, w.Code, w.Body)
		}
		if method == "GET" {
			continue
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "OPTIONS"} {
			if w := d.ask(method, path, "{}", "Authorization", "Bearer "+adminToken); w.Code != 405 || w.Header().Get("Access-Control-Allow-Methods") != "" {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/cluster", "/v1/shards/0", "/", "/page.css", "/page.js"} {
		if w := d.ask("GET", path, "", "Origin", "http://evil.example"); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d", path, w.Code)
		}
		if w := d.ask("POST", path, "{}", "Authorization", "Bearer "+adminToken); w.Code != 405 {
			t.Errorf("POST %s: %d", path, w.Code)
		}
	}
}

// A client that asks too often is put off, and so are all together, but not those who may not ask by those who may.
func TestOrdersAreLimited(t *testing.T) {
	d := newDesk(t, "")
	hammer := func(address, method, path string) (refused int) {
		for range 300 {
			r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("{}"))
			r.Host, r.RemoteAddr = "localhost", address
			w := httptest.NewRecorder()
			if d.http.ServeHTTP(w, r); w.Code == http.StatusTooManyRequests {
				refused++
			}
		}
		return refused
	}
	if n := hammer("127.1.0.1:1", "POST", "/v1/up"); n == 0 {
		t.Error("orders are not limited")
	}
	if n := hammer("192.0.2.1:1", "POST", "/v1/up"); n == 0 {
		t.Error("refused orders are not limited")
	}
	if n := hammer("192.0.2.1:1", "GET", "/v1/cluster"); n == 0 {
		t.Error("reading is not limited")
	}
	if w := d.ask("POST", "/v1/up", ""); w.Code != http.StatusAccepted {
		t.Errorf("another client: %d", w.Code)
	}
}
