package rules

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/pkg/stream"
	"github.com/muster-gateway/muster/worker"
)

const metricsFile = "../../docs/metrics.md"

const metricsHead = `# Metrics

<!-- Written by make metrics, from what the binaries register; a test holds it to them. -->

Coordinators and workers serve these at ` + "`/metrics`" + `, beside Go's and the process's own (` + "`go_*`, `process_*`" + `). Names are stable: one is not changed or taken away without a line in
the changelog. No metric has a label for each shard, guild or user, so the number of series does not grow with the bot. Every coordinator replica shows ` + "`muster_cluster_*`" + ` and
` + "`muster_identify_*`" + `, as it reads them in etcd: take the maximum over replicas, not the sum. [k8s/monitoring](../k8s/monitoring) has a dashboard and alert rules made of them.
`

// metric is one that a binary registers.
type metric struct{ name, kind, labels, help string }

var descForm = regexp.MustCompile(`(?s)^Desc\{fqName: "([^"]*)", help: "(.*?)"(?:, unit: "[^"]*")?, constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// registered are the metrics of a registry, and whether one has a value or not yet.
func registered(t *testing.T, registry *prometheus.Registry) map[string]metric {
	t.Helper()
	kinds := map[string]string{}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	descs := make(chan *prometheus.Desc)
	go func() { registry.Describe(descs); close(descs) }()
	all := map[string]metric{}
	for desc := range descs {
		parts := descForm.FindStringSubmatch(desc.String())
		if parts == nil {
			t.Errorf("cannot be read: %s", desc)
			continue
		}
		m := metric{name: parts[1], help: strings.ReplaceAll(parts[2], `\"`, `"`), kind: kinds[parts[1]], labels: labelsOf(parts[3], parts[4])}
		if !strings.HasPrefix(m.name, "muster_") {
			continue
		}
		if m.kind == "" { // it has no value before something happens
			m.kind = "gauge"
			if strings.HasSuffix(m.name, "_total") {
				m.kind = "counter"
			}
		}
		all[m.name] = m
	}
	return all
}

func labelsOf(constant, variable string) string {
	var names []string
	for _, pair := range strings.Split(constant, ",") {
		if name, _, ok := strings.Cut(pair, "="); ok {
			names = append(names, name)
		}
	}
	for _, name := range strings.Split(variable, ",") {
		if name != "" {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// everyMetric is what both binaries register.
func everyMetric(t *testing.T) (ofCoordinator, ofWorker map[string]metric) {
	client, err := stream.Open("redis://127.0.0.1:1/0") // which nobody asks anything
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	log := hclog.NewNullLogger()
	return registered(t, coordinator.New(coordinator.Config{Logger: log}).Metrics()),
		registered(t, worker.New(worker.Config{Cluster: "rules", Redis: client, StreamMaxLen: 1, Logger: log}).Metrics())
}

// TestMetricsPage: docs/metrics.md lists what the binaries serve, and names have the form that Prometheus' own guide asks for.
func TestMetricsPage(t *testing.T) {
	ofCoordinator, ofWorker := everyMetric(t)
	want := metricsHead
	for _, binary := range []struct {
		title   string
		metrics map[string]metric
	}{{"Coordinator", ofCoordinator}, {"Worker", ofWorker}} {
		want += fmt.Sprintf("\n## %s\n\n| metric | kind | labels | meaning |\n|---|---|---|---|\n", binary.title)
		for _, name := range slices.Sorted(maps.Keys(binary.metrics)) {
			m := binary.metrics[name]
			if (m.kind == "counter") != strings.HasSuffix(name, "_total") {
				t.Errorf("%s is a %s: a counter's name ends in _total, and no other's", name, m.kind)
			}
			want += fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, m.kind, m.labels, m.help)
		}
	}
	if *update {
		if err := os.WriteFile(metricsFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the binaries serve: run make metrics", metricsFile)
	}
}

var metricName = regexp.MustCompile(`\bmuster_(?:cluster|coordinator|worker|identify)_[a-z0-9_]+`)

// TestMetricsThatAreNamedExist: dashboards, alerts, manifests and pages name no metric that nobody serves.
func TestMetricsThatAreNamedExist(t *testing.T) {
	ofCoordinator, ofWorker := everyMetric(t)
	named := 0
	for _, pattern := range []string{"../../docs/*.md", "../../README.md", "../../k8s/*/*", "../../k8s/*/*/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // a directory
			}
			for _, name := range metricName.FindAllString(string(text), -1) {
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					name = strings.TrimSuffix(name, suffix)
				}
				named++
				if base, ok := strings.CutSuffix(name, "_per_second"); ok { // what an adapter makes of a counter, for an autoscaler
					name = base + "_total"
				}
				if ofCoordinator[name].name == "" && ofWorker[name].name == "" && !strings.HasSuffix(name, "_") {
					t.Errorf("%s names %s, which neither binary serves", file, name)
				}
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d metrics are named: are the files still read?", named)
	}
}
