package stream

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// Waits between two looks at what is new, when the last one woke nobody: the
// shards that have news are being handled anyway.
const (
	watchPauseMin = time.Millisecond
	watchPauseMax = 20 * time.Millisecond
)

// awaitNews wakes the tenures that wait for new entries, until ctx ends.
//
// One blocking command watches all shards, also those that are not waiting yet:
// a shard that begins to wait while the command blocks is in it already. From
// where it is watched makes that sound. A tenure that handles entries will read
// once more before it waits, so what comes after this moment is enough ("$"); one
// that reads or waits has seen the stream up to its position only.
func (g *group) awaitNews(ctx context.Context) {
	quiet := time.Duration(0)
	for {
		if !g.anyWaiting() {
			select {
			case <-ctx.Done():
				return
			case <-g.watch:
				continue
			}
		}
		woken, err := g.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // those who read notice, and say so
			quiet = watchPauseMax
		case woken:
			quiet = 0
			continue
		default:
			quiet = min(max(2*quiet, watchPauseMin), watchPauseMax)
		}
		pause(ctx, quiet)
	}
}

func (g *group) anyWaiting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.tenures {
		if t.state == waiting {
			return true
		}
	}
	return false
}

// look waits for news of any shard, but not for long, and reports whether a
// tenure had been waiting for them.
func (g *group) look(ctx context.Context) (woken bool, err error) {
	if !oneServer(g.r.client) {
		return g.lookEach(ctx)
	}
	g.mu.Lock()
	keys, ids := make([]string, 0, 2*len(g.tenures)), make([]string, 0, len(g.tenures))
	for _, t := range g.tenures {
		from := t.position
		if t.state == handling {
			from = "$"
		}
		keys, ids = append(keys, t.keys[0]), append(ids, from)
	}
	g.mu.Unlock()
	if len(keys) == 0 {
		return false, nil
	}
	found, err := g.r.client.XRead(ctx, &redis.XReadArgs{Streams: append(keys, ids...), Count: 1, Block: readBlock}).Result()
	if errors.Is(err, redis.Nil) {
		return true, nil // nothing for readBlock
	}
	return g.wake(found), err
}

// lookEach asks for the shards that wait, in one pipeline: a Redis Cluster has no
// command for several slots, and a blocking one would hold the others up.
func (g *group) lookEach(ctx context.Context) (woken bool, err error) {
	pipe := g.r.client.Pipeline()
	g.mu.Lock()
	for _, t := range g.tenures {
		if t.state == waiting {
			pipe.XRead(ctx, &redis.XReadArgs{Streams: []string{t.keys[0], t.position}, Count: 1, Block: -1})
		}
	}
	g.mu.Unlock()
	cmds, _ := pipe.Exec(ctx) // each command has its own error
	for _, cmd := range cmds {
		found, cmdErr := cmd.(*redis.XStreamSliceCmd).Result()
		if g.wake(found) {
			woken = true
		}
		if cmdErr != nil && !errors.Is(cmdErr, redis.Nil) {
			err = cmdErr
		}
	}
	if !woken {
		pause(ctx, readPoll)
	}
	return woken, err
}

func (g *group) wake(found []redis.XStream) (woken bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range found {
		for _, t := range g.tenures {
			if t.keys[0] == s.Stream {
				signal(t.news)
				woken = woken || t.state == waiting
			}
		}
	}
	return woken
}
