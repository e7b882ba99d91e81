package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// commandPump sends the commands that Redis has for one shard, for as long as one session of it runs.
//
// Order is kept within a lane, which has one command on its way at a time. So a command that is held back by a limit of Discord's holds
// back only those that must not overtake it, and one that has to be repeated is still the first of its lane.
//
// A command leaves Redis when it is written to the socket, not before. It is sent again where nobody can know whether Discord has it: the
// connection broke while it was being written, or the worker died before it could remove it. Once too often is better than never, since all
// that Discord lets a bot send says how something shall be, or asks for something.
type commandPump struct {
	queue   *stream.CommandQueue
	session commandSender
	gate    func(context.Context) error // returns when this worker may speak for the shard
	metrics *commandMetrics
	log     hclog.Logger
	keep    context.Context // for settling what was sent when the session has ended
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	quiet   atomic.Bool  // no more commands are sent
	warned  atomic.Int64 // when a bad command was last warned of, in Unix seconds

	// These belong to run.
	lanes map[commandLane][]stream.QueuedCommand // those with a command on its way, and what waits behind it
	free  chan commandLane                       // a lane's command is settled, or never will be
}

// commandSender is what the pump needs of a shard.Session.
type commandSender interface {
	Send(context.Context, shard.Command) error
}

// startCommands begins to send the shard's commands whenever its session is live, until ctx ends.
func (a *attempt) startCommands(ctx context.Context, session *shard.Session) {
	a.commands = &commandPump{
		queue: a.in.worker.commands.Open(a.id.Shard), session: session, gate: a.in.reg.AwaitTrust, metrics: a.in.worker.metrics.commands,
		log: a.log.Named("commands"), keep: a.keep,
	}
	a.commands.start(ctx)
}

func (p *commandPump) start(ctx context.Context) {
	p.lanes, p.free = map[commandLane][]stream.QueuedCommand{}, make(chan commandLane)
	ctx, p.cancel = context.WithCancel(ctx)
	p.ended.Go(func() { p.run(ctx) })
}

// observe is told of the session's changes.
func (p *commandPump) observe(now shard.State) {
	p.queue.SetReading(now == shard.StateLive)
}

// quiesce sends no more commands, though the session goes on: what Discord would answer may come too late for it.
func (p *commandPump) quiesce() { p.quiet.Store(true) }

// stop takes no more commands, and returns when those that were sent are removed from Redis, or cannot be in time. The session must have
// ended: what it had not sent it turned away, and that stays where it is.
func (p *commandPump) stop() {
	p.cancel()
	p.ended.Wait()
}

func (p *commandPump) run(ctx context.Context) {
	defer p.queue.Close()
	for {
		select {
		case <-ctx.Done():
			for len(p.lanes) > 0 {
				delete(p.lanes, <-p.free)
			}
			return
		case c := <-p.queue.Commands():
			lane := laneOf(c)
			waiting, busy := p.lanes[lane]
			if busy {
				p.lanes[lane] = append(waiting, c)
				continue
			}
			p.lanes[lane] = nil
			p.send(ctx, lane, c)
		case lane := <-p.free:
			waiting := p.lanes[lane]
			if len(waiting) == 0 {
				delete(p.lanes, lane)
				continue
			}
			p.lanes[lane] = waiting[1:]
			p.send(ctx, lane, waiting[0])
		}
	}
}

// send sends a command, beside the loop, and settles it.
func (p *commandPump) send(ctx context.Context, lane commandLane, c stream.QueuedCommand) {
	go func() {
		defer func() { p.free <- lane }()
		p.settle(c, p.try(ctx, c))
	}()
}

var (
	errCommandExpired = errors.New("expired")
	errCommandBad     = errors.New("bad command")
	errQuiet          = errors.New("the session is about to end")
)

// try sends a command. Its error is errCommandExpired, errCommandBad, or says that the session has ended, or is about to.
func (p *commandPump) try(ctx context.Context, c stream.QueuedCommand) error {
	err := c.Err
	if err == nil {
		err = checkCommand(c.Op, c.Data)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errCommandBad, err)
	}
	if !c.Expires.IsZero() {
		if !time.Now().Before(c.Expires) {
			return errCommandExpired
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, c.Expires, errCommandExpired)
		defer cancel()
	}
	retry := newRetry()
	for {
		// Whoever cannot be sure to own the shard any more leaves its commands to who does.
		if err := p.gate(ctx); err != nil {
			return err
		}
		if p.quiet.Load() {
			return errQuiet
		}
		err := p.session.Send(ctx, shard.Raw{Op: c.Op, Data: c.Data})
		switch {
		case errors.Is(err, shard.ErrUnknownOutcome):
			p.metrics.repeated.Add(1)
			p.log.Debug("command is sent again: the connection broke while it was being written", "command", c.ID, "op", c.Op)
		case errors.Is(err, shard.ErrQueueFull):
		case errors.Is(err, shard.ErrBadCommand):
			return fmt.Errorf("%w: %w", errCommandBad, err)
		default:
			return err
		}
		wait(ctx, retry.NextBackOff())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// settle does what follows from how a command's sending ended.
func (p *commandPump) settle(c stream.QueuedCommand, sent error) {
	var err error
	switch {
	case sent == nil:
		p.metrics.sent.Add(1)
		err = c.Done(p.keep)
	case errors.Is(sent, errCommandExpired):
		p.metrics.expired.Add(1)
		p.log.Debug("command dropped: it has expired", "command", c.ID, "op", c.Op, "expired", c.Expires)
		err = c.Bury(p.keep, errCommandExpired.Error())
	case errors.Is(sent, errCommandBad):
		p.metrics.bad.Add(1)
		p.log.Log(p.level(time.Now()), "command dropped: it can never be sent; its dead letter says why", "command", c.ID, "op", c.Op)
		err = c.Bury(p.keep, sent.Error())
	default:
		p.log.Debug("command left to the shard's next session", "command", c.ID, "op", c.Op, "why", sent)
	}
	if err != nil {
		p.log.Warn("command not removed from redis; it may be sent again", "error", err)
	}
}

// level is at what to log that a command is bad: somebody should know, but not of a thousand of them.
func (p *commandPump) level(now time.Time) hclog.Level {
	last := p.warned.Load()
	if now.Unix()-last < 60 || !p.warned.CompareAndSwap(last, now.Unix()) {
		return hclog.Debug
	}
	return hclog.Warn
}

// commandLane is what keeps its order: commands of one opcode, for op 8 those of one guild. It is that of shard.Session.
type commandLane struct {
	op    int
	guild snowflake
}

func laneOf(c stream.QueuedCommand) commandLane {
	lane := commandLane{op: c.Op}
	if c.Op == opRequestMembers {
		var d struct {
			Guild snowflake `json:"guild_id"`
		}
		if json.Unmarshal(c.Data, &d) == nil {
			lane.guild = d.Guild
		}
	}
	return lane
}
