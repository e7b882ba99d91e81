package shard

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at brings a machine to a phase.
func at(t *testing.T, p phase, resume bool) *machine {
	t.Helper()
	m := &machine{resume: resume}
	for _, in := range []input{
		{kind: inOpened}, {kind: inHello, interval: interval}, {kind: inGranted}, {kind: inReady},
	} {
		if m.phase == p && in.kind != inOpened {
			break
		}
		m.step(in)
	}
	if m.phase != p {
		t.Fatalf("the machine is in phase %d, not %d", m.phase, p)
	}
	return m
}

// TestMachineTable is every input in every phase.
func TestMachineTable(t *testing.T) {
	var (
		asked    = []action{{do: doBeatAsked}}
		nextBeat = []action{{do: doBeat}, {doTimer, delay{interval, interval}}}
	)
	for _, c := range []struct {
		name  string
		phase phase
		in    input
		want  []action
		then  phase
		end   cause // when then is over
	}{
		{"hello", greeting, input{kind: inHello, interval: interval}, []action{{doTimer, delay{0, interval}}, {do: doAsk}}, asking, 0},
		{"no hello", greeting, input{kind: inTimer, heard: true}, nil, over, deafHello},
		{"beat wanted before hello", greeting, input{kind: inBeatRequest}, asked, greeting, 0},
		{"op 7 for hello", greeting, input{kind: inReconnect}, nil, over, reconnect},
		{"op 9 for hello", greeting, input{kind: inInvalid}, nil, over, invalidated},
		{"op 9 true for hello", greeting, input{kind: inInvalid, resumable: true}, nil, over, suspended},
		{"ack for hello", greeting, input{kind: inAck}, nil, greeting, 0},
		{"granted before hello", greeting, input{kind: inGranted}, nil, greeting, 0},
		{"lost before hello", greeting, input{kind: inEnded, cause: lost}, nil, over, lost},
		{"stopped before hello", greeting, input{kind: inStop}, nil, over, stopped},

		{"second hello", asking, input{kind: inHello, interval: 1}, nil, asking, 0},
		{"beat while asking", asking, input{kind: inTimer}, nextBeat, asking, 0},
		{"late permit", asking, input{kind: inGranted, late: true}, []action{{doAsk, delay{0, retryLatePermit}}}, asking, 0},
		{"permit", asking, input{kind: inGranted}, []action{{do: doIdentify}}, answering, 0},
		{"op 1 while asking", asking, input{kind: inBeatRequest}, asked, asking, 0},
		{"op 7 while asking", asking, input{kind: inReconnect}, nil, over, reconnect},
		{"op 9 while asking", asking, input{kind: inInvalid}, nil, over, invalidated},
		{"op 9 true while asking", asking, input{kind: inInvalid, resumable: true}, nil, over, suspended},
		{"lost while asking", asking, input{kind: inEnded, cause: lost}, nil, over, lost},
		{"callback failed while asking", asking, input{kind: inEnded, cause: failed}, nil, over, failed},
		{"stopped while asking", asking, input{kind: inStop}, nil, over, stopped},

		{"ready", answering, input{kind: inReady}, nil, live, 0},
		{"resumed", answering, input{kind: inResumed}, nil, live, 0},
		{"granted twice", answering, input{kind: inGranted}, nil, answering, 0},
		{"beat while answering", answering, input{kind: inTimer}, nextBeat, answering, 0},
		{"op 1 while answering", answering, input{kind: inBeatRequest}, asked, answering, 0},
		{"op 7 while answering", answering, input{kind: inReconnect}, nil, over, reconnect},
		{"op 9 while answering", answering, input{kind: inInvalid}, nil, over, invalidated},
		{"op 9 true while answering", answering, input{kind: inInvalid, resumable: true}, nil, over, suspended},
		{"broken while answering", answering, input{kind: inEnded, cause: broken}, nil, over, broken},

		{"beat", live, input{kind: inTimer}, nextBeat, live, 0},
		{"ack", live, input{kind: inAck}, nil, live, 0},
		{"op 1", live, input{kind: inBeatRequest}, asked, live, 0},
		{"op 7", live, input{kind: inReconnect}, nil, over, reconnect},
		{"op 9", live, input{kind: inInvalid}, nil, over, invalidated},
		{"op 9 true", live, input{kind: inInvalid, resumable: true}, nil, over, suspended},
		{"second ready", live, input{kind: inReady}, nil, live, 0},
		{"granted late", live, input{kind: inGranted}, nil, live, 0},
		{"lost", live, input{kind: inEnded, cause: lost}, nil, over, lost},
		{"stopped", live, input{kind: inStop}, nil, over, stopped},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := at(t, c.phase, false)
			if got := m.step(c.in); !slices.Equal(got, c.want) {
				t.Fatalf("actions %v, want %v", got, c.want)
			}
			if m.phase != c.then || m.phase == over && m.end != c.end {
				t.Fatalf("then phase %d (%s), want %d (%s)", m.phase, m.end, c.then, c.end)
			}
		})
	}
}

func TestMachineResumes(t *testing.T) {
	m := at(t, asking, true)
	if got := m.step(input{kind: inGranted}); !slices.Equal(got, []action{{do: doResume}}) {
		t.Fatalf("actions %v", got)
	}
}

func TestMachineZombie(t *testing.T) {
	for _, c := range []struct {
		name string
		ins  []input
		end  bool
	}{
		{"silence", []input{{kind: inTimer}, {kind: inTimer}}, true},
		{"acknowledged", []input{{kind: inTimer}, {kind: inAck}, {kind: inTimer}, {kind: inAck}, {kind: inTimer}}, false},
		{"other messages only", []input{{kind: inTimer}, {kind: inTimer, heard: true}, {kind: inTimer, heard: true}}, false},
		{"silence after messages", []input{{kind: inTimer}, {kind: inTimer, heard: true}, {kind: inTimer}}, true},
		{"the beat that was asked for is no test", []input{{kind: inBeatRequest}, {kind: inTimer}}, false},
		{"the one that is due is", []input{{kind: inBeatRequest}, {kind: inTimer}, {kind: inTimer}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := at(t, live, false)
			for _, in := range c.ins {
				m.step(in)
			}
			if ended := m.phase == over && m.end == zombie; ended != c.end {
				t.Fatalf("phase %d (%s)", m.phase, m.end)
			}
		})
	}
}

func TestMachineUnanswered(t *testing.T) {
	m := at(t, answering, true)
	beat := func(dispatched bool) phase {
		m.step(input{kind: inTimer, heard: true, dispatched: dispatched})
		m.step(input{kind: inAck})
		return m.phase
	}
	for range 2 * maxUnanswered { // a long replay is no silence
		if beat(true) != answering {
			t.Fatal("ended in the middle of a replay")
		}
	}
	for range maxUnanswered - 1 {
		if beat(false) != answering {
			t.Fatal("ended too soon")
		}
	}
	if beat(false) != over || m.end != unanswered {
		t.Fatalf("phase %d (%s)", m.phase, m.end)
	}
}

// TestMachineProperties feeds machines anything at all.
func TestMachineProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := machine{resume: rapid.Bool().Draw(t, "resume")}
		var granted, spoken bool
		for range rapid.IntRange(1, 60).Draw(t, "inputs") {
			in := input{
				kind:       kind(rapid.IntRange(int(inOpened), int(inStop)).Draw(t, "kind")),
				interval:   time.Duration(rapid.IntRange(1, 1e6).Draw(t, "interval")),
				late:       rapid.Bool().Draw(t, "late"),
				resumable:  rapid.Bool().Draw(t, "resumable"),
				cause:      cause(rapid.IntRange(int(lost), int(suspended)).Draw(t, "cause")),
				heard:      rapid.Bool().Draw(t, "heard"),
				dispatched: rapid.Bool().Draw(t, "dispatched"),
			}
			before := m
			granted = granted || in.kind == inGranted && !in.late && m.phase == asking
			actions := m.step(in)
			if before.phase == over && (len(actions) > 0 || m != before) {
				t.Fatalf("%+v did something after the end", in)
			}
			if m.phase < before.phase {
				t.Fatalf("went back from phase %d to %d", before.phase, m.phase)
			}
			for _, a := range actions {
				if a.delay.min < 0 || a.delay.max < a.delay.min {
					t.Fatalf("delay %v", a.delay)
				}
				if a.do != doIdentify && a.do != doResume {
					continue
				}
				if !granted || spoken || (a.do == doResume) != m.resume {
					t.Fatalf("sent %v: granted %v, sent before %v, to resume %v", a.do, granted, spoken, m.resume)
				}
				spoken = true
			}
		}
	})
}

func TestAdmit(t *testing.T) {
	for _, c := range []struct {
		name      string
		at        stage
		last, seq int64
		typ       string
		want      verdict
	}{
		{"before anything was sent", stageMute, 5, 6, "X", disorder},
		{"ready", stageIdentifying, 0, 1, typeReady, begin},
		{"ready with another first number", stageIdentifying, 0, 3, typeReady, begin},
		{"ready without a number", stageIdentifying, 0, 0, typeReady, disorder},
		{"event before ready", stageIdentifying, 0, 1, "X", disorder},
		{"resumed after identify", stageIdentifying, 0, 1, typeResumed, disorder},
		{"replay", stageResuming, 5, 6, "X", deliver},
		{"replay of the known", stageResuming, 5, 5, "X", drop},
		{"replay of the long known", stageResuming, 5, 1, "X", drop},
		{"replay with a hole", stageResuming, 5, 7, "X", disorder},
		{"replay without a number", stageResuming, 5, 0, "X", disorder},
		{"replay of ready", stageResuming, 0, 1, typeReady, deliver},
		{"resumed", stageResuming, 5, 6, typeResumed, deliver},
		{"resumed with a hole", stageResuming, 5, 8, typeResumed, disorder},
		{"resumed without a number", stageResuming, 5, 0, typeResumed, drop},
		{"next", stageLive, 5, 6, "X", deliver},
		{"again", stageLive, 5, 5, "X", disorder},
		{"skipped", stageLive, 5, 7, "X", disorder},
		{"without a number", stageLive, 5, 0, "X", disorder},
	} {
		if got := admit(c.at, c.last, c.seq, c.typ); got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.name, got, c.want)
		}
	}
}
