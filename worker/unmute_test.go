package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-gateway/muster/pkg/shard"
)

// Of the shards that go from muted to live so many are at it at a time, each until it is live or for a while; and who has given up has no turn.
func TestTurnsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &incarnation{worker: &Worker{metrics: &metrics{}}, turns: make(chan struct{}, maxTurns)}
		began := make(chan *runner, 3*maxTurns)
		for range 3 * maxTurns {
			go func() {
				r := &runner{in: in}
				if r.takeTurn(t.Context()) == nil {
					began <- r
				}
			}()
		}
		expect := func(when string, n int) (have []*runner) {
			t.Helper()
			synctest.Wait()
			if len(began) != n {
				t.Fatalf("%s %d shards begin, want %d", when, len(began), n)
			}
			for range n {
				have = append(have, <-began)
			}
			return have
		}
		first := expect("at once", maxTurns)
		if err := first[0].takeTurn(t.Context()); err != nil { // has it already
			t.Error(err)
		}
		live := &attempt{runner: first[0], commands: &commandPump{queue: noCommands()}}
		live.observe(shard.Status{State: shard.StateResuming})
		expect("while the first resumes", 0)
		live.observe(shard.Status{State: shard.StateLive})
		first[1].leaveTurn()
		second := expect("when one is live and one has failed", 2)
		time.Sleep(maxTurn - time.Second)
		expect("before the others have had their time", 0)
		time.Sleep(time.Second)
		third := expect("when the others have had their time", maxTurns)
		first[2].leaveTurn() // that its time was over is no turn to give back twice
		expect("then", 0)

		reason := errors.New("reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(reason)
		if err := (&runner{in: in}).takeTurn(ctx); !errors.Is(err, reason) {
			t.Errorf("who gives up has %v", err)
		}
		for _, r := range append(second, third...) {
			r.leaveTurn()
		}
		for _, r := range expect("at last", maxTurns-2) {
			r.leaveTurn()
		}
	})
}
