//go:build unix

package main

import (
	"context"
	"fmt"
	"time"
)

// assign starts all workers at once, and ends when every range has an owner who has seen to every shard: its session is there, or it has
// asked for a slot to begin one.
func (s *stage) assign(ctx context.Context) error {
	lap, err := s.lap(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	s.fleet.start(ctx, s.workers)
	if _, err := s.await(ctx, "workers", func(c count) bool { return c.workers == s.workers }); err != nil {
		return err
	}
	registered := time.Since(began)
	if _, err := s.await(ctx, "all ranges owned", func(c count) bool { return c.owned == c.plan.Ranges() }); err != nil {
		return err
	}
	owned := time.Since(began)
	scene, what, so := "all workers start, no shard has a session", "all shards have asked for a slot", func(c count) bool { return c.asked == s.shards }
	if s.sessions {
		scene, what, so = "all workers start, every shard has a session", "all shards live", func(c count) bool { return c.live == s.shards }
	}
	if _, err := s.await(ctx, what, so); err != nil {
		return err
	}
	return lap(scene, fmt.Sprintf("all registered after %.1f s, all ranges owned after %.1f s, %s after %.1f s",
		registered.Seconds(), owned.Seconds(), what, time.Since(began).Seconds()))
}

// identify watches shards identify while all the others wait.
func (s *stage) identify(ctx context.Context) error {
	if s.rounds == 0 {
		return nil
	}
	identified := func() int { return int(s.fleet.identified.Load()) }
	if _, err := s.awaitIdentified(ctx, identified()+1); err != nil { // a round begins
		return err
	}
	lap, err := s.lap(ctx)
	if err != nil {
		return err
	}
	took, err := s.awaitIdentified(ctx, identified()+s.rounds*s.concurrency)
	if err != nil {
		return err
	}
	ideal := time.Duration(s.rounds) * 5 * time.Second
	return lap("shards identify, the others wait", fmt.Sprintf("%d rounds of %d in %.1f s, %.3f of the time that Discord wants",
		s.rounds, s.concurrency, took.Seconds(), took.Seconds()/ideal.Seconds()))
}

func (s *stage) awaitIdentified(ctx context.Context, n int) (took time.Duration, err error) {
	began := time.Now()
	_, err = s.await(ctx, fmt.Sprintf("%d shards identified", n), func(count) bool { return int(s.fleet.identified.Load()) >= n })
	return time.Since(began), err
}

// stayPut watches a cluster in which nothing happens.
func (s *stage) stayPut(ctx context.Context) error {
	if err := s.wait(ctx, 15*time.Second); err != nil { // for what went before to be over
		return err
	}
	before := s.observer.count().moves
	lap, err := s.lap(ctx)
	if err != nil {
		return err
	}
	if err := s.wait(ctx, s.steady); err != nil {
		return err
	}
	return lap("nothing happens", fmt.Sprintf("%d moves", s.observer.count().moves-before))
}

// joinMore starts more workers, and ends when they have their part.
func (s *stage) joinMore(ctx context.Context) error {
	if s.join == 0 {
		return nil
	}
	before := s.observer.count().moves
	lap, err := s.lap(ctx)
	if err != nil {
		return err
	}
	s.fleet.start(ctx, s.join)
	scene := fmt.Sprintf("%d workers join", s.join)
	took, err := s.awaitCalm(ctx, scene)
	if err != nil {
		return err
	}
	c := s.observer.count()
	all := s.workers + s.join
	note := fmt.Sprintf("%d moves, at least %d needed; the last after %.1f s", c.moves-before, s.join*(c.plan.Ranges()/all), took.Seconds())
	return lap(scene, note)
}

// calm is how long nothing must move for a scene to be over. It is longer than a leader waits before it balances.
const calm = 6 * time.Second

// awaitCalm waits until nothing has moved for a while, and says when the last move was over.
func (s *stage) awaitCalm(ctx context.Context, what string) (took time.Duration, err error) {
	began := time.Now()
	last, moves := began, s.observer.count().moves
	_, err = s.await(ctx, what+", until nothing moves", func(c count) bool {
		if c.moving > 0 || c.moves != moves || c.owned < c.plan.Ranges() {
			last, moves = time.Now(), c.moves
		}
		return time.Since(last) > calm
	})
	return last.Sub(began), err
}

// loseLeader kills the leader's process, and ends when another leads.
func (s *stage) loseLeader(ctx context.Context) error {
	if len(s.replicas) < 2 {
		return nil
	}
	was := s.observer.count().leader
	p := s.replicas[was]
	before := s.observer.count().moves
	began := time.Now()
	p.Kill()
	delete(s.replicas, was)
	if _, err := s.await(ctx, "another leader", func(c count) bool { return c.leader != was }); err != nil {
		return err
	}
	took := time.Since(began)
	s.table.add(measured{scene: "the leader is killed", elapsed: took, note: fmt.Sprintf("another leads after %.1f s; %d moves", took.Seconds(), s.observer.count().moves-before)})
	s.say("another leads after %.1f s", took.Seconds())
	return nil
}

// loseMany kills workers together, and ends when what they had is live elsewhere.
func (s *stage) loseMany(ctx context.Context) error {
	if s.die == 0 {
		return nil
	}
	if err := s.wait(ctx, calm); err != nil {
		return err
	}
	lap, err := s.lap(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.fleet.kill(s.die); err != nil {
		return err
	}
	left := len(s.fleet.alive)
	var gone time.Time
	if _, err := s.await(ctx, "the dead expired", func(c count) bool {
		if gone.IsZero() && c.workers < left+s.die {
			gone = time.Now()
		}
		return c.workers == left
	}); err != nil {
		return err
	}
	expired := time.Since(began)
	if _, err := s.await(ctx, "all ranges owned", func(c count) bool { return c.owned == c.plan.Ranges() }); err != nil {
		return err
	}
	owned := time.Since(began)
	if _, err := s.await(ctx, "all shards live", func(c count) bool { return c.live == s.shards }); err != nil {
		return err
	}
	scene := fmt.Sprintf("%d workers die at once", s.die)
	note := fmt.Sprintf("the first expires after %.1f s, the last after %.1f s, all ranges owned after %.1f s, all shards live after %.1f s",
		gone.Sub(began).Seconds(), expired.Seconds(), owned.Seconds(), time.Since(began).Seconds())
	return lap(scene, note)
}

func (s *stage) wait(ctx context.Context, d time.Duration) error {
	pause(ctx, d)
	return context.Cause(ctx)
}
