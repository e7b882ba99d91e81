package page

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const adminToken = "correct-horse-battery-staple"

// Where there is an admin token, an order asks for it, takes no other, and keeps it for as long as the page is open and nowhere else.
func TestPageAsksForTheAdminToken(t *testing.T) {
	t.Parallel()
	tab := tab(t)
	cluster := coordinate(t, 16, adminToken)
	cluster.join("worker-a", "live")
	cluster.join("worker-b", "live")
	open := func() {
		do(t, tab, chromedp.Navigate(cluster.url))
		text(t, tab, "t-live", "16 / 16")
	}
	give := func(token string) { // by keyboard: Enter is Go on, not Cancel
		do(t, tab, chromedp.WaitVisible("#ask-input"), chromedp.SendKeys("#ask-input", token+kb.Enter))
	}
	open()
	press(t, tab, `button[aria-label="Drain worker-a"]`)
	do(t, tab, chromedp.WaitVisible("#ask-yes"), chromedp.Click("#ask-yes"))
	text(t, tab, "ask-title", "Admin token")
	if kind := find[string](t, tab, `document.getElementById('ask-input').type`); kind != "password" {
		t.Errorf("the token is put into a field of type %q", kind)
	}
	give("wrong")
	text(t, tab, "ask-title", "That is not the admin token")
	give(adminToken)
	text(t, tab, "said", "ordered: drain worker-a")
	expectKeptNowhere(t, tab)
	until(t, tab, "the worker drains", `document.querySelector('#workers tr').cells[0].textContent === 'worker-a (draining)'`)

	// From then on it is not asked for.
	press(t, tab, `button[aria-label="Drain off: take the drain of worker-a back"]`)
	text(t, tab, "said", "ordered: take the drain of worker-a back")
	press(t, tab, "#o-rebalance")
	text(t, tab, "said", "ordered: rebalance")
	press(t, tab, "#o-reshard")
	do(t, tab, chromedp.WaitVisible("#ask-input"), chromedp.SetValue("#ask-input", "32"), chromedp.Click("#ask-yes"))
	text(t, tab, "said", "ordered: reshard to 32")
	until(t, tab, "it is under way", `document.getElementById('standing').checkVisibility() && document.getElementById('standing').textContent.includes('32 shards')`)
	text(t, tab, "o-reshard", "Abort the reshard…")

	// It is gone with the page, and who has none can leave it at that.
	open()
	press(t, tab, "#o-reshard")
	do(t, tab, chromedp.WaitVisible("#ask-yes"), chromedp.Click("#ask-yes"))
	text(t, tab, "ask-title", "Admin token")
	do(t, tab, chromedp.Click("#ask-no"))
	text(t, tab, "said", "not ordered: abort the reshard")
	text(t, tab, "o-reshard", "Abort the reshard…")
}

// expectKeptNowhere checks that the token is in no address, no store and nothing that the page has in its elements.
func expectKeptNowhere(t *testing.T, tab context.Context) {
	t.Helper()
	kept := find[string](t, tab, `JSON.stringify([location.href, document.referrer, document.cookie, {...localStorage}, {...sessionStorage}, history.state,
		performance.getEntries().map(e => e.name), [...document.querySelectorAll('input')].map(i => i.value)]) + document.documentElement.outerHTML`)
	if strings.Contains(kept, adminToken) {
		t.Errorf("the token is kept: %s", kept)
	}
}

// What the coordinator refuses is said in its words: here a change to the number of shards there is.
func TestPageTellsWhyAnOrderIsRefused(t *testing.T) {
	t.Parallel()
	tab, _ := sixteen(t, "live")
	press(t, tab, "#o-reshard")
	do(t, tab, chromedp.WaitVisible("#ask-input"), chromedp.Click("#ask-yes"))
	text(t, tab, "said", "not ordered: reshard to 16: the cluster has 16 shards already")
	press(t, tab, "#o-down")
	do(t, tab, chromedp.WaitVisible("#ask-yes"), chromedp.Click("#ask-yes"))
	text(t, tab, "said", "ordered: take the cluster down")
	until(t, tab, "it is down", `document.getElementById('o-down').disabled && document.getElementById('troubles').textContent.includes('down by order')`)
	press(t, tab, "#o-up")
	text(t, tab, "said", "ordered: bring the cluster up")
}
