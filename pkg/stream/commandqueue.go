package stream

import (
	"context"
	_ "embed"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// commandWindow is how many commands of a shard are read and not yet settled
	// at most. The others wait in Redis.
	commandWindow = 64
	// deadCommands is how many dead letters of a shard are kept.
	deadCommands = 1000
)

//go:embed commandbury.lua
var burySource string

var buryCommandScript = redis.NewScript(burySource)

// CommandQueue is the commands of one shard on their way from Redis to the
// shard's owner, in the order of their ids.
//
// What is in the stream is what has to be sent: whoever owns the shard begins
// with the oldest entry, and removes each when its fate is settled. So there is
// nothing to hand over and nothing to claim, and one who believes to be the
// owner, and reads, takes nothing away from the one who is.
type CommandQueue struct {
	r     *CommandReader
	shard int
	key   string
	ready chan QueuedCommand // never full: what is in it is in known

	mu      sync.Mutex
	reading bool
	closed  bool
	known   map[string]bool // ids of what was read and is not settled
	last    string          // id read last while something is known
	aside   time.Time       // until when the stream, which cannot be read, is left alone
}

// QueuedCommand is a command that waits to be sent. Its owner settles it once:
// by Done when it was sent, by Bury when it never can be. One that is not settled
// stays in Redis for the shard's next owner.
type QueuedCommand struct {
	Command
	ID  string // its entry's
	Err error  // why it cannot be understood; op and d may be missing then

	q     *CommandQueue
	op, d string // as found
}

// Commands is where the shard's commands come from. It is never closed.
func (q *CommandQueue) Commands() <-chan QueuedCommand { return q.ready }

// SetReading says whether commands are to be read now. At first they are not.
func (q *CommandQueue) SetReading(reading bool) {
	q.mu.Lock()
	q.reading = reading
	q.mu.Unlock()
	if reading {
		q.r.ring()
	}
}

// Close ends the reading for good. What was read can still be settled.
func (q *CommandQueue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.r.forget(q)
}

// from is the id to read after, and whether to read at all.
//
// With nothing unsettled it is the stream's beginning. That is where it stands,
// since all before was removed; and what is there nevertheless, because Redis
// lost the removal in a failover or gives smaller ids than before it, is found.
func (q *CommandQueue) from(now time.Time) (after string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.reading || q.closed || len(q.known) >= commandWindow || now.Before(q.aside) {
		return "", false
	}
	if len(q.known) == 0 {
		return ID{}.String(), true
	}
	return q.last, true
}

// push takes in what was read, as far as there is room.
func (q *CommandQueue) push(entries []redis.XMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.aside = time.Time{}
	for _, x := range entries {
		if q.closed || len(q.known) >= commandWindow {
			return
		}
		q.known[x.ID], q.last = true, x.ID
		c := QueuedCommand{ID: x.ID, q: q}
		c.op, _ = x.Values[fieldOp].(string)
		c.d, _ = x.Values[fieldData].(string)
		c.Command, c.Err = parseCommand(x.Values)
		q.ready <- c
	}
}

// putAside leaves the stream alone for a while, and reports whether it was not
// already known to be unreadable.
func (q *CommandQueue) putAside(now time.Time) (news bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	news = q.aside.IsZero()
	q.aside = now.Add(commandAside)
	return news
}

func (q *CommandQueue) settled(id string) {
	q.mu.Lock()
	full := len(q.known) >= commandWindow
	delete(q.known, id)
	q.mu.Unlock()
	if full {
		q.r.ring()
	}
}

// Done removes a command that was sent. It tries until Redis has done it, or ctx
// ends: then the command may be sent again by the shard's next owner.
func (c QueuedCommand) Done(ctx context.Context) error {
	return c.settle(ctx, "remove", func() error {
		return c.q.r.client.XDel(ctx, c.q.key, c.ID).Err()
	})
}

// Bury moves a command that can never be sent to the shard's dead letters, in one
// step, and trims these. It tries for as long as Done does.
func (c QueuedCommand) Bury(ctx context.Context, reason string) error {
	keys := []string{c.q.key, DeadCommandsKey(c.q.r.opts.Cluster, c.q.shard)}
	at := time.Now().UnixMilli()
	return c.settle(ctx, "bury", func() error {
		err := buryCommandScript.Run(ctx, c.q.r.client, keys, c.ID, deadCommands, bounded(c.op), bounded(c.d), bounded(reason), at).Err()
		if redis.HasErrorPrefix(err, "WRONGTYPE") { // of the dead letters: better without one than to meet it for ever
			err = c.q.r.client.XDel(ctx, c.q.key, c.ID).Err()
		}
		return err
	})
}

// bounded is what a dead letter keeps of a text.
func bounded(text string) string { return text[:min(len(text), MaxCommandBytes)] }

// settle calls do until it succeeds. Where a key of another type is now, the
// command is gone as well.
func (c QueuedCommand) settle(ctx context.Context, what string, do func() error) error {
	outage := &c.q.r.settling
	for attempt := 0; ; attempt++ {
		err := do()
		if err == nil {
			outage.over()
		}
		if err == nil || redis.HasErrorPrefix(err, "WRONGTYPE") {
			c.q.settled(c.ID)
			return nil
		}
		outage.note(err)
		pause(ctx, backoff(attempt))
		if ctx.Err() != nil {
			return fmt.Errorf("shard %d: %s command %s: %w", c.q.shard, what, c.ID, err)
		}
	}
}
