package worker

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

// fail reports what Discord refuses for good, to the whole fleet or to the leader, and then holds still.
func (r *runner) fail(ctx context.Context, fatal *shard.FatalError) {
	text := fatal.Error()
	r.board.trouble.Store(&text)
	r.log.Error("shard stopped for good", "error", fatal)
	r.in.worker.metrics.refusals.WithLabelValues(strconv.Itoa(fatal.Code)).Inc()
	at := time.Now().UTC()
	switch fatal.Scope() {
	case shard.ScopePlan:
		r.in.refuse(ctx, lease.Refusal{Generation: r.id.Generation, Shard: r.id.Shard, Code: fatal.Code, Reason: text, At: at})
	default:
		r.in.halt(ctx, lease.Halt{Reason: text, Shard: r.id.Shard, At: at})
	}
	<-ctx.Done()
}

// refuse has tellRefusals tell the leader.
func (in *incarnation) refuse(ctx context.Context, refusal lease.Refusal) {
	select {
	case in.refusals <- refusal:
	case <-ctx.Done():
	}
}

// tellRefusals writes the first refusal of each generation, for the leader to make a new plan: those of the other shards say
// nothing new.
func (in *incarnation) tellRefusals(life context.Context) error {
	told := map[int]bool{}
	for {
		select {
		case refusal := <-in.refusals:
			if told[refusal.Generation] {
				continue
			}
			told[refusal.Generation] = true
			in.tell(life, "refused number of shards could not be announced; trying again",
				func(ctx context.Context) error { return in.reg.Refuse(ctx, refusal) })
		case <-life.Done():
			return nil
		}
	}
}

// newRefusals has a series for each code from the beginning: Prometheus sees no increase in one that comes with its first refusal.
func newRefusals() *prometheus.CounterVec {
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_worker_refusals_total", Help: "Shards that Discord refused for good, by its close code.",
	}, []string{"code"})
	for code := 4000; code < 5000; code++ { // those of applications, as Discord's are (RFC 6455, 7.4.2)
		if fatal := (&shard.FatalError{Code: code}); fatal.Scope() != 0 {
			refusals.WithLabelValues(strconv.Itoa(code))
		}
	}
	return refusals
}
