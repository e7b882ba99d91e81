package shard

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// healthy is a connection on which the session ran for long.
var healthy = outcome{greeted: true, resumed: true, established: true, progressed: true, stayed: time.Hour}

// TestCloseRules is Discord's table, row by row, for a session that was running well.
func TestCloseRules(t *testing.T) {
	for _, c := range []struct {
		code        int
		held, fatal bool
		scope       Scope
		pause       time.Duration
	}{
		{code: 0, held: true},
		{code: 1000, held: true},
		{code: 1001, held: true},
		{code: 1006, held: true},
		{code: 1011, held: true},
		{code: 4000, held: true},
		{code: 4001, held: true},
		{code: 4002, held: true},
		{code: 4003, held: false},
		{code: 4004, held: true, fatal: true, scope: ScopeBot},
		{code: 4005, held: true},
		{code: 4006, held: true},
		{code: 4007, held: false},
		{code: 4008, held: true, pause: 5 * time.Second},
		{code: 4009, held: false},
		{code: 4010, held: true, fatal: true, scope: ScopePlan},
		{code: 4011, held: true, fatal: true, scope: ScopePlan},
		{code: 4012, held: true, fatal: true, scope: ScopeBot},
		{code: 4013, held: true, fatal: true, scope: ScopeBot},
		{code: 4014, held: true, fatal: true, scope: ScopeBot},
		{code: 4999, held: true},
	} {
		h := history{held: true}
		o := healthy
		o.code = c.code
		next := h.after(o)
		if h.held != c.held || next.fatal != c.fatal || next.wait.min != c.pause {
			t.Errorf("close %d: session held %v, fatal %v, waits from %s", c.code, h.held, next.fatal, next.wait.min)
		}
		rule := ruleFor(lost, c.code)
		if rule.text == "" || c.fatal != (rule.cure != "") || rule.scope != c.scope {
			t.Errorf("close %d: rule %+v", c.code, rule)
		}
	}
}

func TestHistoryResumes(t *testing.T) {
	sent := outcome{greeted: true, resumed: true}
	with := func(o outcome, change func(*outcome)) outcome {
		change(&o)
		return o
	}
	for _, c := range []struct {
		name     string
		outcomes []outcome
		held     bool
		avoidURL bool
	}{
		{"nothing yet", nil, true, false},
		{"resume host unreachable", []outcome{{cause: unreachable}}, true, true},
		{"resume host unreachable for long", []outcome{{cause: unreachable}, {cause: unreachable}, {cause: unreachable}, {cause: unreachable}}, true, true},
		{"no hello", []outcome{{cause: deafHello}}, true, true},
		{"op 7 for hello", []outcome{{cause: reconnect}}, true, true},
		{"lost while waiting at the gate", []outcome{{cause: lost, greeted: true}}, true, false},
		{"one failed resume", []outcome{sent}, true, true},
		{"failed resumes", []outcome{sent, sent, sent}, false, false},
		{"failed resumes between others", []outcome{sent, {cause: unreachable}, sent, {cause: unreachable}, sent}, false, false},
		{"failed resumes that brought something", []outcome{sent, sent, with(sent, func(o *outcome) { o.progressed = true })}, true, true},
		{"a resume between failed ones", []outcome{sent, sent, healthy, sent, sent}, true, true},
		{"a running session uses its url again", []outcome{{cause: unreachable}, healthy}, true, false},
		{"4005 once", []outcome{with(healthy, func(o *outcome) { o.code = 4005 })}, true, false},
		{"4005 and a failed resume", []outcome{with(healthy, func(o *outcome) { o.code = 4005 }), sent}, false, false},
		{"op 9 false", []outcome{with(healthy, func(o *outcome) { o.cause = invalidated })}, false, false},
		{"op 9 true", []outcome{with(healthy, func(o *outcome) { o.cause = suspended })}, true, false},
		{"op 9 true to each resume", []outcome{with(sent, func(o *outcome) { o.cause = suspended }),
			with(sent, func(o *outcome) { o.cause = suspended }), with(sent, func(o *outcome) { o.cause = suspended })}, false, false},
		{"op 7 in a replay", []outcome{with(sent, func(o *outcome) { o.cause = reconnect })}, true, false},
		{"a new session", []outcome{{cause: invalidated, greeted: true, resumed: true},
			{cause: lost, greeted: true, began: true, established: true}}, true, false},
		{"a new session, gone at once", []outcome{{cause: invalidated, greeted: true, began: true, established: true}}, false, false},
		{"zombie", []outcome{with(healthy, func(o *outcome) { o.cause = zombie })}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := history{held: true}
			for _, o := range c.outcomes {
				if h.after(o).fatal {
					t.Fatal("fatal")
				}
			}
			if h.held != c.held || h.avoidURL != c.avoidURL {
				t.Fatalf("session held %v, avoid URL %v", h.held, h.avoidURL)
			}
		})
	}
}

func TestHistoryBackoff(t *testing.T) {
	second := time.Second
	failure := outcome{cause: unreachable}
	short := outcome{cause: lost, greeted: true, established: true, stayed: provedAfter - 1}
	for _, c := range []struct {
		name     string
		outcomes []outcome
		wait     delay
	}{
		{"after a healthy connection", []outcome{failure, failure, healthy}, delay{0, second}},
		{"first failure", []outcome{failure}, delay{0, 2 * second}},
		{"third failure", []outcome{failure, failure, failure}, delay{0, 8 * second}},
		{"many failures", make([]outcome, 100), delay{0, backoffMax}},
		{"established, but not for long", []outcome{failure, short}, delay{0, 4 * second}},
		{"op 7", []outcome{{cause: reconnect}}, delay{}},
		{"op 7 after op 7", []outcome{{cause: reconnect}, {cause: reconnect}}, delay{0, 4 * second}},
		{"op 9", []outcome{{cause: invalidated}}, delay{second, 5 * second}},
		{"op 9 true", []outcome{{cause: suspended}}, delay{second, 5 * second}},
		{"op 9 again and again", []outcome{{cause: invalidated}, {cause: invalidated}, {cause: invalidated}}, delay{second, 8 * second}},
		{"4008", []outcome{{cause: lost, code: 4008}}, delay{5 * second, 10 * second}},
	} {
		h := history{held: true}
		var next step
		for _, o := range c.outcomes {
			next = h.after(o)
		}
		if next.wait != c.wait {
			t.Errorf("%s: waits %v, want %v", c.name, next.wait, c.wait)
		}
	}
}

// TestHistoryProperties: whatever happens, no wait is longer than the backoff's maximum or a row's pause, a fatal close
// is fatal, and a session never outlasts maxFailedResumes RESUMEs that brought nothing.
func TestHistoryProperties(t *testing.T) {
	codes := []int{0, 1000, 1001, 4000, 4001, 4002, 4003, 4004, 4005, 4007, 4008, 4009, 4010, 4011, 4012, 4013, 4014, 4321}
	rapid.Check(t, func(t *rapid.T) {
		h := history{held: true}
		fruitless := 0
		for range rapid.IntRange(1, 40).Draw(t, "connections") {
			o := outcome{
				cause:      cause(rapid.IntRange(int(lost), int(suspended)).Draw(t, "cause")),
				code:       rapid.SampledFrom(codes).Draw(t, "code"),
				greeted:    rapid.Bool().Draw(t, "greeted"),
				progressed: rapid.Bool().Draw(t, "progressed"),
				stayed:     time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "stayed")),
			}
			o.resumed = h.held && o.greeted && rapid.Bool().Draw(t, "resumed")
			o.established = o.greeted && rapid.Bool().Draw(t, "established")
			o.began = o.established && !o.resumed
			next := h.after(o)
			if next.wait.min < 0 || next.wait.max < next.wait.min || next.wait.max > backoffMax {
				t.Fatalf("waits %v", next.wait)
			}
			if want := o.cause == lost && ruleFor(o.cause, o.code).remedy == fatal; next.fatal != want {
				t.Fatalf("fatal %v, want %v", next.fatal, want)
			}
			if next.fatal {
				return // Run ends, and what is held matters no more
			}
			switch {
			case o.established:
				fruitless = 0
			case o.resumed && !o.progressed:
				fruitless++
			}
			if !h.held {
				fruitless = 0
			}
			if fruitless >= maxFailedResumes {
				t.Fatalf("the session is still held after %d fruitless resumes", fruitless)
			}
		}
	})
}
