package deploy

import (
	"regexp"
	"strings"
	"testing"

	autoscaling "k8s.io/api/autoscaling/v2"
	"sigs.k8s.io/yaml"
)

// adapterRule is a rule of prometheus-adapter, which makes a metric for the autoscaler out of a series.
type adapterRule struct {
	SeriesQuery string `json:"seriesQuery"`
	Resources   struct {
		Overrides map[string]struct {
			Resource string `json:"resource"`
		} `json:"overrides"`
	} `json:"resources"`
	Name struct {
		Matches string `json:"matches"`
		As      string `json:"as"`
	} `json:"name"`
	MetricsQuery string `json:"metricsQuery"`
}

// series is what the rule is about.
func (r adapterRule) series() string {
	name, _, _ := strings.Cut(r.SeriesQuery, "{")
	return name
}

// metric is what it is called for the autoscaler.
func (r adapterRule) metric(t *testing.T) string {
	if r.Name.Matches == "" {
		return r.series()
	}
	pattern, err := regexp.Compile(r.Name.Matches)
	if err != nil || !pattern.MatchString(r.series()) {
		t.Errorf("the rule for %s does not match it: %v", r.series(), err)
		return ""
	}
	return pattern.ReplaceAllString(r.series(), r.Name.As)
}

// TestAutoscaler follows every metric that the autoscaler asks for through the adapter's rules to what a worker really serves.
func TestAutoscaler(t *testing.T) {
	m := load(t, "everything")
	p := m.workload(t, "muster-worker")
	served := programOf(t, "worker").alone(t, p.main().Args, m.env(t, p))

	var values struct {
		Rules struct {
			Custom []adapterRule `json:"custom"`
		} `json:"rules"`
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, "k8s/components/autoscaling/prometheus-adapter.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	offered := map[string]bool{}
	for _, rule := range values.Rules.Custom {
		if !strings.Contains(served, "\n"+rule.series()+"{") && !strings.Contains(served, "\n"+rule.series()+" ") {
			t.Errorf("workers do not serve %s", rule.series())
		}
		if strings.HasSuffix(rule.series(), "_total") != strings.Contains(rule.MetricsQuery, "rate(") {
			t.Errorf("%s: a counter has a rate, and a gauge none: %s", rule.series(), rule.MetricsQuery)
		}
		for _, label := range []string{"namespace", "pod"} {
			if rule.Resources.Overrides[label].Resource != label || !strings.Contains(rule.SeriesQuery, label+`!=""`) {
				t.Errorf("%s is not told apart by %s", rule.series(), label)
			}
		}
		offered[rule.metric(t)] = true
	}
	scalers := objectsOf[*autoscaling.HorizontalPodAutoscaler](m)
	if len(scalers) != 1 || scalers[0].Spec.ScaleTargetRef.Name != p.owner || scalers[0].Spec.ScaleTargetRef.Kind != "Deployment" {
		t.Fatalf("not one autoscaler of the workers: %+v", scalers)
	}
	if p.replicas != nil {
		t.Error("the number of workers is also set by hand, so that every apply would undo what the autoscaler did")
	}
	if len(scalers[0].Spec.Metrics) != 2 {
		t.Errorf("scales by %d metrics", len(scalers[0].Spec.Metrics))
	}
	for _, metric := range scalers[0].Spec.Metrics {
		if metric.Pods == nil || !offered[metric.Pods.Metric.Name] || metric.Pods.Target.AverageValue == nil {
			t.Errorf("nobody offers %+v", metric)
		}
	}
}
