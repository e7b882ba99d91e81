package model

import (
	"testing"
	"testing/synctest"
	"time"
)

// A cluster of a thousand shards, of which none has a session, is live within 5 % of the time that Discord's limits take: from the start of
// its processes to the last READY, through the election, the plan, every slot claimed in etcd and every IDENTIFY, by the code that does it
// in earnest, and with all that the witness watches.
func TestColdStart(t *testing.T) {
	if testing.Short() {
		t.Skip("not run: a first start of a thousand shards, which takes half a minute with the race detector; run without -short")
	}
	const shards, concurrency = 1000, 16
	const ideal = (shards + concurrency - 1) / concurrency * identifyWindow
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		w := newWorld(t, setup{Shards: shards, Concurrency: concurrency, Workers: mostWorkers, Budget: 1200, Bare: true})
		for w.witness.happened()["identify"] < shards && time.Since(began) < 2*ideal {
			time.Sleep(10 * time.Millisecond)
		}
		w.await("shards that are live", w.unready)
		took, identifying := time.Since(began), w.witness.identifying()
		w.end()
		for _, wrong := range w.witness.found() {
			t.Error(wrong)
		}
		t.Logf("live after %v, %.4f of %v; %v from the first IDENTIFY to the last, %.4f of %v", took, float64(took)/float64(ideal), ideal,
			identifying, float64(identifying)/float64(ideal-identifyWindow), ideal-identifyWindow)
		if took > ideal*105/100 || w.witness.happened()["identify"] != shards {
			t.Errorf("it took %v", w.witness.happened())
		}
	})
}
