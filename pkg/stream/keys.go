package stream

import "strconv"

// EventsKey is the stream of a shard's events, "<cluster>:{<shard>}:events".
//
// The braces are Redis Cluster's hash tag: all keys of one shard live in one
// slot, so a script may use them together, and shards spread over the nodes.
func EventsKey(cluster string, shard int) string { return shardKey(cluster, shard, "events") }

// CommandsKey is the stream of commands for Discord by way of a shard,
// "<cluster>:{<shard>}:commands".
func CommandsKey(cluster string, shard int) string { return shardKey(cluster, shard, "commands") }

// PositionKey notes how far a shard's session has come beyond the end of its
// stream, "<cluster>:{<shard>}:position". See Log.Skip.
func PositionKey(cluster string, shard int) string { return shardKey(cluster, shard, "position") }

// MutedKey notes from where a shard's muted session can be gone on with,
// "<cluster>:{<shard>}:muted". See SaveMuted.
func MutedKey(cluster string, shard int) string { return shardKey(cluster, shard, "muted") }

// ClusterKey is the hash that tells consumers what there is to read,
// "<cluster>:cluster". See Cluster.
func ClusterKey(cluster string) string { return cluster + ":cluster" }

// DeadKey is the stream of entries of a shard that a group gave up,
// "<cluster>:{<shard>}:events:dead:<group>". See ReaderOptions.MaxDeliveries.
func DeadKey(cluster string, shard int, group string) string {
	return shardKey(cluster, shard, "events:dead:"+group)
}

// readerKey is the lease of the member of a group that reads a shard.
func readerKey(cluster string, shard int, group string) string {
	return shardKey(cluster, shard, "reader:"+group)
}

// readersKey is the sorted set of a group's members, by when they expire.
func readersKey(cluster, group string) string { return cluster + ":readers:" + group }

// knownKey is the hash of how many shards a group knew first, and at most.
func knownKey(cluster, group string) string { return cluster + ":readers:" + group + ":shards" }

// ProbeKey is what workers write to see whether Redis takes writes,
// "<cluster>:probe".
func ProbeKey(cluster string) string { return cluster + ":probe" }

func shardKey(cluster string, shard int, what string) string {
	return cluster + ":{" + strconv.Itoa(shard) + "}:" + what
}
