package page

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/pkg/lease"
)

// patient is how long a test waits for what must come. It is no tolerance: nothing is measured by it.
const patient = time.Minute

// All tests share a browser, which is nil where there is none, and an etcd, in which each has a cluster of its own.
var (
	chromium context.Context
	etcd     *etcdtest.Server
	clusters atomic.Int32
)

func TestMain(m *testing.M) {
	stop := findChromium()
	code := runWithEtcd(m)
	stop()
	os.Exit(code)
}

func runWithEtcd(m *testing.M) int {
	dir, err := os.MkdirTemp("", "page")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if etcd, err = etcdtest.Open(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer etcd.Close()
	return m.Run()
}

func findChromium() (stop func()) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1200, 1600))
		allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
		browser, cancelBrowser := chromedp.NewContext(allocator)
		chromium = browser
		return func() { cancelBrowser(); cancelAllocator() }
	}
	return func() {}
}

var startChromium = sync.OnceValue(func() error { return chromedp.Do(chromium) })

// tab opens a tab of the browser, or skips the test where there is none.
func tab(t *testing.T) context.Context {
	t.Helper()
	if chromium == nil {
		t.Skip("no Chromium here: install it (Debian: apt-get install chromium) to test the page in it")
	}
	if err := startChromium(); err != nil {
		t.Fatal("start Chromium: ", err)
	}
	tab, cancelTab := chromedp.NewContext(chromium)
	t.Cleanup(cancelTab)
	ctx, cancel := context.WithTimeout(tab, 2*patient) // so that what is there can be told of when something was not
	t.Cleanup(cancel)
	return ctx
}

// cluster is an etcd and a Discord, and a coordinator between them, that can be stopped and started again at the same address.
type cluster struct {
	t       *testing.T
	url     string
	store   *lease.Store
	config  coordinator.Config
	stop    func()
	address string
	shards  int
}

// coordinate runs a coordinator of a cluster of its own. With an admin token orders take that.
func coordinate(t *testing.T, shards int, adminToken string) *cluster {
	t.Helper()
	discord := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"url":"wss://gateway.test","shards":%d,"session_start_limit":{"total":20000,"remaining":20000,"reset_after":1000000,"max_concurrency":16}}`, shards)
	}))
	t.Cleanup(discord.Close)
	name := fmt.Sprint("page-", clusters.Add(1))
	store, err := lease.Open(lease.Config{Endpoints: etcd.Endpoints(), Cluster: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	c := &cluster{t: t, store: store, address: "127.0.0.1:0", shards: shards, config: coordinator.Config{
		ID: "one", Cluster: name, Token: "token", APIURL: discord.URL, Shards: shards, Store: store, Logger: hclog.NewNullLogger(), AdminToken: adminToken,
	}}
	c.start()
	t.Cleanup(func() { c.stop() })
	return c
}

func (c *cluster) start() {
	c.t.Helper()
	listener, err := net.Listen("tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.address = listener.Addr().String()
	c.url = "http://" + c.address
	config := c.config
	config.Listener = listener
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := coordinator.New(config).Run(ctx); err != nil {
			c.t.Error(err)
		}
	})
	c.stop = func() { stop(); running.Wait() }
}

// join makes a worker that says of every shard that it is in the given state, whether it has it or not.
func (c *cluster) join(id, state string) *lease.Registration {
	c.t.Helper()
	reg, err := c.store.Register(c.t.Context(), lease.Worker{ID: id, UUID: id, Capacity: 1, Zone: "east"}, 10*time.Minute)
	if err != nil {
		c.t.Fatal(err)
	}
	status := lease.Status{Shards: map[int]lease.ShardStatus{}, EventsPerSecond: 1234}
	for shard := range c.shards {
		status.Shards[shard] = lease.ShardStatus{Generation: 1, State: state, Epoch: 1, LatencyMS: 41.5}
	}
	if err := reg.Report(c.t.Context(), status); err != nil {
		c.t.Fatal(err)
	}
	return reg
}

func do(t *testing.T, tab context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(tab, actions...); err != nil {
		t.Fatal(err)
	}
}

// press clicks on what may be moving down, because of what is told above it: a mouse would have to aim. TestPage has one.
func press(t *testing.T, tab context.Context, selector string) {
	t.Helper()
	find[bool](t, tab, fmt.Sprintf("(document.querySelector(%q).click(), true)", selector))
}

// find is the value of an expression on the page.
func find[T any](t *testing.T, tab context.Context, expression string) T {
	t.Helper()
	value, err := chromedp.Run(tab, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits for an expression on the page to be true.
func until(t *testing.T, tab context.Context, what, expression string) {
	t.Helper()
	poll := chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(patient))
	if _, err := chromedp.Run(tab, poll); err != nil {
		body, said := chromedp.Run(tab, chromedp.Evaluate[string]("document.body.innerText"))
		t.Fatalf("never: %s: %v\n%s", what, errors.Join(err, said), body)
	}
}

// text waits for an element to have a text.
func text(t *testing.T, tab context.Context, id, want string) {
	t.Helper()
	until(t, tab, fmt.Sprintf("%s is %q", id, want), fmt.Sprintf("document.getElementById(%q).textContent === %q", id, want))
}

// sixteen is a page that shows a cluster of sixteen shards on one worker, all in one state.
func sixteen(t *testing.T, state string) (context.Context, *cluster) {
	t.Helper()
	tab := tab(t)
	cluster := coordinate(t, 16, "")
	cluster.join("worker-a", state)
	do(t, tab, chromedp.Navigate(cluster.url))
	text(t, tab, "t-live", map[bool]string{true: "16 / 16", false: "0 / 16"}[state == "live"])
	return tab, cluster
}
