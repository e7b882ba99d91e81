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

// ClusterKey is the hash that tells consumers what there is to read,
// "<cluster>:cluster". See Cluster.
func ClusterKey(cluster string) string { return cluster + ":cluster" }

func shardKey(cluster string, shard int, what string) string {
	return cluster + ":{" + strconv.Itoa(shard) + "}:" + what
}
