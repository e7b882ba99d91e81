package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/muster-gateway/muster/pkg/discordsim"
)

// step is one thing that happens, as plain values: a script of them can be shrunk, printed and kept. What cannot be done as things
// are (nobody is there to be killed) is left out.
type step struct {
	What what
	Who  int           // which of those that run, counted round; for Discord, which shard
	For  time.Duration // how long a fault lasts
	Then time.Duration // how long to wait until the next step
}

func (s step) String() string {
	return fmt.Sprintf("{%q, %d, %d, %d}", s.What, s.Who, s.For, s.Then)
}

type what string

// action does a step. Faults return what ends them.
type action func(w *world, s step) (undo func())

// vocabulary is all that can happen.
var vocabulary = map[what]action{
	"nothing": func(*world, step) func() { return nil },
	"join":    func(w *world, _ step) func() { w.join(); return nil },
	"crash": func(w *world, s step) func() {
		w.worker(s, (*process).crash)
		return nil
	},
	"crash and restart": func(w *world, s step) func() {
		w.worker(s, func(p *process) { p.crash(); w.startWorker(p.id) })
		return nil
	},
	"stop": func(w *world, s step) func() {
		w.worker(s, (*process).drain)
		return nil
	},
	"stop and restart": func(w *world, s step) func() {
		w.worker(s, func(p *process) { p.drain(); w.startWorker(p.id) })
		return nil
	},

	"worker pauses":          fault(workers, (*process).pause),
	"etcd is held":           fault(workers, func(p *process) func() { p.etcd.Hold(); return p.etcd.Mend }),
	"etcd is cut":            fault(workers, func(p *process) func() { p.etcd.Cut(); return p.etcd.Mend }),
	"etcd is slow":           fault(workers, func(p *process) func() { p.etcd.Slow(900 * time.Millisecond); return func() { p.etcd.Slow(0) } }),
	"etcd loses answers":     fault(workers, func(p *process) func() { p.etcd.LoseAnswers(3); return func() { p.etcd.LoseAnswers(0) } }),
	"etcd loses events":      fault(workers, deafen),
	"redis is held":          fault(workers, func(p *process) func() { return p.redis.fail(held) }),
	"redis is cut":           fault(workers, func(p *process) func() { return p.redis.fail(cut) }),
	"discord is held":        fault(workers, func(p *process) func() { return p.discord.fail(held) }),
	"discord is cut":         fault(workers, func(p *process) func() { return p.discord.fail(cut) }),
	"leader pauses":          fault(leaders, (*process).pause),
	"leader is held":         fault(leaders, func(p *process) func() { p.etcd.Hold(); return p.etcd.Mend }),
	"leader is cut":          fault(leaders, func(p *process) func() { p.etcd.Cut(); return p.etcd.Mend }),
	"leader is slow":         fault(leaders, func(p *process) func() { p.etcd.Slow(400 * time.Millisecond); return func() { p.etcd.Slow(0) } }),
	"leader loses answers":   fault(leaders, func(p *process) func() { p.etcd.LoseAnswers(3); return func() { p.etcd.LoseAnswers(0) } }),
	"leader loses events":    fault(leaders, deafen),
	"standby loses events":   fault(standbys, deafen),
	"leader without discord": fault(leaders, func(p *process) func() { return p.discord.fail(held) }),
	"leader is killed": func(w *world, _ step) func() {
		if p := w.leader(); p != nil {
			p.crash()
			w.startCoordinator(p.id)
		}
		return nil
	},
	"leader resigns": func(w *world, _ step) func() {
		if p := w.leader(); p != nil {
			p.drain()
			w.startCoordinator(p.id)
		}
		return nil
	},

	"no quorum": func(w *world, s step) func() {
		w.etcd.LoseQuorum()
		w.witness.mislead(s.For)
		w.outages++
		return func() {
			w.illAt = time.Now()
			if w.outages--; w.outages == 0 {
				w.etcd.RegainQuorum()
			}
		}
	},
	"compaction": func(w *world, _ step) func() { w.etcd.Compact(); return nil },
	"no redis": func(w *world, _ step) func() {
		var ends []func()
		for _, p := range w.workers() {
			if end := w.suffer(p, func(p *process) func() { return p.redis.fail(cut) }); end != nil {
				ends = append(ends, end)
			}
		}
		return func() {
			for _, end := range ends {
				end()
			}
		}
	},

	"reshard":              order("reshard"),
	"abort reshard":        order("abort reshard"),
	"rebalance":            order("rebalance"),
	"drain":                order("drain"),
	"cancel drain":         order("cancel drain"),
	"down":                 downFor("down"),
	"down, sessions ended": downFor("down, sessions ended"),

	"discord reconnects":  func(w *world, s step) func() { w.sim.Reconnect(w.shard(s)); return nil },
	"discord drops":       func(w *world, s step) func() { w.sim.Drop(w.shard(s)); return nil },
	"discord drops all":   func(w *world, _ step) func() { w.sim.Drop(discordsim.AllShards); return nil },
	"discord invalidates": func(w *world, s step) func() { w.sim.Invalidate(w.shard(s), false); return nil },
}

// shard is the one that a step names.
func (w *world) shard(s step) int { return s.Who % max(w.witness.plan().Shards, 1) }

func workers(w *world, s step) *process {
	all := w.workers()
	if len(all) == 0 {
		return nil
	}
	return all[s.Who%len(all)]
}

func leaders(w *world, _ step) *process { return w.leader() }

// standbys is the first coordinator that does not lead.
func standbys(w *world, _ step) *process {
	leader := w.leader()
	for _, p := range w.alive(func(p *process) bool { return !p.isWorker() }) {
		if p != leader {
			return p
		}
	}
	return nil
}

// worker does something to the worker that a step names.
func (w *world) worker(s step, do func(*process)) {
	if p := workers(w, s); p != nil {
		do(p)
	}
}

// fault is an action on one process that ends by itself.
func fault(whose func(*world, step) *process, begin func(*process) (undo func())) action {
	return func(w *world, s step) func() {
		p := whose(w, s)
		if p == nil {
			return nil
		}
		if !p.isWorker() {
			w.witness.mislead(s.For)
		}
		return w.suffer(p, begin)
	}
}

// deafen has a process miss what happens in etcd. It finds out when it reads everything anew, which it does once a minute.
func deafen(p *process) (undo func()) {
	p.etcd.LoseEvents(true)
	return func() {
		p.etcd.LoseEvents(false)
		p.deafUntil = time.Now().Add(time.Minute)
	}
}

// suffer begins a fault, unless there is one under way, and returns what ends it.
func (w *world) suffer(p *process, begin func(*process) (undo func())) (end func()) {
	if p.faults > 0 {
		return nil
	}
	undo := begin(p)
	p.faults++
	return func() {
		p.faults--
		w.illAt = time.Now()
		if !p.crashed { // or it stays cut off
			undo()
		}
	}
}

// play does a script's steps one after the other.
func (w *world) play(script []step) {
	type ending struct {
		at   time.Time
		undo func()
	}
	var endings []ending
	advance := func(to time.Time) {
		for len(endings) > 0 && !endings[0].at.After(to) {
			w.pass(time.Until(endings[0].at))
			endings[0].undo()
			endings = endings[1:]
		}
		w.pass(time.Until(to))
	}
	for _, s := range script {
		do, known := vocabulary[s.What]
		if !known {
			panic("no such step: " + s.What)
		}
		if undo := do(w, s); undo != nil {
			endings = append(endings, ending{time.Now().Add(s.For), undo})
			slices.SortStableFunc(endings, func(a, b ending) int { return a.at.Compare(b.at) })
		}
		advance(time.Now().Add(s.Then))
	}
	if n := len(endings); n > 0 {
		advance(endings[n-1].at)
	}
}

// run plays a script in a bubble of its own, heals everything, and returns what was wrong, and what happened.
func run(t *testing.T, s setup, script []step) (wrong []string, counts map[string]int) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s)
		w.play(script)
		w.settle()
		counts = w.witness.happened()
		counts["session"] = len(w.sim.Sessions())
		w.end()
		wrong = w.witness.found()
	})
	return wrong, counts
}

// scripts generates what may happen. Few of the steps wait for long, and none for so long that Discord forgets every session.
func scripts(least int) *rapid.Generator[[]step] {
	var words []what
	for word := range vocabulary {
		words = append(words, word)
	}
	slices.Sort(words)
	lasting := []time.Duration{time.Second, 3 * time.Second, 6 * time.Second, 9 * time.Second, 12 * time.Second, 25 * time.Second, time.Minute, 5 * time.Minute}
	waits := []time.Duration{0, 5 * time.Millisecond, 100 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 11 * time.Second, 40 * time.Second, 3 * time.Minute}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			What: rapid.SampledFrom(words).Draw(t, "what"), Who: rapid.IntRange(0, 7).Draw(t, "who"),
			For: rapid.SampledFrom(lasting).Draw(t, "for"), Then: rapid.SampledFrom(waits).Draw(t, "then"),
		}
	}), least, 40)
}

func show(script []step) string {
	lines := make([]string, len(script))
	for i, s := range script {
		lines[i] = "\t" + s.String() + ","
	}
	return strings.Join(lines, "\n")
}
