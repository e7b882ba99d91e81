//go:build unix

package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// reference is the client that ratios are to.
const reference = "ideal"

// measured is what came out of a run.
type measured struct {
	result
	latencies latencies // of a paced run
}

func (m measured) String() string {
	text := fmt.Sprintf("%.0f k/s, %.2f µs, Redis %.2f µs an event", m.rate()/1000, m.cpu(), m.redisCPU())
	if m.latencies != nil {
		text += fmt.Sprintf(", p50 %.2f ms, p99 %.2f ms", m.p50(), m.p99())
	}
	return text
}

func (m measured) p50() float64 { return millis(m.latencies.at(0.50)) }
func (m measured) p99() float64 { return millis(m.latencies.at(0.99)) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// setting is what clients are compared in.
type setting struct {
	shards    int
	transport string
	rate      int // of each shard, 0 for saturated
}

// table has a measurement for each client, setting and round.
type table struct {
	settings []setting
	clients  []string // the reference first
	cells    map[cell]map[int]measured
}

type cell struct {
	setting setting
	client  string
}

func newTable() *table { return &table{cells: map[cell]map[int]measured{}} }

func (t *table) add(round int, s spec, m measured) {
	c := cell{setting{s.Shards, s.Transport, s.Rate}, s.Client}
	if t.cells[c] == nil {
		t.cells[c] = map[int]measured{}
	}
	t.cells[c][round] = m
	if !slices.Contains(t.settings, c.setting) {
		t.settings = append(t.settings, c.setting)
	}
	if !slices.Contains(t.clients, c.client) {
		t.clients = append(t.clients, c.client)
	}
}

// column is one figure of a run.
type column struct {
	name   string
	format string
	value  func(measured) float64
}

var (
	saturatedColumns = []column{
		{"kev/s", "%.0f", func(m measured) float64 { return m.rate() / 1000 }},
		{"CPU µs", "%.2f", measured.cpu},
		{"Redis µs", "%.2f", measured.redisCPU},
		{"allocations", "%.2f", measured.mallocs},
	}
	pacedColumns = []column{
		{"p50 ms", "%.2f", measured.p50},
		{"p99 ms", "%.2f", measured.p99},
		{"CPU µs", "%.1f", measured.cpu},
		{"Redis µs", "%.1f", measured.redisCPU},
	}
)

// print writes a table of all saturated runs and one of all paced ones, in Markdown.
func (t *table) print(w io.Writer) {
	t.printPart(w, "As fast as it goes", saturatedColumns, func(s setting) bool { return s.rate == 0 })
	t.printPart(w, "Paced", pacedColumns, func(s setting) bool { return s.rate > 0 })
	fmt.Fprintf(w, "\nEach figure is an event's or a run's, the median of the rounds [least–most]; × is the median of its ratios to %s in the same round.\n", reference)
}

func (t *table) printPart(w io.Writer, title string, columns []column, belongs func(setting) bool) {
	head, rule := "| "+title+" | client |", "|---|---|"
	for _, c := range columns {
		head += fmt.Sprintf(" %s | × |", c.name)
		rule += "---|---|"
	}
	rows := []string{head, rule}
	for _, s := range t.settings {
		for _, client := range t.clients {
			rounds := t.cells[cell{s, client}]
			if !belongs(s) || len(rounds) == 0 {
				continue
			}
			row := fmt.Sprintf("| %s | %s |", s, client)
			for _, c := range columns {
				row += fmt.Sprintf(" %s | %s |", t.values(rounds, c), t.ratios(rounds, t.cells[cell{s, reference}], c))
			}
			rows = append(rows, row)
		}
	}
	if len(rows) > 2 {
		fmt.Fprintf(w, "\n%s\n", strings.Join(rows, "\n"))
	}
}

func (s setting) String() string {
	text := fmt.Sprintf("%s, %s", count(s.shards, "shard"), strings.TrimSuffix(s.transport, "-stream"))
	if s.rate > 0 {
		text += fmt.Sprintf(", %d ev/s each", s.rate)
	}
	return text
}

func (t *table) values(rounds map[int]measured, c column) string {
	var all []float64
	for _, m := range rounds {
		all = append(all, c.value(m))
	}
	return spread(c.format, all)
}

// ratios are those of a client to the reference, each within a round.
func (t *table) ratios(rounds, reference map[int]measured, c column) string {
	var all []float64
	for round, m := range rounds {
		if r, ok := reference[round]; ok {
			all = append(all, c.value(m)/c.value(r))
		}
	}
	if len(all) == 0 {
		return "–"
	}
	return spread("%.2f", all)
}

// spread is the median and, in brackets, what lies around it.
func spread(format string, all []float64) string {
	slices.Sort(all)
	n := len(all)
	median := (all[(n-1)/2] + all[n/2]) / 2
	if n == 1 {
		return fmt.Sprintf(format, median)
	}
	return fmt.Sprintf(format+" ["+format+"–"+format+"]", median, all[0], all[n-1])
}
