package lease

import (
	"testing"
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
