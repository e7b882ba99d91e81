package shard

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestPaceNext: which command is next, and how long until one is.
func TestPaceNext(t *testing.T) {
	now := time.Unix(1e9, 0)
	presence := &outgoing{lane: lane{op: opPresence}}
	voice := &outgoing{lane: lane{op: opVoiceState}}
	everyone := &outgoing{lane: lane{opRequestMembers, "1"}, everyone: true}
	someone := &outgoing{lane: lane{opRequestMembers, "1"}}
	elsewhere := &outgoing{lane: lane{opRequestMembers, "2"}, everyone: true}
	for _, c := range []struct {
		name   string
		before func(p *pace)
		queue  []*outgoing
		index  int
		wait   time.Duration
	}{
		{"nothing waits", nil, nil, -1, 0},
		{"in order", nil, []*outgoing{voice, presence}, 0, 0},
		{"connection spent but for the reserve", func(p *pace) {
			for i := range sendLimit - p.reserve {
				p.sent(now.Add(-time.Minute + time.Duration(i+1)*time.Second/10))
			}
		}, []*outgoing{voice}, -1, time.Second / 10},
		{"one left", func(p *pace) {
			for range sendLimit - p.reserve - 1 {
				p.sent(now)
			}
		}, []*outgoing{voice}, 0, 0},
		{"presence held back, others pass", func(p *pace) {
			for range presenceLimit {
				p.commanded(presence, now)
			}
		}, []*outgoing{presence, presence, voice}, 2, 0},
		{"presence held back alone", func(p *pace) {
			for range presenceLimit {
				p.commanded(presence, now.Add(-time.Second))
			}
		}, []*outgoing{presence}, -1, presencePeriod - time.Second},
		{"everyone of a guild once, other guilds pass", func(p *pace) { p.commanded(everyone, now) },
			[]*outgoing{everyone, elsewhere}, 1, 0},
		{"in its lane nothing overtakes", func(p *pace) { p.commanded(everyone, now) },
			[]*outgoing{everyone, someone}, -1, everyonePeriod},
		{"someone of the guild passes where nobody waits", func(p *pace) { p.commanded(everyone, now) },
			[]*outgoing{someone}, 0, 0},
		{"everyone again", func(p *pace) { p.commanded(everyone, now.Add(-everyonePeriod)) }, []*outgoing{everyone}, 0, 0},
		{"rate limited holds all of the guild", func(p *pace) { p.limited("1", time.Minute, now) },
			[]*outgoing{someone, elsewhere}, 1, 0},
		{"the shortest wait", func(p *pace) { p.limited("1", time.Minute, now); p.limited("2", time.Second, now) },
			[]*outgoing{someone, elsewhere}, -1, time.Second},
		{"the shortest wait, the other way round", func(p *pace) { p.limited("1", time.Second, now); p.limited("2", time.Minute, now) },
			[]*outgoing{someone, elsewhere}, -1, time.Second},
		{"rate limited is over", func(p *pace) { p.limited("1", time.Minute, now.Add(-time.Minute)) }, []*outgoing{someone}, 0, 0},
		{"a new connection", func(p *pace) {
			for range sendLimit {
				p.sent(now)
			}
			p.connected()
			p.greeted(interval)
		}, []*outgoing{voice}, 0, 0},
		{"a new connection has the presences of the old", func(p *pace) {
			for range presenceLimit {
				p.commanded(presence, now)
			}
			p.connected()
		}, []*outgoing{presence}, -1, presencePeriod},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPace()
			p.connected()
			p.greeted(interval)
			if c.before != nil {
				c.before(&p)
			}
			if index, wait := p.next(c.queue, now); index != c.index || wait != c.wait {
				t.Errorf("command %d after %s, want %d after %s", index, wait, c.index, c.wait)
			}
		})
	}
}

// TestPaceReserve: heartbeats that are due always fit, and so do two that are asked for.
func TestPaceReserve(t *testing.T) {
	for interval, want := range map[time.Duration]int{
		41250 * time.Millisecond: 5, time.Minute: 5, 45 * time.Minute: 4, 10 * time.Second: 10, time.Millisecond: maxReserve,
	} {
		p := newPace()
		p.greeted(interval)
		if p.reserve != want {
			t.Errorf("every %s: %d reserved, want %d", interval, p.reserve, want)
		}
	}
}

// TestPaceProperties sends as fast as it may, with heartbeats between, and holds it against Discord's limits.
func TestPaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		interval := rapid.SampledFrom([]time.Duration{700 * time.Millisecond, 5 * time.Second, 41250 * time.Millisecond}).Draw(t, "interval")
		p := newPace()
		p.connected()
		p.greeted(interval)
		nextBeat := now
		var sent []time.Time              // on the connection
		kinds := map[string][]time.Time{} // presences, requests for everyone by guild
		orders := map[lane][]int{}        // numbers of the commands sent, by lane
		numbers := map[*outgoing]int{}    // of all commands
		var queue []*outgoing
		for step := range rapid.IntRange(200, 400).Draw(t, "steps") {
			for !nextBeat.After(now) {
				sent = append(sent, now)
				nextBeat = nextBeat.Add(interval)
			}
			for rapid.IntRange(0, 9).Draw(t, "asked") == 0 && p.beat(now) {
				p.sent(now)
				sent = append(sent, now)
			}
			out := &outgoing{lane: lane{op: rapid.SampledFrom([]int{opPresence, opVoiceState, opVoiceState, opRequestMembers}).Draw(t, "op")}}
			if out.lane.op == opRequestMembers {
				out.lane.guild = fmt.Sprint(rapid.IntRange(1, 2).Draw(t, "guild"))
				out.everyone = rapid.Bool().Draw(t, "everyone")
			}
			numbers[out] = step
			queue = append(queue, out)
			for {
				i, wait := p.next(queue, now)
				if i < 0 {
					if wait <= 0 && len(queue) > 0 {
						t.Fatal("commands wait for nothing")
					}
					break
				}
				next := queue[i]
				queue = slices.Delete(queue, i, i+1)
				p.commanded(next, now)
				sent = append(sent, now)
				orders[next.lane] = append(orders[next.lane], numbers[next])
				switch {
				case next.lane.op == opPresence:
					kinds["presence"] = append(kinds["presence"], now)
				case next.everyone:
					kinds[next.lane.guild] = append(kinds[next.lane.guild], now)
				}
			}
			now = now.Add(time.Duration(rapid.IntRange(200, 800).Draw(t, "ms")) * time.Millisecond)
		}
		if len(orders[lane{op: opVoiceState}]) == 0 {
			t.Error("commands starve")
		}
		within(t, "connection", sent, sendLimit, sendPeriod)
		within(t, "presence", kinds["presence"], presenceLimit, 20*time.Second)
		within(t, "guild 1", kinds["1"], 1, 30*time.Second)
		within(t, "guild 2", kinds["2"], 1, 30*time.Second)
		for lane, order := range orders {
			if !slices.IsSorted(order) {
				t.Errorf("lane %v sent in the order %v", lane, order)
			}
		}
	})
}

// within checks that there are at most limit in any period.
func within(t *rapid.T, what string, times []time.Time, limit int, period time.Duration) {
	for i := limit; i < len(times); i++ {
		if times[i].Sub(times[i-limit]) < period {
			t.Errorf("%s: %d in %s", what, limit+1, times[i].Sub(times[i-limit]))
		}
	}
}
