//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/muster-gateway/muster/internal/child"
)

// reading is what a process counted so far: the sum of each metric over its labels; of a histogram its count, and under name_sum its sum.
type reading map[string]float64

// read asks a process for its metrics.
func read(ctx context.Context, p *child.Server) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	r := reading{}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			r.add(name, metric)
		}
	}
	return r, nil
}

func (r reading) add(name string, metric *dto.Metric) {
	r[name] += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + metric.GetUntyped().GetValue() +
		float64(metric.GetHistogram().GetSampleCount())
	if h := metric.GetHistogram(); h != nil {
		r[name+"_sum"] += h.GetSampleSum()
	}
}

// since is how much everything has grown.
func (r reading) since(before reading) reading {
	grown := reading{}
	for name, value := range r {
		grown[name] = value - before[name]
	}
	return grown
}

// mean is that of a histogram's samples, in milliseconds.
func (r reading) mean(name string) float64 {
	if r[name] == 0 {
		return 0
	}
	return 1000 * r[name+"_sum"] / r[name]
}

// measured is what a scene took of every part.
type measured struct {
	scene   string
	elapsed time.Duration
	etcd    reading
	leader  reading
	rss     reading // memory, now: by process
	workers time.Duration
	note    string
}

// lap measures a scene from its start to when it is called.
func (s *stage) lap(ctx context.Context) (done func(scene, note string) error, err error) {
	began, used := time.Now(), cpuTime()
	etcd, err1 := read(ctx, s.etcd)
	leader, err2 := read(ctx, s.leader())
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return func(scene, note string) error {
		elapsed := time.Since(began)
		etcdNow, err1 := read(ctx, s.etcd)
		leaderNow, err2 := read(ctx, s.leader())
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		m := measured{
			scene: scene, elapsed: elapsed, etcd: etcdNow.since(etcd), leader: leaderNow.since(leader), workers: cpuTime() - used, note: note,
			rss: reading{"etcd": etcdNow[memory], "leader": leaderNow[memory]},
		}
		s.table.add(m)
		s.say("%s: %s", scene, m)
		return nil
	}, nil
}
