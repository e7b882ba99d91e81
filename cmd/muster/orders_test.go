package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/muster-gateway/muster/internal/api"
)

// states makes shard states of "live live down".
func states(text string) (s []api.Shard) {
	for i, state := range strings.Fields(text) {
		s = append(s, api.Shard{Shard: i, State: state})
	}
	return s
}

func TestProgress(t *testing.T) {
	drain := api.Directives{Drains: []api.Drain{{Worker: "b", Incarnation: 2}, {Worker: "a", Incarnation: 1}}}
	two := func(shards int) []api.Worker {
		return []api.Worker{{ID: "a", Incarnation: 1, Shards: shards, Draining: true}, {ID: "b", Incarnation: 2}}
	}
	down, reshard := api.Directives{Down: &api.Down{}}, api.Directives{Reshard: &api.Reshard{Shards: 8}}
	type look = func(*api.Cluster) (string, bool, error)
	drainA := func(v *api.Cluster) (string, bool, error) { return drained(v, "a", 1) }
	to8 := func(v *api.Cluster) (string, bool, error) { return resharded(v, 8) }
	for _, c := range []struct {
		name string
		look look
		view api.Cluster
		says string // the progress, or the error
		done bool
		err  bool
	}{
		{"drain begins", drainA, api.Cluster{Workers: two(6), Directives: drain}, "6 shards left", false, false},
		{"drain of one", drainA, api.Cluster{Workers: two(1), Directives: drain}, "1 shard left", false, false},
		{"drain is done", drainA, api.Cluster{Workers: two(0), Directives: drain}, "it can be stopped", true, false},
		{"drain was taken back", drainA, api.Cluster{Workers: two(6)}, "taken back", false, true},
		{"drain was taken back when it was done", drainA, api.Cluster{Workers: two(0)}, "taken back", false, true},
		{"drain of another incarnation stands", drainA, api.Cluster{Workers: two(6), Directives: api.Directives{Drains: []api.Drain{{Worker: "a", Incarnation: 9}}}}, "taken back", false, true},
		{"drained worker is gone", drainA, api.Cluster{Workers: two(6)[1:], Directives: drain}, "a is gone", true, false},
		{"drained worker began anew", drainA, api.Cluster{Workers: []api.Worker{{ID: "a", Incarnation: 3, Shards: 6}}}, "a is gone", true, false},
		{"drain with nobody else", drainA, api.Cluster{Workers: two(6)[:1], Directives: drain}, "no other worker", false, false},

		{"rebalance begins", rebalanced, api.Cluster{Directives: api.Directives{Rebalance: &api.Rebalance{}}, Ranges: []api.Range{{Moving: true}, {}}}, "1 range moving", false, false},
		{"rebalance is done", rebalanced, api.Cluster{Ranges: []api.Range{{}}}, "load is even", true, false},

		{"down begins", isDown, api.Cluster{Shards: 3, ShardStates: states("live down unassigned"), Directives: down}, "2 of 3 shards down", false, false},
		{"down is not known of a shard", isDown, api.Cluster{Shards: 2, ShardStates: states("unknown down"), Directives: down}, "1 of 2 shards down", false, false},
		{"down is done", isDown, api.Cluster{Shards: 2, ShardStates: states("down unassigned"), Directives: down}, "the cluster is down", true, false},
		{"down was taken back", isDown, api.Cluster{Shards: 1, ShardStates: states("down")}, "brought up again", false, true},

		{"up is not known yet", new(upward).look, api.Cluster{Shards: 1, ShardStates: states("live"), Directives: down}, "1 live", false, false},
		{"up begins", new(upward).look, api.Cluster{Shards: 3, ShardStates: states("live resuming down")}, "1 down, 1 live, 1 resuming", false, false},
		{"up is done", new(upward).look, api.Cluster{Shards: 2, ShardStates: states("live live")}, "2 live", true, false},
		{"up, without a plan", new(upward).look, api.Cluster{}, "", false, false},
		{"up, but halted", new(upward).look, api.Cluster{Shards: 1, ShardStates: states("halted"), Halted: []api.Halt{{Worker: "a", Reason: "token"}}}, "halted by a: token", false, true},
		{"taken down again", (&upward{seen: true}).look, api.Cluster{Shards: 1, ShardStates: states("down"), Directives: down}, "down again", false, true},

		{"reshard begins", to8, api.Cluster{Shards: 4, Directives: reshard}, "8 shards are being prepared", false, false},
		{"reshard is in force, and not finished", to8, api.Cluster{Shards: 8, Directives: reshard}, "being prepared", false, false},
		{"reshard is done", to8, api.Cluster{Shards: 8}, "the cluster has 8 shards", true, false},
		{"reshard is gone", to8, api.Cluster{Shards: 4}, "given up", false, true},
		{"reshard was aborted", to8, api.Cluster{Shards: 4, Directives: api.Directives{Reshard: &api.Reshard{Shards: 8, Abort: true}}}, "given up", false, true},
		{"reshard was replaced", to8, api.Cluster{Shards: 4, Directives: api.Directives{Reshard: &api.Reshard{Shards: 9}}}, "given up", false, true},
		{"reshard was refused", to8, api.Cluster{Shards: 4, Directives: api.Directives{Reshard: &api.Reshard{Shards: 8, Refused: "no budget"}}}, "refused: no budget", false, true},

		{"abort begins", aborted, api.Cluster{Shards: 4, Directives: reshard}, "taken apart", false, false},
		{"abort is done", aborted, api.Cluster{Shards: 4}, "the cluster has 4 shards", true, false},
	} {
		says, done, err := c.look(&c.view)
		if err != nil {
			says = err.Error()
		}
		if done != c.done || (err != nil) != c.err || !strings.Contains(says, c.says) {
			t.Errorf("%s: %q, done %v, %v", c.name, says, done, err)
		}
	}
}

// office is a coordinator that takes orders and shows one view after the other, the last for ever.
type office struct {
	*httptest.Server
	mu     sync.Mutex
	orders []string
	status int // of the answer to orders
	views  []*api.Cluster
}

func newOffice(t *testing.T, views ...*api.Cluster) *office {
	o := &office{status: http.StatusAccepted, views: views}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	return o
}

func (o *office) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Method == http.MethodGet {
		if o.views[0] == nil {
			http.Error(w, "etcd was not read yet", http.StatusServiceUnavailable)
		} else {
			json.NewEncoder(w).Encode(o.views[0])
		}
		if len(o.views) > 1 {
			o.views = o.views[1:]
		}
		return
	}
	body, _ := io.ReadAll(r.Body)
	o.orders = append(o.orders, strings.TrimSpace(strings.Join([]string{r.Method, r.URL.EscapedPath(), string(body), r.Header.Get("Content-Type"), r.Header.Get("Authorization")}, " ")))
	if o.status != http.StatusAccepted {
		http.Error(w, "because", o.status)
		return
	}
	w.WriteHeader(o.status)
	json.NewEncoder(w).Encode(api.Ordered{Revision: 7, Directives: api.Directives{Drains: []api.Drain{{Worker: "a", Incarnation: 3}}}})
}

// Each command gives one order, in the form that a coordinator wants, and says so.
func TestOrdersGiven(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("an-admin-token-of-some-length\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const bearer = " Bearer an-admin-token-of-some-length"
	for args, want := range map[string]string{
		"drain a":                        "POST /v1/workers/a/drain {} application/json",
		"drain a/b":                      "POST /v1/workers/a%2Fb/drain {} application/json",
		"drain a --cancel":               "DELETE /v1/workers/a/drain",
		"rebalance":                      "POST /v1/rebalance {} application/json",
		"down":                           `POST /v1/down {"end_sessions":false} application/json`,
		"down --end-sessions":            `POST /v1/down {"end_sessions":true} application/json`,
		"up":                             "POST /v1/up {} application/json",
		"reshard 16":                     `POST /v1/reshard {"shards":16} application/json`,
		"reshard --abort":                "DELETE /v1/reshard",
		"up --admin-token-file " + token: "POST /v1/up {} application/json" + bearer,
		"drain a --cancel --admin-token-file " + token: "DELETE /v1/workers/a/drain   " + strings.TrimSpace(bearer),
	} {
		o := newOffice(t)
		code := run(append(strings.Fields(args), "--coordinator", o.URL, "--no-wait"))
		if code != 0 || len(o.orders) != 1 || o.orders[0] != want {
			t.Errorf("%s: exit code %d, orders %q", args, code, o.orders)
		}
	}
}

// What a script can tell by: 0 done, 1 refused or failed, 2 badly asked.
func TestExitCodesOfOrders(t *testing.T) {
	for status, want := range map[int]int{202: 0, 400: 2, 401: 1, 403: 1, 404: 1, 409: 1, 429: 1, 503: 1} {
		o := newOffice(t)
		o.status = status
		if code := run([]string{"down", "--coordinator", o.URL, "--no-wait"}); code != want {
			t.Errorf("answered %d it exits with %d, want %d", status, code, want)
		}
	}
	o := newOffice(t,
		&api.Cluster{Revision: 6, Shards: 1, ShardStates: states("down"), Directives: api.Directives{Down: &api.Down{}}}, // from before the order
		nil,
		&api.Cluster{Revision: 7, Shards: 1, ShardStates: states("live"), Directives: api.Directives{Down: &api.Down{}}},
		&api.Cluster{Revision: 8, Shards: 1, ShardStates: states("down"), Directives: api.Directives{Down: &api.Down{}}},
	)
	if code := run([]string{"down", "--coordinator", o.URL}); code != 0 || len(o.views) != 1 {
		t.Errorf("followed to its end it exits with %d, with %d views left", code, len(o.views)-1)
	}
	o = newOffice(t, &api.Cluster{Revision: 8, Shards: 1, ShardStates: states("down")})
	if code := run([]string{"down", "--coordinator", o.URL}); code != 1 {
		t.Errorf("what fails on the way exits with %d", code)
	}
	gone := newOffice(t)
	gone.Close()
	if code := run([]string{"up", "--coordinator", gone.URL}); code != 1 {
		t.Errorf("without a coordinator it exits with %d", code)
	}
}

// Interrupted, the order stands.
func TestInterruptedOrder(t *testing.T) {
	o := newOffice(t, &api.Cluster{Revision: 7, Workers: []api.Worker{{ID: "a", Incarnation: 3, Shards: 2}}, Directives: api.Directives{Drains: []api.Drain{{Worker: "a", Incarnation: 3}}}})
	ctx, cancel := context.WithCancel(t.Context())
	c := drainCmd{Worker: "a"}
	c.Coordinator, c.Wait = o.URL, true
	said := make(chan string, 1)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = before }()
	go func() {
		var text strings.Builder
		buf := make([]byte, 1024)
		for {
			n, err := r.Read(buf)
			text.Write(buf[:n])
			if strings.Contains(text.String(), "left") { // its progress is shown
				cancel()
			}
			if err != nil {
				said <- text.String()
				return
			}
		}
	}()
	err = c.Run(ctx)
	w.Close()
	text := <-said
	if !errors.Is(err, errUnclean) || !strings.Contains(text, "the order stands") || !strings.Contains(text, "muster drain --cancel a takes it back") {
		t.Errorf("%v, and it says %q", err, text)
	}
	if len(o.orders) != 1 {
		t.Errorf("orders are %q", o.orders)
	}
	if err := follow(ctx, &display{out: io.Discard}, api.Client{Base: o.URL}, 0, isDown); !errors.Is(err, context.Canceled) { // in the midst of a request
		t.Errorf("interrupted before it could ask: %v", err)
	}
}

// On a terminal one line changes; elsewhere only what is new is a line.
func TestDisplay(t *testing.T) {
	for terminal, want := range map[bool]string{
		false: "one\ntwo\nthree\n",
		true:  "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[Kthree\n",
	} {
		var out strings.Builder
		d := display{out: &out, terminal: terminal}
		for _, text := range []string{"one", "one", "", "two"} {
			d.show(text)
		}
		if d.end("three"); out.String() != want {
			t.Errorf("terminal %v: %q", terminal, out.String())
		}
	}
}

// What operators ordered is said: first what is in the way of events, and further down what is under way.
func TestPrintOrders(t *testing.T) {
	at := time.Unix(0, 0).UTC()
	c := &api.Cluster{Leader: "one", Directives: api.Directives{
		Down: &api.Down{At: at}, Rebalance: &api.Rebalance{At: at}, Drains: []api.Drain{{Worker: "w1", At: at}},
	}}
	const since = "1970-01-01T00:00:00Z"
	for name, change := range map[string]struct {
		reshard api.Reshard
		want    string
	}{
		"all":     {api.Reshard{}, "ordered   to change to 9 shards, since " + since + "\n"},
		"aborted": {api.Reshard{Abort: true}, "ordered   not to change to 9 shards after all, since " + since + "\n"},
		"refused": {api.Reshard{Refused: "why"}, "WARNING   not resharded to 9 shards, as ordered: why\n"},
	} {
		var out strings.Builder
		r := change.reshard
		r.Shards, r.At = 9, at
		c.Directives.Reshard = &r
		c.Troubles = api.Troubles(c)
		if err := printStatus(&out, c, screen{}); err != nil || !strings.HasPrefix(out.String(), "CRITICAL  down by order since "+since) {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
		for _, want := range []string{change.want, "ordered   to even out load, since " + since + "\n", "muster drain --cancel w1 takes it back\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q is missing:\n%s", name, want, out.String())
			}
		}
	}
}
