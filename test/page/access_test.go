package page

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Whoever has only a keyboard gets to every control, sees where they are, and does with it what others do by mouse.
func TestPageByKeyboard(t *testing.T) {
	tab, _ := sixteen(t, "live")
	until(t, tab, "the worker", `document.querySelector('#workers button') !== null`)

	var reached []string
	for range 12 {
		do(t, tab, chromedp.KeyEvent(kb.Tab))
		at := find[[]string](t, tab, `(e => [e.id || e.ariaLabel || e.getAttribute('aria-labelledby') || e.tagName, getComputedStyle(e).outlineStyle])(document.activeElement)`)
		if at[0] != "BODY" && at[1] == "none" {
			t.Errorf("one does not see that %s has the focus", at[0])
		}
		reached = append(reached, at[0])
	}
	for _, want := range []string{"grid", "look", "h-incidents", "h-workers", "Drain worker-a", "o-rebalance", "o-reshard", "o-down"} { // there is nothing to bring up
		if !slices.Contains(reached, want) {
			t.Errorf("%s cannot be reached: %q", want, reached)
		}
	}

	do(t, tab, chromedp.Focus("#grid"), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.ArrowRight))
	text(t, tab, "shard", "shard 1: live, worker-a, epoch 1, heartbeat 41.5 ms")
	do(t, tab, chromedp.KeyEvent(kb.End))
	text(t, tab, "shard", "shard 15: live, worker-a, epoch 1, heartbeat 41.5 ms")
	do(t, tab, chromedp.SendKeys("#look", kb.Backspace+kb.Backspace+"99"))
	text(t, tab, "shard", "no such shard: there are those from 0 to 15")

	do(t, tab, chromedp.Focus("#o-down"), chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#ask"))
	if at := find[string](t, tab, `document.activeElement.id`); at != "ask-no" {
		t.Errorf("in the dialog the focus is on %q: Enter must not take the cluster down", at)
	}
	do(t, tab, chromedp.KeyEvent(kb.Escape), chromedp.WaitNotVisible("#ask"))
	if at := find[string](t, tab, `document.activeElement.id`); at != "o-down" {
		t.Errorf("after the dialog the focus is on %q", at)
	}
	if said := find[string](t, tab, `document.getElementById('said').textContent`); said != "" {
		t.Errorf("something was ordered: %s", said)
	}
}

// Whoever hears the page is told what others see: every control and region has a name, and states are words.
func TestPageForScreenReaders(t *testing.T) {
	t.Parallel()
	tab, _ := sixteen(t, "resuming")
	until(t, tab, "the worker and plots", `document.querySelector('#workers button') !== null && document.querySelectorAll('figure svg').length === 2`)
	text(t, tab, "legend", "R16 resuming 0-15")
	tree, err := chromedp.Run(tab, func(ctx context.Context, target *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, target, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	if err != nil {
		t.Fatal(err)
	}
	named := map[string][]string{}
	for _, node := range tree.Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		named[word(node.Role)] = append(named[word(node.Role)], word(node.Name))
	}
	for _, role := range []string{"button", "image", "spinbutton", "region", "meter", "columnheader", "table", "list"} {
		if role != "table" && role != "list" && slices.Contains(named[role], "") {
			t.Errorf("a %s has no name: %q", role, named[role])
		}
		if len(named[role]) == 0 {
			t.Errorf("there is no %s", role)
		}
	}
	for role, want := range map[string]string{
		"image": "16 shards: 16 resuming (0-15)", "button": "Drain worker-a", "meter": "16 shards for capacity 1", "spinbutton": "Look at shard",
		"region": "Workers", "columnheader": "orders", "heading": "What happened", "alert": "",
	} {
		if !slices.Contains(named[role], want) {
			t.Errorf("no %s is named %q: %q", role, want, named[role])
		}
	}
	if !slices.ContainsFunc(named["image"], func(name string) bool { return strings.HasPrefix(name, "slowest now ") }) {
		t.Errorf("the plots tell nothing: %q", named["image"])
	}
}

func word(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	return strings.Trim(string(v.Value), `"`)
}

// Words can be read on what they stand on (WCAG 2.2, 1.4.3: 4.5 to 1), in both colour schemes, and nothing moves.
func TestPageCanBeRead(t *testing.T) {
	t.Parallel()
	tab := tab(t)
	cluster := coordinate(t, 16, "")
	cluster.join("worker-a", "live")
	for _, scheme := range []string{"light", "dark"} {
		do(t, tab, func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			return chromedp.Void{}, err
		}, chromedp.Navigate(cluster.url))
		text(t, tab, "t-live", "16 / 16")
		for _, pair := range []string{
			"ink paper", "ink panel", "soft paper", "soft panel", "bad paper", "bad panel", "connecting panel", "accent panel", "paper ink",
			"on-live live", "paper resuming", "paper identifying", "paper connecting", "paper idle", "paper muted", "paper bad",
		} {
			on := strings.Fields(pair)
			contrast := find[float64](t, tab, fmt.Sprintf(`((a, b) => {
				const light = name => variable(name).replace(/^#(.)(.)(.)$/, '#$1$1$2$2$3$3').match(/[0-9a-f]{2}/g).map(h => parseInt(h, 16) / 255)
					.map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
				const [x, y] = [light(a), light(b)].sort((x, y) => x - y);
				return (y + .05) / (x + .05);
			})('--%s', '--%s')`, on[0], on[1]))
			if contrast < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f", scheme, on[0], on[1], contrast)
			}
		}
		if moving := find[int](t, tab, `document.getAnimations().length + [...document.querySelectorAll('*')].filter(e => getComputedStyle(e).transitionDuration !== '0s').length`); moving != 0 {
			t.Errorf("%d things move", moving)
		}
	}
	for _, width := range []int64{320, 390, 1920} {
		do(t, tab, chromedp.EmulateViewport(width, 800))
		until(t, tab, fmt.Sprintf("nothing is wider than %d pixels", width), `document.documentElement.scrollWidth <= innerWidth`)
	}
}
