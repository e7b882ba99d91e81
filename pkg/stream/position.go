package stream

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed position.lua
var positionSource string

// readPosition returns how far a shard's session has come, which is beyond the
// stream's end if events were left out since.
//
// A position is noted together with the end that it was beyond, and counts only
// while that is the end. So whatever is appended, by whomever, and whatever Redis
// loses makes it void, and nobody can skip what is not in the stream yet.
func readPosition(ctx context.Context, client Client, cluster string, shard int, tail ID) (ID, error) {
	text, err := client.Do(ctx, "get", PositionKey(cluster, shard)).Text()
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") { // which is no position of ours
		return tail, nil
	}
	if err != nil {
		return ID{}, fmt.Errorf("shard %d: read position: %w", shard, err)
	}
	return beyond(tail, text), nil
}

// beyond returns the position that text, as position.lua writes it, notes beyond
// tail, or tail itself if that is none.
func beyond(tail ID, text string) ID {
	end, position, _ := strings.Cut(text, " ")
	id, err := ParseID(position)
	if err != nil || end != tail.String() || id.Epoch != tail.Epoch || id.Seq <= tail.Seq {
		return tail
	}
	return id
}

// savePosition queues the command on a pipeline, or sends it with a client. Its
// reply is 1 if the position is noted.
func savePosition(ctx context.Context, to redis.Cmdable, cluster string, shard int, tail, position ID) *redis.Cmd {
	return to.Eval(ctx, positionSource, []string{EventsKey(cluster, shard), PositionKey(cluster, shard)},
		tail.String(), position.Epoch, position.Seq)
}

// Skip notes that the event id, which must be the next, is not to be in the
// stream: a filter leaves it out. What it returns it returns as Append does.
func (l *Log) Skip(id ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return l.err
	case id.Epoch != l.passed.Epoch || id.Seq != l.passed.Seq+1 || l.passed.IsZero():
		return &OrderError{Shard: l.shard, Last: l.passed, ID: id, Reason: "it cannot be skipped: it is not the next in its epoch"}
	}
	l.passed = id
	return nil
}

// GoOnFrom says that an epoch, of which the stream has the marker and nothing
// else, goes on after the event with a sequence number, as a session does that
// was prepared for another number of shards.
func (l *Log) GoOnFrom(seq int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return l.err
	case l.last.IsZero() || l.last.Seq != 0 || l.passed.Seq > seq:
		return &OrderError{Shard: l.shard, Last: l.passed, ID: ID{l.last.Epoch, seq}, Reason: "the epoch has gone on from elsewhere"}
	}
	l.passed.Seq = seq
	return nil
}

// Position returns the last event that was appended or skipped, from which the
// session goes on.
func (l *Log) Position() ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passed
}

// unsaved returns the position if it should be saved: all that was appended is
// in Redis, and events were skipped since.
func (l *Log) unsaved() (tail, position ID, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail, l.passed, l.err == nil && l.tail == l.last && l.passed != l.last && l.passed != l.saved
}

func (l *Log) setSaved(position ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = position
}

// flushPosition saves the position now.
func (l *Log) flushPosition(ctx context.Context) error {
	tail, position, ok := l.unsaved()
	if !ok {
		return nil
	}
	noted, err := savePosition(ctx, l.w.client, l.w.opts.Cluster, l.shard, tail, position).Int()
	if err != nil {
		return fmt.Errorf("shard %d: save position: %w", l.shard, err)
	}
	if noted == 1 { // else the stream ends elsewhere, which the next append would find out
		l.setSaved(position)
	}
	return nil
}

// savePositions saves those of all logs, as far as that works now: what does not
// is tried again the next time.
func (s *sender) savePositions(ctx context.Context) {
	type save struct {
		log      *Log
		position ID
		cmd      *redis.Cmd
	}
	var saves []save
	pipe := s.w.client.Pipeline()
	for _, l := range s.w.openLogs() {
		if tail, position, ok := l.unsaved(); ok {
			saves = append(saves, save{l, position, savePosition(ctx, pipe, s.w.opts.Cluster, l.shard, tail, position)})
		}
	}
	if len(saves) == 0 {
		return
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, save := range saves {
		if noted, err := save.cmd.Int(); err == nil && noted == 1 {
			save.log.setSaved(save.position)
		}
	}
}
