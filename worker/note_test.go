package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/stream"
)

// A worker that has not heard of the flip notes nothing after it: what its sessions have since, the former generation may not have.
func TestNoteNothingAfterTheFlip(t *testing.T) {
	store, err := lease.Open(lease.Config{Endpoints: etcd.Endpoints(), Cluster: fmt.Sprintf("c%d", clusters.Add(1))})
	must(t, err)
	t.Cleanup(func() { _ = store.Close() })
	term, err := store.Campaign(t.Context(), "leader")
	must(t, err)
	t.Cleanup(term.Resign)
	client, err := stream.Open(redistest.Start(t).URL())
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })

	plan := lease.Plan{Generation: 1, Shards: 1, RangeSize: 1}
	plan.Revision, err = term.SetPlan(t.Context(), plan)
	must(t, err)
	plan, err = term.Prepare(t.Context(), plan, lease.Cut{Generation: 2, Shards: 2, RangeSize: 1}, nil)
	must(t, err)

	m := newMuted()
	in := m.in
	in.worker.cfg = Config{Store: store, Redis: client, Cluster: "test"}
	in.log, in.board, in.plan = hclog.NewNullLogger(), newBoard(), newPlanView()
	in.plan.set(plan)
	m.id = lease.ShardID{Generation: 2, Shard: 1}
	m.setEpoch(3)
	m.began, m.base = time.Now().Add(-time.Minute), 1
	m.board.muted.Store(m)
	in.board.add(m.runner)
	note := func(seq int64) (noted int64) {
		t.Helper()
		m.trail = []point{{time.Now().Add(-2 * overlap), seq}}
		must(t, in.noteOnce(t.Context()))
		noted, err := stream.ReadMuted(t.Context(), client, "test", 1, 2, 3)
		must(t, err)
		return noted
	}
	if m.isNoted() {
		t.Error("it is ready without a note")
	}
	if got := note(17); got != 17 || !m.isNoted() {
		t.Errorf("noted is %d, ready %v", got, m.isNoted())
	}
	_, err = term.Flip(t.Context(), plan, nil)
	must(t, err)
	if got := note(18); got != 17 {
		t.Errorf("after the flip noted is %d", got)
	}
}
