package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// roundBytes bounds what one pipeline carries, so that a slow link moves it
	// within the client's write timeout.
	roundBytes = 4 << 20

	// upkeepEvery is how often positions are saved, so that after a crash Discord
	// repeats at most as much, and how often trimming by age may be due.
	upkeepEvery = 5 * time.Second

	// Waits between attempts while Redis does not take entries.
	backoffMin = 50 * time.Millisecond
	backoffMax = 2 * time.Second
)

// sender is the state of Writer.Run, owned by its goroutine.
type sender struct {
	w    *Writer
	due  []*Log // taken over from w.ready; due[next:] are still to be sent
	next int

	round   []shipment
	history history // what was appended lately, should redis lose it
	trimmed time.Time

	// While Redis does not take entries:
	failing []*Log    // to be tried again when timer fires
	attempt int       // how often that was done since the trouble began
	since   time.Time // when it began, zero if all is well
	armed   bool      // timer is running
	timer   *time.Timer
}

// shipment is one batch in a round and the command that carries it.
type shipment struct {
	log   *Log
	batch *batch
	cmd   *redis.Cmd
}

func newSender(w *Writer) *sender {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &sender{w: w, timer: timer, history: history{size: int(w.opts.ReplayBytes)}}
}

// run sends rounds until ctx ends. A log whose batch did not get through waits
// for the timer; the others do not wait for it.
func (s *sender) run(ctx context.Context) {
	upkeep := time.NewTicker(upkeepEvery)
	defer upkeep.Stop()
	for ctx.Err() == nil {
		wake := s.w.wake
		if s.gather() {
			s.send(ctx)
			wake = atOnce // though what is due besides may come first
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-s.timer.C:
			s.retry()
		case <-upkeep.C:
			s.savePositions(ctx)
			s.trim(ctx)
		}
	}
}

var atOnce = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// gather makes up the next round: the oldest batch of each log that has one, as
// far as roundBytes goes. It reports whether there is any. Logs that do not fit
// come first in the round after, so a busy shard keeps none waiting for long.
func (s *sender) gather() bool {
	s.round = s.round[:0]
	for bytes := 0; bytes < roundBytes; {
		if s.next == len(s.due) {
			s.next = 0
			if s.due = s.w.dequeue(s.due); len(s.due) == 0 {
				break
			}
		}
		l := s.due[s.next]
		s.next++
		if b := l.take(); b != nil {
			s.round = append(s.round, shipment{log: l, batch: b})
			bytes += len(b.buf)
		}
	}
	return len(s.round) > 0
}

// send sends the round in one pipeline and hands each log its outcome.
func (s *sender) send(ctx context.Context) {
	start := time.Now()
	pipe := s.w.client.Pipeline()
	for i := range s.round {
		p := &s.round[i]
		p.cmd = redis.NewCmd(ctx, p.batch.command(p.log.key, s.w.maxLen)...)
		_ = pipe.Process(ctx, p.cmd) // queues; the outcome is the command's
	}
	_, _ = pipe.Exec(ctx) // the first error of any command; each is looked at below
	s.w.stats.round(time.Since(start))

	var firstErr error
	var again []*Log
	rewound := 0
	for _, p := range s.round {
		result, err := judge(p)
		if result == failed && s.rewind(p, err) {
			result = behind
		}
		switch result {
		case appended:
			s.w.stats.appended(p.batch)
			s.history.keep(p.log.shard, p.batch)
		case behind:
			rewound++
		case failed:
			s.w.stats.refused.Add(1)
			p.log.close(err)
		case unknownScript:
			p.batch.eval = true
		case unsettled:
			s.w.stats.retries.Add(1)
			if firstErr == nil {
				firstErr = fmt.Errorf("shard %d: append: %w", p.log.shard, err)
			}
		}
		if more := p.log.sent(result); !more {
			continue
		}
		if result == unsettled {
			s.failing = append(s.failing, p.log)
		} else {
			again = append(again, p.log)
		}
	}
	clear(s.round)
	s.w.enqueue(again...)
	if rewound > 0 {
		s.w.logger.Warn("redis lost entries that it had confirmed, appending them again", "shards", rewound)
	}
	if ctx.Err() == nil {
		s.note(firstErr)
	}
}

// rewind makes a log that was refused go on from where its stream really ends,
// if that is behind what was confirmed and all that is missing is still known.
func (s *sender) rewind(p shipment, err error) bool {
	var refused *RefusedError
	if !errors.As(err, &refused) || !refused.Behind() {
		return false
	}
	first, last := s.history.between(p.log.shard, refused.Tail, refused.Want)
	if first == nil {
		return false
	}
	s.w.stats.rewinds.Add(1)
	p.log.rewind(refused.Tail, first, last)
	return true
}

// outcome is what became of a batch.
type outcome int

const (
	appended      outcome = iota // it is in the stream
	behind                       // not yet: the stream has lost what comes before, which comes first
	failed                       // it can never be: the log has failed
	unknownScript                // the server does not know the script; send its text
	unsettled                    // no answer, or one that time may change: send it again
)

// judge reads a reply. Errors say failed only where sending the same batch again
// could not help; all others pass with time or with an operator's hand: lost
// connections and timeouts, whose outcome is unknown, LOADING, READONLY,
// CLUSTERDOWN, TRYAGAIN, NOREPLICAS, MASTERDOWN, OOM, MISCONF, BUSY, NOAUTH and
// whatever else a server thinks of.
func judge(p shipment) (outcome, error) {
	reply, err := p.cmd.Text()
	switch {
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		return unknownScript, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return failed, fmt.Errorf("append to %s: %w", p.log.key, err)
	case err != nil:
		return unsettled, err
	}
	tail, err := ParseID(reply)
	switch {
	case err != nil:
		return failed, fmt.Errorf("append: the stream's end: %w", err)
	case tail != p.batch.last:
		return failed, &RefusedError{Shard: p.log.shard, Want: p.batch.prev, Tail: tail}
	}
	return appended, nil
}

// note keeps track of trouble after a round, and logs when it begins and ends.
func (s *sender) note(err error) {
	if err != nil {
		if s.since.IsZero() {
			s.since = time.Now()
			s.w.stats.failing.Store(&trouble{since: s.since, err: err})
			s.w.logger.Warn("redis does not take entries, keeping them", "error", err)
		}
		if !s.armed {
			s.timer.Reset(backoff(s.attempt))
			s.attempt++
			s.armed = true
		}
		return
	}
	if !s.since.IsZero() && len(s.failing) == 0 {
		s.over("redis takes entries again")
	}
}

// over ends the trouble.
func (s *sender) over(how string) {
	s.w.logger.Info(how, "after", time.Since(s.since))
	s.w.stats.failing.Store(nil)
	s.since, s.attempt = time.Time{}, 0
}

// retry makes the failing logs due again. Those that were closed meanwhile have
// nothing to send; if there are no others, nobody would notice that the trouble is
// over.
func (s *sender) retry() {
	s.armed = false
	open := slices.DeleteFunc(s.failing, func(l *Log) bool { return l.Err() != nil })
	s.w.enqueue(open...)
	if len(open) == 0 && !s.since.IsZero() {
		s.over("nothing is left that redis has not taken")
	}
	clear(s.failing)
	s.failing = s.failing[:0]
}

// backoff returns how long to wait after the given number of failed attempts:
// twice as long each time, up to backoffMax, less a random part of up to half so
// that workers do not return in step.
func backoff(attempt int) time.Duration {
	d := min(backoffMin<<min(attempt, 10), backoffMax)
	return d - rand.N(d/2)
}
