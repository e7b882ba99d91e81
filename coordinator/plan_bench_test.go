package coordinator

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// BenchmarkPlan makes single decisions for 100,000 shards, in 6,250 ranges of 16, on 1,000 workers.
func BenchmarkPlan(b *testing.B) {
	for _, c := range []struct {
		name string
		make func(h *history)
	}{
		{"steady", func(*history) {}},
		{"steady-skewed", func(h *history) { h.skew(0.2) }},
		{"first-assignment", func(h *history) { clear(h.s.ranges) }},
		{"first-assignment-in-zones", func(h *history) {
			clear(h.s.ranges)
			for id, w := range h.s.workers {
				w.Zone = id[len(id)-1:]
				h.s.workers[id] = w
			}
		}},
		{"300-dead", func(h *history) { h.kill(300) }},
		{"300-dead-skewed", func(h *history) { h.skew(1); h.kill(300) }},
		{"all-restarted", func(h *history) {
			for id := range h.s.workers {
				h.join(id, 1)
			}
		}},
		{"skewed", func(h *history) { h.skew(1) }},
		{"one-zone-of-three-draining", func(h *history) {
			for id := range h.s.workers {
				if id[len(id)-1] < '3' {
					h.drain(id)
				}
			}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := largeHistory(b)
			c.make(h)
			h.s.observe(h.state(), h.s.now)
			b.ReportAllocs()
			var d decision
			for b.Loop() {
				d = plan(h.s)
			}
			b.ReportMetric(float64(len(d.actions)), "actions")
		})
	}
}

// BenchmarkSettle lets 1,000 workers with 100,000 shards settle. It tells how many moves that took, and how many no planner could do without that
// brings every worker as near to the mean; until when the last was begun, if a handover takes no time; how long the slowest decision took; and how
// uneven the load is in the end: how many workers are outside the band, and the most utilised of those that have more than one range, in parts of
// the mean. (A range that is larger than a worker's share cannot be made smaller.)
func BenchmarkSettle(b *testing.B) {
	for _, c := range []struct {
		name string
		make func(h *history)
	}{
		{"skewed-a-little", func(h *history) { h.skew(0.5) }},
		{"skewed", func(h *history) { h.skew(1) }},
		{"a-tenth-ten-times-as-busy", func(h *history) { h.hot(10, 10) }},
		{"one-in-a-hundred-fifty-times-as-busy", func(h *history) { h.hot(100, 50) }},
		{"300-join-700", func(h *history) {
			h.kill(300)
			h.settle(b)
			h.s.now = h.s.now.Add(time.Hour)
			for i := range 300 {
				h.join(fmt.Sprintf("w%04d", i), 1)
			}
		}},
		{"one-joins", func(h *history) { h.join("new", 1) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				h := largeHistory(b)
				c.make(h)
				h.decide(b)
				before := newMirror(h.s)
				moves, took, slowest := h.settleTimed()
				m := newMirror(h.s)
				ranges, outside, worst := h.owned(), 0, 0.0
				for _, id := range m.fit {
					if math.Abs(m.used(id)-m.mean()) > stopBand*m.mean() {
						outside++
					}
					if ranges[id] > 1 {
						worst = max(worst, m.used(id))
					}
				}
				b.ReportMetric(float64(moves), "moves")
				b.ReportMetric(float64(leastMoves(before, m)), "least-moves")
				b.ReportMetric(took.Seconds(), "virtual-s")
				b.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-ms")
				b.ReportMetric(float64(outside), "outside")
				b.ReportMetric(worst/m.mean(), "max/mean")
			}
		})
	}
}

// skew gives the ranges rates about 50 events a second for each shard, distributed log-normally.
func (h *history) skew(sigma float64) {
	random := rand.New(rand.NewPCG(1, 2))
	h.measure(func(int) float64 { return 800 * math.Exp(sigma*random.NormFloat64()-sigma*sigma/2) })
}

// hot makes one range of so many so many times as busy as the others.
func (h *history) hot(of int, times float64) {
	random := rand.New(rand.NewPCG(1, 2))
	h.measure(func(int) float64 {
		if random.IntN(of) == 0 {
			return 160 * times
		}
		return 160
	})
}

func (h *history) measure(rate func(index int) float64) {
	for index := range h.s.plans[0].Ranges() {
		h.rates[lease.RangeID{Generation: 1, Index: index}] = rate(index)
	}
	h.s.sampled = time.Time{}
}

func (h *history) kill(n int) {
	for i := range n {
		delete(h.s.workers, fmt.Sprintf("w%04d", i))
	}
}

// settleTimed is settle, unchecked, with every handover done by the next decision.
func (h *history) settleTimed() (moves int, took, slowest time.Duration) {
	for began := h.s.now; ; {
		h.s.observe(h.state(), h.s.now)
		start := time.Now()
		d := plan(h.s)
		slowest = max(slowest, time.Since(start))
		h.s.note(d, h.s.now)
		for _, a := range d.actions {
			if a.Kind == lease.Intend {
				moves++
				took = h.s.now.Sub(began)
			}
			h.s.ranges[a.Range.ID] = lease.Range{ID: a.Range.ID, Owner: a.To, Fence: h.revision()}
		}
		if len(d.actions) > 0 {
			continue
		}
		if d.again.IsZero() {
			return moves, took, slowest
		}
		h.s.now = d.again
	}
}

// leastMoves is how many moves it takes at least to bring every worker into the band, or as near to it as it is in the end: to take the
// heaviest ranges of those above until they are, and to give the heaviest of all to those below; whichever are more.
func leastMoves(before, after *mirror) int {
	mean := before.mean()
	var all []float64
	of := map[string][]float64{}
	for id := range before.all() {
		all = append(all, before.weigh(id))
		of[before.heirs[id]] = append(of[before.heirs[id]], before.weigh(id))
	}
	slices.Sort(all)
	over, under := 0, 0
	for _, id := range before.fit {
		most, least := max((1+stopBand)*mean, after.used(id)), min((1-stopBand)*mean, after.used(id))
		slices.Sort(of[id])
		weight, capacity := before.weight[id], before.capacity(id)
		for i := len(of[id]) - 1; i >= 0 && weight/capacity > 1.0001*most; i-- {
			weight -= of[id][i]
			over++
		}
		weight = before.weight[id]
		for i := len(all) - 1; i >= 0 && weight/capacity < 0.9999*least; i-- {
			weight += all[i]
			under++
		}
	}
	return max(over, under)
}
