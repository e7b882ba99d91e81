package stream

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Commands puts commands for Discord into the streams of a cluster's shards,
// whose owners send them: see the package documentation of what becomes of one.
// Its methods may be called from any goroutine.
//
// Each looks up first how many shards there are, so a command never goes where
// nobody would read it, and a guild's goes where the guild is now.
type Commands struct {
	client  Client
	cluster string
}

// CommandRef names a command that was put into a stream.
type CommandRef struct {
	Shard int
	ID    string // its entry's
}

// NewCommands returns the commands of a cluster.
func NewCommands(client Client, cluster string) *Commands {
	return &Commands{client: client, cluster: cluster}
}

// NoShardError says that the cluster has no such shard.
type NoShardError struct{ Shard, Shards int }

func (e *NoShardError) Error() string {
	return fmt.Sprintf("no shard %d: the cluster has %d, from 0", e.Shard, e.Shards)
}

// To puts cmd into a shard's stream. The error is an ErrBadCommand, a
// *NoShardError, ErrNoCluster, or Redis'; with one of Redis' the command may be
// there all the same.
func (c *Commands) To(ctx context.Context, shard int, cmd Command) (CommandRef, error) {
	return c.one(ctx, cmd, func(shards int) (int, error) {
		if shard < 0 || shard >= shards {
			return 0, &NoShardError{Shard: shard, Shards: shards}
		}
		return shard, nil
	})
}

// ToGuild is To for the shard that has a guild (Discord: Gateway, Sharding).
func (c *Commands) ToGuild(ctx context.Context, guild uint64, cmd Command) (CommandRef, error) {
	return c.one(ctx, cmd, func(shards int) (int, error) { return int((guild >> 22) % uint64(shards)), nil })
}

func (c *Commands) one(ctx context.Context, cmd Command, pick func(shards int) (int, error)) (CommandRef, error) {
	refs, err := c.put(ctx, cmd, func(shards int) ([]int, error) {
		shard, err := pick(shards)
		return []int{shard}, err
	})
	if err != nil {
		return CommandRef{}, err
	}
	return refs[0], nil
}

// ToAll puts cmd into the stream of every shard, as a presence needs it. With an
// error, the references are those that were put for certain.
func (c *Commands) ToAll(ctx context.Context, cmd Command) ([]CommandRef, error) {
	return c.put(ctx, cmd, func(shards int) ([]int, error) {
		all := make([]int, shards)
		for i := range all {
			all[i] = i
		}
		return all, nil
	})
}

// put adds cmd to the streams of the shards that pick picks, in one pipeline.
func (c *Commands) put(ctx context.Context, cmd Command, pick func(shards int) ([]int, error)) ([]CommandRef, error) {
	fields, err := cmd.fields()
	if err != nil {
		return nil, err
	}
	published, err := ReadCluster(ctx, c.client, c.cluster)
	if err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	shards, err := pick(published.Shards)
	if err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	pipe := c.client.Pipeline()
	added := make([]*redis.StringCmd, len(shards))
	for i, shard := range shards {
		added[i] = pipe.XAdd(ctx, &redis.XAddArgs{Stream: CommandsKey(c.cluster, shard), Values: fields})
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	refs := make([]CommandRef, 0, len(shards))
	var errs []error
	for i, shard := range shards {
		id, err := added[i].Result()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		refs = append(refs, CommandRef{Shard: shard, ID: id})
	}
	if len(errs) > 0 {
		return refs, fmt.Errorf("send command: failed for %d of %d shards: %w", len(errs), len(shards), errs[0])
	}
	return refs, nil
}

// CommandFate is what became of a command.
type CommandFate struct {
	Waiting bool   // it is still to be sent
	Dropped string // why it was not sent and never will be; empty if it was
}

// Fate tells what became of a command. One that was dropped so long ago that its
// dead letter is gone counts as sent.
func (c *Commands) Fate(ctx context.Context, ref CommandRef) (CommandFate, error) {
	entries, err := c.client.XRange(ctx, CommandsKey(c.cluster, ref.Shard), ref.ID, ref.ID).Result()
	if err != nil {
		return CommandFate{}, fmt.Errorf("look for command %s of shard %d: %w", ref.ID, ref.Shard, err)
	}
	if len(entries) > 0 {
		return CommandFate{Waiting: true}, nil
	}
	// It leaves one stream for the other in one step, so it is not missed.
	dead, err := c.client.XRevRange(ctx, DeadCommandsKey(c.cluster, ref.Shard), "+", "-").Result()
	if err != nil {
		return CommandFate{}, fmt.Errorf("look for command %s of shard %d: %w", ref.ID, ref.Shard, err)
	}
	for _, entry := range dead {
		if entry.Values[fieldID] == ref.ID {
			reason, _ := entry.Values[fieldReason].(string)
			return CommandFate{Dropped: reason}, nil
		}
	}
	return CommandFate{}, nil
}
