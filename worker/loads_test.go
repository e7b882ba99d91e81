package worker

import (
	"encoding/json"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/lease"
)

// A range's rate is that of all its shards, over a window in which all of them were live from beginning to end.
func TestLoads(t *testing.T) {
	one, two := lease.RangeID{Generation: 1, Index: 1}, lease.RangeID{Generation: 1, Index: 2}
	inRange := func(id lease.RangeID) *runner { return &runner{own: lease.Ownership{Range: id}} }
	a, b, c := inRange(one), inRange(one), inRange(two)
	start := time.Now()
	l := loads{from: start}
	for i, step := range []struct {
		tallies map[*runner]tally
		want    map[lease.RangeID]float64
	}{
		{map[*runner]tally{a: {1000, true}, b: {1000, true}, c: {1000, true}}, nil}, // since when they run nobody knows
		{map[*runner]tally{a: {2000, true}, b: {1500, true}, c: {1000, true}}, map[lease.RangeID]float64{one: 150, two: 0}},
		{map[*runner]tally{a: {2500, true}, b: {1500, false}, c: {1012, true}}, map[lease.RangeID]float64{two: 1.2}},
		{map[*runner]tally{a: {3000, true}, b: {1600, true}, c: {1012, true}}, map[lease.RangeID]float64{two: 0}}, // b was not live at the beginning
		{map[*runner]tally{a: {3500, true}, b: {1700, true}}, map[lease.RangeID]float64{one: 60}},
		{map[*runner]tally{}, nil},
	} {
		l.measure(start.Add(time.Duration(i+1)*10*time.Second), step.tallies)
		if !maps.Equal(l.perSecond, step.want) {
			t.Errorf("window %d: %v, want %v", i+1, l.perSecond, step.want)
		}
	}
}

func TestLoadsAreMeasuredOnceInAWindow(t *testing.T) {
	b, start := newBoard(), time.Now()
	l := loads{from: start}
	l.at(start.Add(loadWindow-1), b)
	if !l.from.Equal(start) {
		t.Error("measured too early")
	}
	if l.at(start.Add(loadWindow), b); !l.from.Equal(start.Add(loadWindow)) {
		t.Error("not measured when a window has passed")
	}
}

func TestTwoDigits(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.04: "0", 0.06: "0.1", 0.123: "0.12", 1.27: "1.3", 9.96: "10", 34.4: "34", 345: "350", 12345: "12000", 0.099: "0.1",
	} {
		if got, err := json.Marshal(twoDigits(x)); err != nil || string(got) != want {
			t.Errorf("%v is written as %s, want %s (%v)", x, got, want, err)
		}
	}
	for x := 0.1; x < 1e9; x *= 1.37 {
		if got, _ := json.Marshal(twoDigits(x)); math.Abs(twoDigits(x)-x) > 0.05*x || len(got) > 10 {
			t.Errorf("%v is written as %s", x, got)
		}
	}
}

// What a worker of 100 shards reports is small: etcd writes it down for a thousand of them.
func TestReportIsSmall(t *testing.T) {
	status := lease.Status{Shards: map[int]lease.ShardStatus{}, Loads: map[lease.RangeID]float64{}}
	for shard := range 100 {
		status.Shards[99_000+shard] = lease.ShardStatus{Generation: 12, State: "live", Epoch: 345, LatencyMS: 123.456}
		status.Loads[lease.RangeID{Generation: 12, Index: 6000 + shard/16}] = twoDigits(123.456)
	}
	whole, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	loads, err := json.Marshal(status.Loads)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, of which %d are loads", len(whole), len(loads))
	if len(loads) > 200 || len(whole) > 8192 {
		t.Errorf("%d bytes, of which %d are loads", len(whole), len(loads))
	}
	var back lease.Status
	if err := json.Unmarshal(whole, &back); err != nil || !maps.Equal(back.Loads, status.Loads) {
		t.Errorf("read back as %v (%v)", back.Loads, err)
	}
}
