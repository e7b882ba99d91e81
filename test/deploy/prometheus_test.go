package deploy

import (
	"cmp"
	"log/slog"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// Prometheus' own parser and engine, on series that a test writes down in the notation of promtool's tests.

// scrapeEvery is how far apart the values of a series are, and how often rules are evaluated.
const scrapeEvery = 30 * time.Second

var promQL = parser.NewParser(parser.Options{})

// alertRules are the rules by name, as Prometheus reads the file: expressions and templates parse, and no name is there twice.
func alertRules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	file, errs := rulefmt.Parse([]byte(read(t, "k8s/monitoring/alerts.yaml")), false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Fatal(err)
	}
	rules := map[string]rulefmt.Rule{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules[rule.Alert] = rule
		}
	}
	return rules
}

// firing is an alert that fires.
type firing struct {
	after   time.Duration // from the first value of the series on
	summary string
}

// fire evaluates a rule on the series for half an hour, as Prometheus does, and returns when it first fires, or nil.
func fire(t *testing.T, rule rulefmt.Rule, series ...string) *firing {
	t.Helper()
	data := parseSeries(t, series)
	engine := promql.NewEngine(promql.EngineOpts{Parser: promQL, MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute})
	defer engine.Close()
	var since map[string]time.Duration // by labels: when the expression began to have this result
	for now := time.Duration(0); now <= 30*time.Minute; now += scrapeEvery {
		query, err := engine.NewInstantQuery(t.Context(), data, nil, rule.Expr, time.UnixMilli(now.Milliseconds()))
		if err != nil {
			t.Fatal(err)
		}
		result := query.Exec(t.Context())
		vector, err := result.Vector()
		if err != nil {
			t.Fatalf("%s: %v", rule.Alert, err)
		}
		still := map[string]time.Duration{}
		for _, sample := range vector {
			key := sample.Metric.String()
			still[key] = now
			if began, active := since[key]; active {
				still[key] = began
			}
			if now-still[key] >= time.Duration(rule.For) {
				return &firing{now, summary(t, rule, sample)}
			}
		}
		since = still
		query.Close()
	}
	return nil
}

// summary is what people read of an alert.
func summary(t *testing.T, rule rulefmt.Rule, sample promql.Sample) string {
	t.Helper()
	const defs = "{{$labels := .Labels}}{{$value := .Value}}"
	expander := template.NewTemplateExpander(t.Context(), defs+rule.Annotations["summary"], rule.Alert,
		template.AlertTemplateData(sample.Metric.Map(), nil, "", sample), 0, nil, &url.URL{}, nil)
	text, err := expander.Expand()
	if err != nil {
		t.Fatalf("%s: %v", rule.Alert, err)
	}
	return text
}

// scraped are series, as a storage that can be queried.
type scraped []storage.Series

func parseSeries(t *testing.T, descriptions []string) (all scraped) {
	t.Helper()
	for _, description := range descriptions {
		metric, values, err := promQL.ParseSeriesDesc(description)
		if err != nil {
			t.Fatalf("%s: %v", description, err)
		}
		var samples []chunks.Sample
		for i, v := range values {
			if !v.Omitted {
				samples = append(samples, sample{int64(i) * scrapeEvery.Milliseconds(), v.Value})
			}
		}
		all = append(all, storage.NewListSeries(metric, samples))
	}
	return all
}

func (s scraped) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		var found scraped
		for _, series := range s {
			if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(series.Labels().Get(m.Name)) }) {
				found = append(found, series)
			}
		}
		slices.SortFunc(found, func(a, b storage.Series) int { return cmp.Compare(a.Labels().String(), b.Labels().String()) })
		return &seriesSet{rest: found}
	}}, nil
}

// seriesSet is a storage.SeriesSet.
type seriesSet struct {
	rest    scraped
	current storage.Series
}

func (s *seriesSet) Next() bool {
	if len(s.rest) == 0 {
		return false
	}
	s.current, s.rest = s.rest[0], s.rest[1:]
	return true
}

func (s *seriesSet) At() storage.Series              { return s.current }
func (*seriesSet) Err() error                        { return nil }
func (*seriesSet) Warnings() annotations.Annotations { return nil }

// sample is a value at a moment, in milliseconds.
type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                    { return s.at }
func (s sample) ST() int64                   { return 0 }
func (s sample) F() float64                  { return s.value }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }
