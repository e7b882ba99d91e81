package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
)

// meter turns what the cluster reports into a line a second.
type meter struct {
	stack *devstack.Stack
	start time.Time

	at       time.Time
	sent     int64 // events by the simulated Discord
	appended int64

	counters map[string]api.Worker // the last of each worker's incarnation, dead ones too
}

func newMeter(stack *devstack.Stack) *meter {
	now := time.Now()
	return &meter{stack: stack, start: now, at: now, counters: map[string]api.Worker{}}
}

// line is one look at the cluster.
func (m *meter) line(ctx context.Context) string {
	now := time.Now()
	elapsed := now.Sub(m.at).Seconds()
	head := fmt.Sprintf("%4.0fs ", now.Sub(m.start).Seconds())
	view, err := m.stack.View(ctx)
	if err != nil {
		return head + " coordinator does not answer yet"
	}
	total := m.total(view)
	in, appended := total.EventsPerSecond, m.stack.Appended(ctx)
	if m.stack.Sim != nil {
		sent := m.stack.Sim.Stats().Dispatched
		in = float64(sent-m.sent) / elapsed
		m.sent = sent
	}
	rate := max(0, float64(appended-m.appended)) / elapsed // after a reshard the streams count anew
	m.at, m.appended = now, appended
	return fmt.Sprintf("%s shards %s | %s | events in %.0f/s, appended %.0f/s | identifies %d, resumes %d, gaps %d",
		head, shardsByState(view), owners(view), in, rate, total.Identifies, total.Resumes, total.Gaps)
}

// total adds up all workers there ever were.
func (m *meter) total(view *api.Cluster) (sum api.Worker) {
	for _, w := range view.Workers {
		sum.EventsPerSecond += w.EventsPerSecond
		m.counters[fmt.Sprintf("%s/%d", w.ID, w.Incarnation)] = w
	}
	for _, w := range m.counters {
		sum.Identifies += w.Identifies
		sum.Resumes += w.Resumes
		sum.Gaps += w.Gaps
	}
	return sum
}

// owners is, for instance, "worker-1 6, worker-2 5, worker-3 5".
func owners(view *api.Cluster) string {
	parts := make([]string, len(view.Workers))
	for i, w := range view.Workers {
		parts[i] = fmt.Sprintf("%s %d", w.ID, w.Shards)
	}
	if len(parts) == 0 {
		return "no workers"
	}
	return strings.Join(parts, ", ")
}
