// Package page tests the coordinator's page in a real browser: what a person sees, and what their clicks do.
package page

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/pkg/lease"
)

const shards = 1000

// patient is how long the test waits for what must come. It is no tolerance: nothing is measured by it.
const patient = 2 * time.Minute

// browser opens a tab of a headless Chromium, or skips the test where there is none.
func browser(t *testing.T) context.Context {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1200, 1600))
		allocator, cancelAllocator := chromedp.NewExecAllocator(t.Context(), options...)
		t.Cleanup(cancelAllocator)
		tab, cancelTab := chromedp.NewContext(allocator)
		t.Cleanup(cancelTab)
		ctx, cancel := context.WithTimeout(tab, patient)
		t.Cleanup(cancel)
		return ctx
	}
	t.Skip("no Chromium here: install it (Debian: apt-get install chromium) to test the page in it")
	return nil
}

// coordinate runs a coordinator of a cluster of its own, and returns its address and store.
func coordinate(t *testing.T) (url string, store *lease.Store) {
	t.Helper()
	discord := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"url":"wss://gateway.test","shards":%d,"session_start_limit":{"total":2000,"remaining":2000,"reset_after":1000000,"max_concurrency":16}}`, shards)
	}))
	t.Cleanup(discord.Close)
	store, err := lease.Open(lease.Config{Endpoints: etcdtest.Start(t).Endpoints(), Cluster: "page"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := coordinator.New(coordinator.Config{
		ID: "one", Cluster: "page", Token: "token", APIURL: discord.URL, Shards: shards, Store: store, Listener: listener, Logger: hclog.NewNullLogger(),
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return "http://" + listener.Addr().String(), store
}

// join makes a worker that says of every shard that it is live, whether it has it or not.
func join(t *testing.T, store *lease.Store, id string) *lease.Registration {
	t.Helper()
	reg, err := store.Register(t.Context(), lease.Worker{ID: id, UUID: id, Capacity: 1, Zone: "east"}, 10*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	status := lease.Status{Shards: map[int]lease.ShardStatus{}, EventsPerSecond: 1234}
	for shard := range shards {
		status.Shards[shard] = lease.ShardStatus{Generation: 1, State: "live", Epoch: 1, LatencyMS: 41.5}
	}
	if err := reg.Report(t.Context(), status); err != nil {
		t.Fatal(err)
	}
	return reg
}

func do(t *testing.T, tab context.Context, action chromedp.Action[chromedp.Void]) {
	t.Helper()
	if _, err := chromedp.Run(tab, action); err != nil {
		t.Fatal(err)
	}
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

// A person sees a thousand shards, that a worker has died and what became of its shards, and drains another by clicking.
func TestPage(t *testing.T) {
	tab := browser(t)
	url, store := coordinate(t)
	a, b := join(t, store, "worker-a"), join(t, store, "worker-b")
	do(t, tab, chromedp.Navigate(url))
	until(t, tab, "a thousand live shards", `document.getElementById('t-live').textContent === '1,000 / 1,000'`)
	until(t, tab, "the grid says so to who cannot see it", `document.getElementById('grid').ariaLabel === '1,000 shards: 1,000 live'`)
	until(t, tab, "plots", `document.querySelectorAll('figure svg polyline').length === 3`)

	// One shard, looked at by keyboard.
	do(t, tab, chromedp.SendKeys("#look", "512"))
	until(t, tab, "a shard in detail", `document.getElementById('shard').textContent.startsWith('shard 512: live, worker-') &&
		document.getElementById('shard').textContent.endsWith('epoch 1, heartbeat 41.5 ms')`)

	died := time.Now()
	if err := a.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, tab, "the death is told", `document.getElementById('incidents').textContent.includes('worker-a is gone, with 500 shards')`)
	t.Logf("the death was on the page %v later", time.Since(died).Round(10*time.Millisecond))
	until(t, tab, "its shards are others'", `document.getElementById('t-live').textContent === '1,000 / 1,000' &&
		document.querySelector('#workers tr').cells[3].textContent === '1000'`)

	c := join(t, store, "worker-c")
	do(t, tab, chromedp.Click(`button[aria-label="Drain worker-b"]`))
	do(t, tab, chromedp.WaitVisible("#ask-yes"))
	do(t, tab, chromedp.Click("#ask-yes"))
	until(t, tab, "the order is taken", `document.getElementById('said').textContent === 'ordered: drain worker-b'`)
	until(t, tab, "the worker drains", `[...document.querySelectorAll('#workers tr')].some(r => r.cells[0].textContent === 'worker-b (draining)')`)
	until(t, tab, "moves are shown", `document.getElementById('moves').textContent.includes('worker-b → worker-c')`)

	// Nothing of it was asked of anybody but this coordinator, and nothing that came from the cluster is taken for markup.
	foreign, err := chromedp.Run(tab, chromedp.Evaluate[int](
		`performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin) && !e.name.startsWith('data:')).length`))
	if err != nil || foreign != 0 {
		t.Errorf("%d things were fetched from elsewhere, %v", foreign, err)
	}
	for _, reg := range []*lease.Registration{b, c} {
		if err := reg.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
	until(t, tab, "what is wrong is first", `document.getElementById('troubles').textContent.startsWith('no worker is there to run 1000 shards')`)
}

// What others wrote into etcd is text on the page.
func TestPageTakesNothingForMarkup(t *testing.T) {
	tab := browser(t)
	url, store := coordinate(t)
	reg := join(t, store, "worker-a")
	if err := reg.Halt(t.Context(), lease.Halt{Reason: `<img src=x onerror="document.title='owned'">`}); err != nil {
		t.Fatal(err)
	}
	do(t, tab, chromedp.Navigate(url))
	until(t, tab, "the reason as it is", `document.getElementById('troubles').textContent.includes('<img src=x')`)
	if title, err := chromedp.Run(tab, chromedp.Title()); err != nil || title != "muster" {
		t.Errorf("the title is %q, %v", title, err)
	}
}
