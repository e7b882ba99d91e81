package lease

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTrust(t *testing.T) {
	const ttl, s = 10 * time.Second, time.Second
	for _, test := range []struct {
		name     string
		renewals []time.Duration // when each was sent
		over     bool
		until    time.Duration
	}{
		{name: "never renewed", until: 0},
		{name: "from when it was sent, less the margin", renewals: []time.Duration{5 * s}, until: 14 * s},
		{name: "the latest counts", renewals: []time.Duration{5 * s, 7 * s}, until: 16 * s},
		{name: "an answer overtaken by a later one", renewals: []time.Duration{7 * s, 5 * s}, until: 16 * s},
		{name: "an answer later than the lease", renewals: []time.Duration{-20 * s}, until: 0},
		{name: "ended", renewals: []time.Duration{5 * s}, over: true, until: 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			trust := trust{ttl: ttl}
			if test.over {
				trust.end()
			}
			for _, sent := range test.renewals {
				trust.renewed(sent)
			}
			if test.until > 0 && !trust.holds(test.until-1) {
				t.Errorf("it does not hold just before %v", test.until)
			}
			if trust.holds(test.until) {
				t.Errorf("it holds at %v", test.until)
			}
		})
	}
}

// The end of trust is told when it comes, not when a renewal fails; and soon after a machine wakes, if it came in its sleep.
func TestAwaitDistrust(t *testing.T) {
	const ttl = 10*time.Second + trustCheck/2 // so that trust ends between two looks
	for name, c := range map[string]struct {
		do   func(r *Registration, sleeps *time.Duration) // 4.1 s after the first renewal
		want time.Duration
	}{
		"not renewed":      {func(*Registration, *time.Duration) {}, ttl - trustMargin},
		"renewed":          {func(r *Registration, _ *time.Duration) { r.trust.renewed(4 * time.Second) }, 4*time.Second + ttl - trustMargin},
		"ended":            {func(r *Registration, _ *time.Duration) { r.trust.end() }, 4*time.Second + trustCheck},
		"asleep past it":   {func(_ *Registration, sleeps *time.Duration) { *sleeps = time.Hour }, 4*time.Second + trustCheck},
		"asleep before it": {func(_ *Registration, sleeps *time.Duration) { *sleeps = 3 * time.Second }, ttl - trustMargin - 3*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var sleeps time.Duration
				r := &Registration{ttl: ttl, trust: trust{ttl: ttl}, tenure: tenure{life: context.Background()}}
				r.clock = func() time.Duration { return time.Since(began) + sleeps }
				r.trust.renewed(0)
				time.AfterFunc(4100*time.Millisecond, func() {
					r.mu.Lock()
					defer r.mu.Unlock()
					c.do(r, &sleeps)
				})
				if err := r.AwaitDistrust(t.Context()); err != nil || time.Since(began) != c.want || r.Trusted() {
					t.Errorf("told after %v, want %v; %v", time.Since(began), c.want, err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := &Registration{ttl: ttl, trust: trust{ttl: ttl, until: time.Hour}, tenure: tenure{life: context.Background()}, clock: func() time.Duration { return 0 }}
		if err := r.AwaitDistrust(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while trusted: %v", err)
		}
	})
}
