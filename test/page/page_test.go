// Package page tests the coordinator's page in a real browser: what a person sees, and what their clicks and keys do.
package page

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/muster-gateway/muster/pkg/lease"
)

// A person sees a thousand shards, that a worker has died and what became of its shards, and drains another by clicking.
func TestPage(t *testing.T) {
	t.Parallel()
	tab := tab(t)
	cluster := coordinate(t, 1000, "")
	var workers []*lease.Registration
	for i := range 8 {
		workers = append(workers, cluster.join(fmt.Sprint("worker-", i), "live"))
	}
	do(t, tab, chromedp.Navigate(cluster.url))
	text(t, tab, "t-live", "1,000 / 1,000")
	text(t, tab, "troubles", "nothing is wrong")
	until(t, tab, "the tab's title says so", `document.title.startsWith('1,000/1,000 live · page-')`)
	until(t, tab, "the grid says so to who cannot see it", `document.getElementById('grid').ariaLabel === '1,000 shards: 1,000 live'`)
	until(t, tab, "plots", `document.querySelectorAll('figure svg polyline').length === 3`)
	until(t, tab, "what happens is told from here on", `samples.length > 0 && samples.at(-1).live === 1000`)

	died := time.Now()
	if err := workers[0].Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, tab, "the death is told", `/worker-0 is gone, with \d+ shards/.test(document.getElementById('incidents').textContent)`)
	t.Logf("the death was on the page %v later", time.Since(died).Round(10*time.Millisecond))
	until(t, tab, "its shards are others'", `document.getElementById('t-live').textContent === '1,000 / 1,000' && document.querySelectorAll('#workers tr').length === 7`)

	asked := func() string {
		return find[string](t, tab, `document.getElementById('ask').open ? document.getElementById('ask-title').textContent : ''`)
	}
	for asked() != "Drain worker-1?" { // by mouse, which hits nothing, or another's, when what is told above moves the button
		if asked() != "" {
			do(t, tab, chromedp.Click("#ask-no"))
		}
		do(t, tab, chromedp.Click(`button[aria-label="Drain worker-1"]`))
	}
	do(t, tab, chromedp.Click("#ask-yes"))
	text(t, tab, "said", "ordered: drain worker-1")
	until(t, tab, "the worker drains", `[...document.querySelectorAll('#workers tr')].some(r => r.cells[0].textContent === 'worker-1 (draining)')`)
	until(t, tab, "moves are shown", `document.getElementById('moves').textContent.includes('worker-1 → worker-')`)

	// Nothing of it was asked of anybody but this coordinator.
	if foreign := find[int](t, tab, `performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin) && !e.name.startsWith('data:')).length`); foreign != 0 {
		t.Errorf("%d things were fetched from elsewhere", foreign)
	}
	for _, reg := range workers[1:] {
		if err := reg.Leave(t.Context()); err != nil {
			t.Error(err)
		}
	}
	until(t, tab, "what is wrong is first", `document.getElementById('troubles').textContent.startsWith('critical: no worker is there to run 1000 shards')`)
	until(t, tab, "the tab's title says so", `document.title.startsWith('⚠ 0/1,000 live')`)
}

// What others wrote into etcd is text on the page.
func TestPageTakesNothingForMarkup(t *testing.T) {
	t.Parallel()
	tab := tab(t)
	cluster := coordinate(t, 4, "")
	reg := cluster.join("worker-a", "live")
	if err := reg.Halt(t.Context(), lease.Halt{Reason: `<img src=x onerror="document.body.id='owned'">`}); err != nil {
		t.Fatal(err)
	}
	do(t, tab, chromedp.Navigate(cluster.url))
	until(t, tab, "the reason as it is", `document.getElementById('troubles').textContent.includes('<img src=x')`)
	if id := find[string](t, tab, `document.body.id`); id != "" {
		t.Errorf("the body is %q", id)
	}
}

// A page whose coordinator went away says so and looks so, and goes on when one is there again, without showing anything twice.
func TestPageWithoutItsCoordinator(t *testing.T) {
	t.Parallel()
	tab, cluster := sixteen(t, "live")
	text(t, tab, "link", "live, from one")

	// A connection that is dead without an error is given up.
	if gone := find[bool](t, tab, `((dead) => { heardAt = 0; giveUpSilent(); return dead.readyState === EventSource.CLOSED && source !== dead; })(source)`); !gone {
		t.Error("it is not given up")
	}
	text(t, tab, "link", "live, from one")

	stopped := find[float64](t, tab, `Date.now()`)
	cluster.stop()
	text(t, tab, "link", "not live")
	until(t, tab, "it is said plainly", `document.getElementById('lost').checkVisibility() && document.getElementById('lost').textContent.startsWith('Not live: one has not answered this page since ')`)
	until(t, tab, "it looks so", `document.body.classList.contains('stale') && document.title.startsWith('not live')`)
	do(t, tab, chromedp.Click("#o-rebalance"))
	until(t, tab, "an order is not taken for given", `document.getElementById('said').textContent.startsWith('not known whether it was ordered: rebalance')`)
	cluster.config.ID = "two"
	cluster.start()
	text(t, tab, "link", "live, from two")
	text(t, tab, "t-live", "16 / 16")
	until(t, tab, "it looks so", `!document.getElementById('lost').checkVisibility() && !document.body.classList.contains('stale') && document.title.startsWith('16/16')`)
	until(t, tab, "what is told is of the new one", fmt.Sprintf(`samples.length > 0 && samples.concat(happened).every(s => s.at >= %.0f)`, stopped))
	if at := find[[]float64](t, tab, `samples.map(s => s.at)`); !rising(at) {
		t.Errorf("samples are at %v", at)
	}
}

func rising(values []float64) bool {
	for i := 1; i < len(values); i++ {
		if values[i] <= values[i-1] {
			return false
		}
	}
	return true
}

// A large cluster: the grid is there, and an update does not keep the browser busy. How long it takes is told, not judged: machines differ.
func TestPageOfTenThousandShards(t *testing.T) {
	t.Parallel()
	tab := tab(t)
	cluster := coordinate(t, 10_000, "")
	for i := range 30 {
		cluster.join(fmt.Sprint("worker-", i), "live")
	}
	do(t, tab, chromedp.Navigate(cluster.url))
	text(t, tab, "t-live", "10,000 / 10,000")
	text(t, tab, "legend", "✓10,000 live ")
	if drawn := find[bool](t, tab, `cells.size >= 6 && document.getElementById('grid').clientHeight < 500 &&
		document.getElementById('grid').getContext('2d').getImageData(2, 2, 1, 1).data[3] === 255`); !drawn {
		t.Error("the grid is not drawn, or too large")
	}
	took := find[[]float64](t, tab, `[() => { shown = ''; }, () => {}].map(before => { before(); const from = performance.now(); show(); return performance.now() - from; })`)
	t.Logf("an update takes the browser %.1f ms, if no shard's state is another %.1f ms", took[0], took[1])
	if title := find[string](t, tab, `document.title`); !strings.HasPrefix(title, "10,000/10,000") {
		t.Errorf("the title is %q", title)
	}
}
