package api

import (
	"fmt"
	"strings"
	"time"
)

// Severity is how bad a trouble is.
type Severity string

// The severities, the worst first.
const (
	Critical Severity = "critical" // events are not received, or soon will not be, and nothing mends it by itself
	Warning  Severity = "warning"  // something does not work as it should; it may mend itself
	Note     Severity = "note"     // somebody wanted it so
)

// Trouble is something that is wrong, and what to do about it.
type Trouble struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Cure     string   `json:"cure,omitempty"`
}

// Troubles says what is wrong with a cluster, the worst first, for people. It is a pure function of the rest of the view.
func Troubles(c *Cluster) []Trouble {
	t := troubles{c: c, all: []Trouble{}}
	t.down()
	t.halts()
	t.etcd()
	t.leadership()
	t.plan()
	t.owners()
	t.redis()
	t.budget()
	t.shards()
	t.orders()
	out := []Trouble{}
	for _, severity := range []Severity{Critical, Warning, Note} {
		for _, trouble := range t.all {
			if trouble.Severity == severity {
				out = append(out, trouble)
			}
		}
	}
	return out
}

type troubles struct {
	c   *Cluster
	all []Trouble
}

func (t *troubles) add(s Severity, what, cure string) { t.all = append(t.all, Trouble{s, what, cure}) }

func (t *troubles) down() {
	d := t.c.Directives.Down
	if d == nil {
		return
	}
	how := "sessions are kept for as long as Discord does"
	if d.EndSessions {
		how = "sessions are ended"
	}
	t.add(Critical, fmt.Sprintf("down by order since %s: there are no sockets; %s", when(d.At), how), "muster up ends it")
}

func (t *troubles) orders() {
	if r := t.c.Directives.Reshard; r != nil && r.Refused != "" {
		t.add(Warning, fmt.Sprintf("not resharded to %d shards, as ordered: %s", r.Shards, r.Refused), "order it again when that is so no more")
	}
	for _, d := range t.c.Directives.Drains {
		t.add(Note, fmt.Sprintf("%s is drained by order since %s", d.Worker, when(d.At)), fmt.Sprintf("muster drain --cancel %s takes it back", d.Worker))
	}
}

func when(at time.Time) string { return at.UTC().Format(time.RFC3339) }

func (t *troubles) halts() {
	for _, h := range t.c.Halted {
		t.add(Critical, fmt.Sprintf("halted by %s: %s", h.Worker, h.Reason),
			fmt.Sprintf("correct that and restart %s; the others go on by themselves", h.Worker))
	}
}

func (t *troubles) etcd() {
	if t.c.UnreadSince != nil {
		t.add(Critical, fmt.Sprintf("etcd has not answered %s since %s: what it shows is from then, and unless others reach etcd nothing is repaired and no shard can identify",
			t.c.AnsweredBy, when(*t.c.UnreadSince)), "look at etcd; restart no workers: open sockets go on, and events flow")
	}
}

func (t *troubles) leadership() {
	if t.c.Leader == "" {
		t.add(Critical, "there is no leader: nothing is repaired, and no shard can identify", "start a coordinator")
	}
}

func (t *troubles) plan() {
	switch {
	case t.c.Alarm != "":
		t.add(Critical, t.c.Alarm, "")
	case len(t.c.Refused) > 0:
		t.add(Warning, fmt.Sprintf("Discord refuses %d shards: %s", t.c.Shards, t.c.Refused[0].Reason),
			"nothing: the leader asks Discord for another number")
	}
}

func (t *troubles) owners() {
	orphans := 0
	for _, r := range t.c.Ranges {
		if r.Owner == "" {
			orphans += r.Last - r.First + 1
		}
	}
	switch {
	case orphans == 0:
	case len(t.c.Workers) == 0:
		t.add(Critical, fmt.Sprintf("no worker is there to run %d shards", orphans), "start workers")
	case allDrain(t.c.Workers):
		t.add(Critical, fmt.Sprintf("nobody runs %d shards: all workers drain", orphans), "start workers")
	default:
		t.add(Warning, fmt.Sprintf("nobody runs %d of %d shards", orphans, t.c.Shards), "nothing, if it passes within seconds; else start workers")
	}
}

func allDrain(workers []Worker) bool {
	for _, w := range workers {
		if !w.Draining {
			return false
		}
	}
	return true
}

func (t *troubles) redis() {
	var failing []string
	for _, w := range t.c.Workers {
		if w.RedisFailing {
			failing = append(failing, w.ID)
		}
	}
	switch n := len(failing); {
	case n == 0:
	case n == len(t.c.Workers):
		t.add(Critical, "Redis takes no writes from any worker: they buffer, then close their sockets, to be resumed", "look at Redis")
	default:
		t.add(Warning, fmt.Sprintf("Redis takes no writes from %s", some(failing)), "their shards go to the others; look at their network")
	}
}

func (t *troubles) budget() {
	b := t.c.Budget
	resets := "Discord resets it at " + when(b.ResetAt)
	switch {
	case b.Waiting > 0:
		t.add(Critical, fmt.Sprintf("%d shards cannot identify: %d of the day's %d IDENTIFYs are left, of which %d are for shards that had a session",
			b.Waiting, b.Remaining, b.Total, b.Reserve), "nothing: they go on by themselves when "+resets)
	case b.Total > 0 && b.Remaining <= b.Reserve:
		t.add(Warning, fmt.Sprintf("the day's identify budget is down to its reserve, %d of %d", b.Remaining, b.Total), "start nothing anew; "+resets)
	}
}

// maxNamed bounds how many shards or workers are named.
const maxNamed = 5

func (t *troubles) shards() {
	byError, order := map[string][]string{}, []string{}
	for _, s := range t.c.ShardStates {
		if s.Error == "" {
			continue
		}
		if byError[s.Error] == nil {
			order = append(order, s.Error)
		}
		byError[s.Error] = append(byError[s.Error], fmt.Sprint(s.Shard))
	}
	for i, reason := range order {
		if i == maxNamed {
			t.add(Warning, fmt.Sprintf("%d more kinds of errors of shards", len(order)-i), "see /v1/cluster")
			return
		}
		noun := "shard"
		if len(byError[reason]) > 1 {
			noun = "shards"
		}
		t.add(Warning, fmt.Sprintf("%s %s: %s", noun, some(byError[reason]), reason), "")
	}
}

func some(names []string) string {
	if n := len(names); n > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), n-maxNamed)
	}
	return strings.Join(names, ", ")
}
