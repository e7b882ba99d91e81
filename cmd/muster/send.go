package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

type sendCmd struct {
	config.Redis
	config.Cluster
	Shard    *int          `xor:"to" required:"" placeholder:"N" help:"Send by way of this shard."`
	Guild    *uint64       `xor:"to" required:"" placeholder:"ID" help:"Send by way of the shard that has this guild."`
	All      bool          `xor:"to" required:"" help:"Send by way of every shard."`
	Op       *int          `xor:"what" required:"" placeholder:"N" help:"Opcode of the command: 3, 4, 8, 31 or 43."`
	Data     string        `placeholder:"JSON" help:"Its d, with --op."`
	Presence string        `xor:"what" required:"" placeholder:"JSON" help:"Change the presence, such as {\"status\":\"idle\"}: op 3 with what is left out filled in."`
	Expires  time.Duration `placeholder:"DURATION" help:"Do not send it any more after this time (never)."`
	Wait     time.Duration `placeholder:"DURATION" help:"Wait this long at most, and say what became of it (do not)."`
}

// askEvery is how often a command that is waited for is looked at.
const askEvery = 100 * time.Millisecond

// Run puts the command into Redis, and says where.
func (c *sendCmd) Run(ctx context.Context) error {
	cmd, err := c.command(time.Now())
	if err != nil {
		return badInput{err}
	}
	client, err := stream.Open(string(c.Redis.URL))
	if err != nil {
		return badInput{err}
	}
	defer client.Close()
	commands := stream.NewCommands(client, c.Name)
	refs, err := c.put(ctx, commands, cmd)
	for _, ref := range refs {
		fmt.Printf("shard %d: put into its stream as %s\n", ref.Shard, ref.ID)
	}
	switch {
	case errors.Is(err, stream.ErrBadCommand), errors.As(err, new(*stream.NoShardError)):
		return badInput{err}
	case err != nil:
		return err
	case c.Wait > 0:
		return await(ctx, os.Stdout, commands, refs, c.Wait)
	}
	return nil
}

// command is what the flags say.
func (c *sendCmd) command(now time.Time) (stream.Command, error) {
	if c.Expires < 0 || c.Wait < 0 {
		return stream.Command{}, errors.New("--expires and --wait must not be negative")
	}
	if (c.Op != nil) != (c.Data != "") {
		return stream.Command{}, errors.New("--op and --data go together")
	}
	var cmd stream.Command
	if c.Op != nil {
		cmd = stream.Command{Op: *c.Op, Data: json.RawMessage(c.Data)}
	} else {
		d, err := presence(c.Presence)
		if err != nil {
			return stream.Command{}, err
		}
		cmd = stream.Command{Op: 3, Data: d}
	}
	if c.Expires > 0 {
		cmd.Expires = now.Add(c.Expires)
	}
	return cmd, nil
}

// presence is the d of op 3, in which Discord wants every member.
func presence(text string) (json.RawMessage, error) {
	p, err := shard.ParsePresence(text)
	if err != nil {
		return nil, fmt.Errorf("--presence: %w", err)
	}
	if p.Activities == nil {
		p.Activities = []shard.Activity{}
	}
	return json.Marshal(p)
}

func (c *sendCmd) put(ctx context.Context, commands *stream.Commands, cmd stream.Command) ([]stream.CommandRef, error) {
	if c.All {
		return commands.ToAll(ctx, cmd)
	}
	var ref stream.CommandRef
	var err error
	if c.Guild != nil {
		ref, err = commands.ToGuild(ctx, *c.Guild, cmd)
	} else {
		ref, err = commands.To(ctx, *c.Shard, cmd)
	}
	if err != nil {
		return nil, err
	}
	return []stream.CommandRef{ref}, nil
}

// await says what became of each command, once it is known.
func await(ctx context.Context, out io.Writer, commands *stream.Commands, refs []stream.CommandRef, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	ticker := time.NewTicker(askEvery)
	defer ticker.Stop()
	unclean := false
	for {
		var waiting []stream.CommandRef
		for _, ref := range refs {
			fate, err := commands.Fate(ctx, ref)
			switch {
			case err != nil:
				return err
			case fate.Waiting:
				waiting = append(waiting, ref)
			case fate.Dropped != "":
				unclean = true
				fmt.Fprintf(out, "shard %d: dropped: %s\n", ref.Shard, fate.Dropped)
			default:
				fmt.Fprintf(out, "shard %d: sent\n", ref.Shard)
			}
		}
		if refs = waiting; len(refs) == 0 {
			break
		}
		select {
		case <-ticker.C:
			continue
		case <-ctx.Done():
		}
		for _, ref := range refs {
			fmt.Fprintf(out, "shard %d: still to be sent\n", ref.Shard)
		}
		return errUnclean
	}
	if unclean {
		return errUnclean
	}
	return nil
}
