package discordsim

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var day = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// Whatever a client does, no period of 60 s holds more than 120 sends that were allowed, and a send is refused only when
// the 120 before it, refused ones included, lie in one period.
func TestSendClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := newSendClock(sendLimit, sendPeriod)
		var sends []time.Time
		now := day
		for range rapid.IntRange(1, 600).Draw(t, "sends") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "ms")) * time.Millisecond)
			recent := 0
			for _, at := range sends[max(0, len(sends)-sendLimit):] {
				if now.Sub(at) < sendPeriod {
					recent++
				}
			}
			if got, want := clock.allow(now), recent < sendLimit; got != want {
				t.Fatalf("send with %d in the last period: allowed is %v", recent, got)
			}
			sends = append(sends, now)
		}
	})
}

// Admitted IDENTIFYs of one bucket are never closer than the window, and one that is not closer is never refused.
func TestIdentifyClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := identifyClock{window: 5 * time.Second, last: make(map[int]time.Time)}
		admitted := make(map[int]time.Time)
		now := day
		for range rapid.IntRange(1, 100).Draw(t, "identifies") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			bucket := rapid.IntRange(0, 3).Draw(t, "bucket")
			last, before := admitted[bucket]
			want := !before || now.Sub(last) >= 5*time.Second
			if since, early := clock.early(now, bucket); early == want || before && since != now.Sub(last) {
				t.Fatalf("%v after the last of its bucket: early is %v, %v after it", now.Sub(last), early, since)
			}
			if want {
				clock.take(now, bucket)
				admitted[bucket] = now
			}
		}
	})
}

func TestBudgetPeriodStartsWithItsFirstIdentify(t *testing.T) {
	b := newBudget(SessionLimit{Total: 2, ResetAfter: 24 * time.Hour}, day)
	if left, reset := b.remaining(day.Add(time.Hour)); left != 2 || reset != 0 {
		t.Errorf("unused: %d left, reset in %v", left, reset)
	}
	for i, step := range []struct {
		at   time.Duration
		ok   bool
		left int
		in   time.Duration
	}{
		{2 * time.Hour, true, 1, 24 * time.Hour},
		{3 * time.Hour, true, 0, 23 * time.Hour},
		{4 * time.Hour, false, 0, 22 * time.Hour},
		{26*time.Hour - 1, false, 0, 1},
		{26 * time.Hour, true, 1, 24 * time.Hour},
	} {
		ok := b.spend(day.Add(step.at))
		left, in := b.remaining(day.Add(step.at))
		if ok != step.ok || left != step.left || in != step.in {
			t.Errorf("step %d: spent %v, %d left, reset in %v; want %+v", i, ok, left, in, step)
		}
	}
}

func TestBudgetCountsWhatWasUsedBefore(t *testing.T) {
	b := newBudget(SessionLimit{Total: 3, Used: 3, ResetAfter: time.Hour}, day)
	if b.spend(day.Add(time.Hour - 1)) {
		t.Error("spent what was used up")
	}
	if left, _ := b.remaining(day.Add(time.Hour)); left != 3 {
		t.Errorf("after the reset %d are left, want 3", left)
	}
}

// The pacer makes as many events as the rate asks for, give or take one and a rounding error, however unevenly it is
// asked.
func TestPacerKeepsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.01, 50_000).Draw(t, "rate")
		var p pacer
		p.set(rate, day)
		now, made := day, 0
		for range rapid.IntRange(1, 300).Draw(t, "bursts") {
			now = now.Add(min(p.pause(), time.Minute) + time.Duration(rapid.IntRange(0, 200).Draw(t, "late"))*time.Millisecond)
			made += p.due(now)
		}
		if want := rate * now.Sub(day).Seconds(); float64(made) > want+1.01 || float64(made) < want-1.01 {
			t.Fatalf("%d events in %v, want %.1f", made, now.Sub(day), want)
		}
	})
}

// A pacer that was not asked for long, as on a suspended machine, does not make up for all of it.
func TestPacerForgivesDebt(t *testing.T) {
	var p pacer
	p.set(1000, day)
	if n := p.due(day.Add(time.Hour)); n > 300 {
		t.Errorf("%d events at once", n)
	}
}

// The replay buffer always holds the newest frames, as many as its bounds allow, and hands them out unchanged.
func TestReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxEvents := rapid.IntRange(1, 20).Draw(t, "max events")
		maxBytes := rapid.IntRange(1, 400_000).Draw(t, "max bytes")
		r := replay{maxEvents: maxEvents, maxBytes: maxBytes}
		var all []string
		for range rapid.IntRange(1, 60).Draw(t, "frames") {
			size := rapid.OneOf(rapid.IntRange(1, 300), rapid.IntRange(1, 100_000)).Draw(t, "size")
			frame := make([]byte, size)
			for i := range frame {
				frame[i] = byte(len(all))
			}
			all = append(all, string(frame))
			r.store(rapid.IntRange(0, size).Draw(t, "hint"), func(dst []byte) []byte { return append(dst, frame...) })
		}
		keep, bytes := 0, 0
		for i := len(all) - 1; i >= 0; i-- {
			bytes += len(all[i])
			if keep > 0 && (keep == maxEvents || bytes > maxBytes) {
				break
			}
			keep++
		}
		if got := r.last - r.oldest() + 1; got != int64(keep) {
			t.Fatalf("%d frames kept, want %d", got, keep)
		}
		seq := int64(rapid.IntRange(0, len(all)).Draw(t, "seq"))
		if got, want := r.reaches(seq), int(seq) >= len(all)-keep; got != want {
			t.Fatalf("reaches(%d) of %d with %d kept is %v", seq, len(all), keep, got)
		}
		if !r.reaches(seq) {
			return
		}
		for seq < r.last {
			frames, next := r.after(nil, seq, rapid.IntRange(1, 1000).Draw(t, "burst"))
			if len(frames) == 0 || next != seq+int64(len(frames)) {
				t.Fatalf("%d frames after %d end at %d", len(frames), seq, next)
			}
			for i, frame := range frames {
				if string(frame) != all[int(seq)+i] {
					t.Fatalf("frame %d is not what was stored", int(seq)+i+1)
				}
			}
			seq = next
		}
	})
}
