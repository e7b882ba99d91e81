package worker

import (
	"context"
	"sync"

	"github.com/muster-gateway/muster/pkg/lease"
)

// planView is the plan as this incarnation knows it, for its shards.
type planView struct {
	mu      sync.Mutex
	plan    lease.Plan
	changed chan struct{} // closed, and replaced, when the plan changes
}

func newPlanView() *planView { return &planView{changed: make(chan struct{})} }

func (v *planView) get() lease.Plan {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.plan
}

func (v *planView) set(plan lease.Plan) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if plan != v.plan {
		v.plan = plan
		close(v.changed)
		v.changed = make(chan struct{})
	}
}

// await returns the plan when a generation is in force in it, or ctx's cause.
func (v *planView) await(ctx context.Context, generation int) (lease.Plan, error) {
	for {
		v.mu.Lock()
		plan, changed := v.plan, v.changed
		v.mu.Unlock()
		if plan.Generation == generation {
			return plan, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return lease.Plan{}, context.Cause(ctx)
		}
	}
}
