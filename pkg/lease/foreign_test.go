package lease

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// In a cluster of two versions, what the newer one adds to a record survives the older one's writing it back.
func TestUnknownFieldsAreKept(t *testing.T) {
	const news = `"colour":{"a":[1,2]},"size":9007199254740993`
	for name, c := range map[string]struct {
		key     func(keys) string
		prepare func(*world)
		rewrite func(*world) error
	}{
		"plan": {keys.plan, func(*world) {}, func(w *world) error {
			w.plan.GatewayURL = "wss://other"
			_, err := w.term.SetPlan(w.t.Context(), w.plan)
			return err
		}},
		"budget, when slots are opened": {keys.budget, (*world).requested, (*world).open},
		"request that is granted":       {func(k keys) string { return k.request("a", theShard) }, (*world).requested, (*world).open},
		"slot that is void": {func(k keys) string { return k.slot(1) }, (*world).granted, func(w *world) error {
			_, err := w.term.VoidSlot(w.t.Context(), w.slot, w.budget)
			return err
		}},
		"reshard that is refused": {
			func(k keys) string { return k.directive(nameReshard) },
			func(w *world) { must(w.t, w.s.Direct(w.t.Context(), Reshard{Shards: 8})) },
			func(w *world) error {
				return w.term.RefuseReshard(w.t.Context(), *state(w.t, w.s).Directives.Reshard, "test")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.prepare(w)
			key := c.key(w.s.keys)
			w.write(key, withNews(w, key, news))
			w.look()
			must(t, c.rewrite(w))
			if got := w.read(key); !strings.Contains(got, news) {
				t.Errorf("written back without what another version added: %s", got)
			}
		})
	}
}

func (w *world) open() error {
	_, err := w.term.OpenSlots(w.t.Context(), w.budget, Grant{w.request, theRange, w.slot})
	return err
}

func withNews(w *world, key, news string) string {
	return strings.TrimSuffix(w.read(key), "}") + "," + news + "}"
}

func (w *world) read(key string) string {
	resp, err := w.s.client.Get(w.t.Context(), key, clientv3.WithLimit(1))
	must(w.t, err)
	return string(resp.Kvs[0].Value)
}
