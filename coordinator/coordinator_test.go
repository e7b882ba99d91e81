package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/pkg/lease"
)

// discord answers GET /gateway/bot with goodAnswer, which recommends nine shards, or with a status that is set.
type discord struct {
	*httptest.Server
	status atomic.Int32
}

func newDiscord(t *testing.T) *discord {
	d := &discord{}
	d.status.Store(http.StatusOK)
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(d.status.Load()))
		io.WriteString(w, goodAnswer)
	}))
	t.Cleanup(d.Close)
	return d
}

// replica is a running coordinator.
type replica struct {
	t    *testing.T
	id   string
	url  string
	log  *logBuffer
	end  context.CancelFunc
	done chan error
}

// logBuffer can be written and read at once.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// run starts a coordinator that ends with the test, if it was not stopped before.
func run(t *testing.T, store *lease.Store, d *discord, id string) *replica {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &replica{t: t, id: id, url: "http://" + listener.Addr().String(), log: &logBuffer{}, done: make(chan error, 1)}
	c := New(Config{
		ID: id, Cluster: "test", Token: testToken, APIURL: d.URL, Store: store, Listener: listener,
		Logger: hclog.New(&hclog.LoggerOptions{Output: r.log, Level: hclog.Trace}),
	})
	ctx, cancel := context.WithCancel(t.Context())
	r.end = cancel
	go func() { r.done <- c.Run(ctx) }()
	t.Cleanup(r.stop)
	return r
}

// stop ends the replica, and checks that it kept its secrets.
func (r *replica) stop() {
	r.end()
	if err := <-r.done; err != nil && !errors.Is(err, ErrTokenRefused) {
		r.t.Errorf("Run: %v", err)
	}
	r.done <- nil // for the next stop
	if strings.Contains(r.log.String(), testToken) {
		r.t.Error("the token is in the log")
	}
}

func (r *replica) get(path string) (int, string) {
	r.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(r.url + path)
	must(r.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(r.t, err)
	return resp.StatusCode, string(body)
}

// balanced reports whether all nine ranges are shared out among so many workers, none of them moving.
func balanced(workers int) func(*lease.Cluster) bool {
	return func(c *lease.Cluster) bool {
		all := 0
		for _, n := range owners(c) {
			if n < 9/workers {
				return false
			}
			all += n
		}
		for _, r := range c.Ranges {
			if r.Move != nil {
				return false
			}
		}
		return all == 9 && len(owners(c)) == workers
	}
}

// A view that etcd no longer confirms says so, and no longer when etcd is back, though nothing changed meanwhile.
func TestViewSaysThatEtcdIsAway(t *testing.T) {
	t.Parallel()
	server := etcdtest.Start(t)
	link := server.Link(t)
	next := listen(t, run(t, storeAt(t, link.Endpoints(), "away"), newDiscord(t), "one").url+"/v1/live")
	type view struct {
		Generation  int
		UnreadSince *time.Time `json:"unread_since"`
		Troubles    []api.Trouble
	}
	awaitView := func(what string, ok func(view) bool) {
		t.Helper()
		for {
			var v view
			event, data := next()
			must(t, json.Unmarshal([]byte(data), &v))
			if event == "state" && ok(v) {
				return
			}
			t.Logf("not yet: %s", what)
		}
	}
	awaitView("etcd is read", func(v view) bool { return v.Generation == 1 && v.UnreadSince == nil })
	link.Cut()
	awaitView("it is away", func(v view) bool { return v.UnreadSince != nil && v.Troubles[0].Severity == api.Critical })
	link.Mend()
	awaitView("it is back", func(v view) bool { return v.UnreadSince == nil })
}

func TestAssignsTakesOverAndDrains(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	w := watch(t, store)
	a, b, c := register(t, store, "a"), register(t, store, "b"), register(t, store, "c")
	run(t, store, newDiscord(t), "one")
	w.until("nine ranges shared out among three", balanced(3))

	must(t, c.Leave(t.Context()))
	w.until("the ranges of the dead given to the others", balanced(2))

	must(t, a.Drain(t.Context()))
	state := w.until("moves of all that a has", func(c *lease.Cluster) bool {
		moving := 0
		for _, r := range c.Ranges {
			if r.Owner == a.Ref() && r.Move != nil && r.Move.To == b.Ref() {
				moving++
			}
		}
		return moving == owners(c)["a"]
	})
	for _, r := range state.Ranges {
		if r.Owner == a.Ref() {
			must(t, a.Own(order(r)).HandOver(t.Context(), order(r)))
		}
	}
	w.until("everything at b", balanced(1))
	must(t, a.Leave(t.Context()))

	register(t, store, "d")
	w.until("moves to d, which joined", func(c *lease.Cluster) bool {
		for _, r := range c.Ranges {
			if r.Move != nil && r.Move.To.Worker == "d" {
				return true
			}
		}
		return false
	})
}

func TestAnotherReplicaTakesOver(t *testing.T) {
	for name, lose := range map[string]func(*replica, *etcdtest.Link){
		"after a resignation":          func(r *replica, _ *etcdtest.Link) { r.stop() },
		"when the leader is cut off":   func(_ *replica, l *etcdtest.Link) { l.Cut() },
		"when the leader's link hangs": func(_ *replica, l *etcdtest.Link) { l.Hold() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fmt.Sprintf("c%d", clusters.Add(1))
			link, d := server.Link(t), newDiscord(t)
			near := storeAt(t, server.Endpoints(), cluster)
			w := watch(t, near)
			a := register(t, near, "a")
			register(t, near, "b")
			first := run(t, storeAt(t, link.Endpoints(), cluster), d, "first")
			w.until("the first leads", func(c *lease.Cluster) bool { return c.Leader.ID == "first" })
			w.until("all at a and b", balanced(2))
			second := run(t, near, d, "second")

			lose(first, link)
			w.until("the second leads", func(c *lease.Cluster) bool { return c.Leader.ID == "second" })
			must(t, a.Leave(t.Context()))
			state := w.until("all at b", balanced(1))

			link.Mend()
			replicas := []*replica{second, first}
			if name == "after a resignation" {
				replicas = replicas[:1]
			}
			for i, r := range replicas {
				leads := fmt.Sprintf("\nmuster_coordinator_leading %d\n", 1-i)
				view := r.viewAt(state.Revision)
				if _, body := r.get("/metrics"); view.Leader != "second" || !strings.Contains(body, leads) {
					t.Errorf("%s thinks that %q leads, and its metrics lack %q", view.AnsweredBy, view.Leader, leads)
				}
			}
		})
	}
}

// A leader that reads of a later term steps down, though its own lease still lasts.
func TestALaterTermDeposes(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	term, err := store.Campaign(t.Context(), "one")
	must(t, err)
	defer term.Resign()
	c := New(Config{ID: "one", Store: store, Logger: quiet})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.loop(ctx) }()
	c.terms <- term
	later, err := json.Marshal(lease.Leader{ID: "two", Term: term.Number + 1})
	must(t, err)
	c.updates <- lease.Update{Revision: term.Number + 2, Reset: true, Puts: []lease.Record{{Key: "leader", Value: later}}}
	select {
	case <-c.done:
	case <-time.After(patient):
		t.Error("it goes on leading")
	}
	cancel()
	must(t, <-ended)
}

func TestIdentifyFromRequestToSlot(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	w := watch(t, store)
	a := register(t, store, "a")
	run(t, store, newDiscord(t), "one")
	state := w.until("all at a", balanced(1))
	for shard := range 2 {
		r := state.Ranges[state.Plan.RangeOf(shard)]
		_, err := a.Own(order(r)).RequestIdentify(t.Context(), shard, false)
		must(t, err)
	}
	opened := w.until("a slot", func(c *lease.Cluster) bool { return c.Slots[0].State == lease.SlotOpen })
	shard := opened.Slots[0].Shard
	if opened.Budget.Remaining != 998 {
		t.Errorf("%d identifies remain of 999", opened.Budget.Remaining)
	}
	own := a.Own(order(opened.Ranges[opened.Plan.RangeOf(shard.Shard)]))
	claim, err := own.ClaimSlot(t.Context(), opened.Requests[lease.RequestID{Worker: "a", Shard: shard}], lease.Session{}, 0, 9)
	must(t, err)
	must(t, claim.Sent(t.Context(), claim.Deadline.Add(-lease.SlotValidity)))
	next := w.until("the other shard's slot", func(c *lease.Cluster) bool {
		return c.Slots[0].State == lease.SlotOpen && c.Slots[0].Shard != shard
	})
	if next.Budget.Remaining != 997 {
		t.Errorf("%d identifies remain, want 997", next.Budget.Remaining)
	}
}

func TestARefusedTokenEndsRun(t *testing.T) {
	t.Parallel()
	d := newDiscord(t)
	d.status.Store(http.StatusUnauthorized)
	r := run(t, newStore(t), d, "one")
	err := <-r.done
	r.done <- err
	if !errors.Is(err, ErrTokenRefused) {
		t.Errorf("Run: %v", err)
	}
	if strings.Contains(fmt.Sprint(err), testToken) {
		t.Errorf("the error gives the token away: %v", err)
	}
}

func TestAListenerThatIsClosedEndsRun(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, listener.Close())
	c := New(Config{ID: "one", Token: testToken, APIURL: newDiscord(t).URL, Store: newStore(t), Listener: listener, Logger: quiet})
	if err := c.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

// etcd is not there at the start, then goes away for a while: the coordinator waits, and goes on.
func TestEtcdAwayAndBack(t *testing.T) {
	t.Parallel()
	own := etcdtest.Start(t)
	link := own.Link(t)
	link.Cut()
	r := run(t, storeAt(t, link.Endpoints(), "c"), newDiscord(t), "one")
	if status, body := r.get("/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("without etcd, health is %d %q", status, body)
	}
	for _, path := range []string{"/readyz", "/v1/cluster"} {
		if status, body := r.get(path); status != http.StatusServiceUnavailable || !strings.Contains(body, "etcd was not read yet") {
			t.Errorf("without etcd, %s is %d %q", path, status, body)
		}
	}
	if status, body := r.get("/metrics"); status != http.StatusOK || !strings.Contains(body, "muster_cluster_workers 0") {
		t.Errorf("without etcd, metrics are %d\n%s", status, body)
	}
	link.Mend()

	near := storeAt(t, own.Endpoints(), "c")
	w := watch(t, near)
	a := register(t, near, "a")
	b := register(t, near, "b")
	before := w.until("all at a and b", balanced(2))
	own.Restart()
	must(t, near.AwaitReady(t.Context()))
	must(t, a.Leave(t.Context()))
	after := w.until("all at b, after etcd came back", balanced(1))
	for id, r := range before.Ranges {
		if r.Owner == b.Ref() && r.Fence != after.Ranges[id].Fence {
			t.Errorf("range %v changed hands because etcd was away", id)
		}
	}
}

func TestAnswersOverHTTP(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	w := watch(t, store)
	a := register(t, store, "a")
	must(t, a.Report(t.Context(), lease.Status{Shards: map[int]lease.ShardStatus{3: {Generation: 1, State: "live", Epoch: 7, LatencyMS: 1.5}}, Events: 12}))
	must(t, a.Halt(t.Context(), lease.Halt{Shard: 4, Reason: "intents not allowed (4014)"}))
	one, two := run(t, store, newDiscord(t), "one"), run(t, store, newDiscord(t), "two")
	state := w.until("all at a", balanced(1))

	for _, r := range []*replica{one, two} { // every replica answers, once it has read as much as we have
		view := r.viewAt(state.Revision)
		s := view.ShardStates[3]
		if view.AnsweredBy != r.id || view.Leader != state.Leader.ID || view.Shards != 9 || len(view.Ranges) != 9 || len(view.ShardStates) != 9 ||
			view.Budget.Total != 1000 || len(view.Workers) != 1 || view.Workers[0].Shards != 9 || view.Workers[0].Events != 12 ||
			len(view.Halted) != 1 || view.Halted[0].Shard != 4 || view.Cluster != "test" {
			t.Errorf("view is %+v", view)
		}
		if s.Worker != "a" || s.State != "live" || s.Epoch != 7 || s.LatencyMS != 1.5 || view.ShardStates[4].State != api.StateUnknown {
			t.Errorf("shards are %+v", view.ShardStates)
		}
	}
	for path, want := range map[string]string{
		"/healthz": "ok\n", "/readyz": "ok\n", "/": "<html", "/metrics": "muster_cluster_shards_live 1",
	} {
		if status, body := one.get(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, want %q in\n%s", path, status, want, body)
		}
	}
	_, first := one.get("/metrics")
	_, second := two.get("/metrics")
	if leads := "\nmuster_coordinator_leading 1\n"; strings.Contains(first, leads) == strings.Contains(second, leads) {
		t.Error("not exactly one replica says that it leads")
	}
	if status, _ := one.get("/elsewhere"); status != http.StatusNotFound {
		t.Errorf("/elsewhere: %d", status)
	}
}

// viewAt asks until the answer is of that revision, or later; for a while after that the replica may have no more answers for us, since it
// bounds how often it is asked.
func (r *replica) viewAt(revision int64) api.Cluster {
	r.t.Helper()
	for {
		var view api.Cluster
		if status, body := r.get("/v1/cluster"); status == http.StatusOK {
			must(r.t, json.Unmarshal([]byte(body), &view))
		}
		if view.Revision >= revision {
			return view
		}
		must(r.t, r.t.Context().Err())
	}
}
