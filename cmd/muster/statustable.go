package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/muster-gateway/muster/internal/api"
)

// column is one of the table of workers.
type column struct {
	name string
	left bool // its text begins at the left
	cell func(api.Worker) string
}

var columns = []column{
	{"worker", true, workerName},
	{"zone", true, func(w api.Worker) string { return w.Zone }},
	{"shards", false, func(w api.Worker) string { return fmt.Sprint(w.Shards) }},
	{"events/s", false, func(w api.Worker) string { return fmt.Sprintf("%.0f", w.EventsPerSecond) }},
	{"KB/s", false, func(w api.Worker) string { return fmt.Sprintf("%.0f", w.BytesPerSecond/1024) }},
	{"buffered KB", false, func(w api.Worker) string { return fmt.Sprint(w.BufferedBytes / 1024) }},
	{"resumes", false, func(w api.Worker) string { return fmt.Sprint(w.Resumes) }},
	{"identifies", false, func(w api.Worker) string { return fmt.Sprint(w.Identifies) }},
	{"gaps", false, func(w api.Worker) string { return fmt.Sprint(w.Gaps) }},
}

// expendable are the columns to go where there is no room for all, the first first.
var expendable = []string{"resumes", "KB/s", "identifies", "zone", "buffered KB", "gaps"}

func workerName(w api.Worker) string {
	name := w.ID
	if w.Draining {
		name += " (draining)"
	}
	if w.RedisFailing {
		name += " (no Redis)"
	}
	return name
}

// printWorkers writes the table, no wider than the screen if that can be. Where nobody has a zone there is no column for it.
func printWorkers(w io.Writer, workers []api.Worker, s screen) error {
	shown := columns
	if !slices.ContainsFunc(workers, func(worker api.Worker) bool { return worker.Zone != "" }) {
		shown = without(shown, "zone")
	}
	for _, name := range expendable {
		if s.width == 0 || total(widthsOf(shown, workers)) <= s.width {
			break
		}
		shown = without(shown, name)
	}
	widths := widthsOf(shown, workers)
	head := row(shown, widths, func(c column) string { return c.name })
	if _, err := fmt.Fprintln(w, s.paint("2", head)); err != nil {
		return err
	}
	for _, worker := range workers {
		text := row(shown, widths, func(c column) string { return c.cell(worker) })
		switch {
		case worker.RedisFailing:
			text = s.paint("33", text)
		case worker.Draining:
			text = s.paint("36", text)
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

func without(all []column, name string) []column {
	return slices.DeleteFunc(slices.Clone(all), func(c column) bool { return c.name == name })
}

func widthsOf(shown []column, workers []api.Worker) []int {
	widths := make([]int, len(shown))
	for i, c := range shown {
		widths[i] = len([]rune(c.name))
		for _, worker := range workers {
			widths[i] = max(widths[i], len([]rune(c.cell(worker))))
		}
	}
	return widths
}

const between = 2 // spaces, of columns

func total(widths []int) int {
	sum := between * (len(widths) - 1)
	for _, width := range widths {
		sum += width
	}
	return sum
}

func row(shown []column, widths []int, cell func(column) string) string {
	cells := make([]string, len(shown))
	for i, c := range shown {
		width := widths[i]
		if c.left {
			width = -width
		}
		cells[i] = fmt.Sprintf("%*s", width, cell(c))
	}
	return strings.TrimRight(strings.Join(cells, strings.Repeat(" ", between)), " ")
}
