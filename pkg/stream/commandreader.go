package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"
)

const (
	// commandBlock is how long Redis holds an empty answer back. A shard whose
	// commands are read from now on waits that long at most.
	commandBlock = 500 * time.Millisecond
	// commandAside is how long a stream is left alone that cannot be read because
	// its key is something else.
	commandAside = 30 * time.Second

	// An answer carries up to commandRound entries, or one of each stream if that
	// is more; of one stream no more than commandRead.
	commandRound = 1024
	commandRead  = 16

	// After an answer with something in it the next is asked for a little later,
	// in proportion to the number of streams that the question names: many of them
	// with a few commands a second each would cost Redis a question a command.
	commandRest = 20 * time.Microsecond
	// A Redis Cluster is asked stream by stream, this much apart or at least
	// commandPoll.
	commandAsk  = 200 * time.Microsecond
	commandPoll = 50 * time.Millisecond
)

// CommandReaderOptions of a CommandReader.
type CommandReaderOptions struct {
	// Cluster is the name all keys begin with. Required.
	Cluster string
	// Logger gets a line when Redis stops answering and one when it answers again,
	// and one for each stream that cannot be read. Nil logs nothing.
	Logger hclog.Logger
}

// CommandReader reads the commands for all shards of a process. Run asks for them
// all over one connection, which Redis answers when there is one; a Redis Cluster,
// where a question may not name several shards, is asked for each at intervals.
//
// Its methods may be called from any goroutine.
type CommandReader struct {
	client   Client
	opts     CommandReaderOptions
	logger   hclog.Logger
	wake     chan struct{} // holds one token when there may be something to ask for
	asking   outage        // Redis does not answer
	settling outage        // it does not do what settles commands

	mu     sync.Mutex
	queues map[int]*CommandQueue
}

// NewCommandReader returns a reader; it reads nothing before Run.
func NewCommandReader(client Client, opts CommandReaderOptions) *CommandReader {
	logger := opts.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	return &CommandReader{
		client: client, opts: opts, logger: logger, wake: make(chan struct{}, 1), queues: map[int]*CommandQueue{},
		asking:   outage{logger: logger, trouble: "commands cannot be read", relief: "commands can be read again"},
		settling: outage{logger: logger, trouble: "commands cannot be removed", relief: "commands can be removed again"},
	}
}

// Open returns the queue of a shard's commands, for its owner. A shard has one at
// a time: Close the one before.
func (r *CommandReader) Open(shard int) *CommandQueue {
	q := &CommandQueue{
		r: r, shard: shard, key: CommandsKey(r.opts.Cluster, shard),
		ready: make(chan QueuedCommand, commandWindow), known: map[string]bool{},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queues[shard] = q
	return q
}

// forget lets go of a closed queue.
func (r *CommandReader) forget(q *CommandQueue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.queues[q.shard] == q {
		delete(r.queues, q.shard)
	}
}

func (r *CommandReader) ring() {
	select {
	case r.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Run reads until ctx ends and then returns nil, which takes until Redis answers
// what it was asked, half a second, or until the client gives up on it.
func (r *CommandReader) Run(ctx context.Context) error {
	for attempt := 0; ctx.Err() == nil; {
		asked := r.questions(time.Now())
		if len(asked) == 0 {
			r.await(ctx, commandBlock)
			continue
		}
		rest, err := r.round(ctx, asked)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			r.asking.note(err)
			pause(ctx, backoff(attempt))
			attempt++
			continue
		}
		r.asking.over()
		attempt = 0
		pause(ctx, rest)
	}
	return nil
}

// await waits for something to ask for.
func (r *CommandReader) await(ctx context.Context, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-r.wake:
	case <-timer.C: // a stream may have been aside for long enough
	}
}

// question asks for what a queue's stream holds after an id.
type question struct {
	queue *CommandQueue
	after string
}

// questions are those of all queues that want something.
func (r *CommandReader) questions(now time.Time) []question {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := make([]question, 0, len(r.queues))
	for _, q := range r.queues {
		if after, ok := q.from(now); ok {
			asked = append(asked, question{q, after})
		}
	}
	return asked
}

// round asks once, hands on the answer, and says how long to rest.
func (r *CommandReader) round(ctx context.Context, asked []question) (rest time.Duration, err error) {
	if !oneServer(r.client) {
		rest = max(commandPoll, time.Duration(len(asked))*commandAsk)
		return rest, r.askEach(ctx, asked)
	}
	some, err := r.askAll(ctx, asked)
	if redis.HasErrorPrefix(err, "WRONGTYPE") { // of one stream, and the answer does not say which
		return 0, r.askEach(ctx, asked)
	}
	if some {
		rest = time.Duration(len(asked)) * commandRest
	}
	return rest, err
}

// askAll asks for all with one command, which waits for the first to come.
func (r *CommandReader) askAll(ctx context.Context, asked []question) (some bool, err error) {
	args := []any{"xread", "count", perQueue(asked), "block", r.block().Milliseconds(), "streams"}
	queues := make(map[string]*CommandQueue, len(asked))
	for _, question := range asked {
		queues[question.queue.key] = question.queue
		args = append(args, question.queue.key)
	}
	for _, question := range asked {
		args = append(args, question.after)
	}
	// Made by hand, since XRead would let the client wait ten seconds longer.
	cmd := redis.NewXStreamSliceCmd(ctx, args...)
	_ = r.client.Process(ctx, cmd) // it is the command's error
	streams, err := cmd.Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read commands: %w", err)
	}
	for _, s := range streams {
		if q := queues[s.Stream]; q != nil {
			q.push(s.Messages)
		}
	}
	return len(streams) > 0, nil
}

// askEach asks for each by itself, in one pipeline and without waiting. The error
// is that of the first that failed; the others were read all the same.
func (r *CommandReader) askEach(ctx context.Context, asked []question) (firstErr error) {
	pipe := r.client.Pipeline()
	answers := make([]*redis.XStreamSliceCmd, len(asked))
	for i, question := range asked {
		answers[i] = pipe.XRead(ctx, &redis.XReadArgs{
			Streams: []string{question.queue.key, question.after}, Count: perQueue(asked), Block: -1, // do not block
		})
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, question := range asked {
		streams, err := answers[i].Result()
		switch {
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			if question.queue.putAside(time.Now()) {
				r.logger.Warn("commands of a shard cannot be read: its key is no stream", "shard", question.queue.shard, "key", question.queue.key)
			}
		case err != nil && !errors.Is(err, redis.Nil):
			if firstErr == nil {
				firstErr = fmt.Errorf("read commands: %w", err)
			}
		}
		for _, s := range streams {
			question.queue.push(s.Messages)
		}
	}
	return firstErr
}

// block is how long Redis may hold an answer back before the client takes it for
// dead.
func (r *CommandReader) block() time.Duration {
	if c, ok := r.client.(*redis.Client); ok && c.Options().ReadTimeout > 0 {
		return min(commandBlock, c.Options().ReadTimeout/2)
	}
	return commandBlock
}

func perQueue(asked []question) int64 {
	return int64(max(1, min(commandRead, commandRound/len(asked))))
}
