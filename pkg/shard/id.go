package shard

import "strconv"

// ID names a shard: its index and how many shards the bot has. Events of a guild come on exactly one shard.
type ID struct {
	Index int // 0 to Total-1
	Total int // at least 1
}

// String returns "index/total", such as "3/16".
func (id ID) String() string {
	return strconv.Itoa(id.Index) + "/" + strconv.Itoa(id.Total)
}

// Bucket returns the IDENTIFY rate limit bucket of the shard: no two shards of one bucket may identify within 5 s
// (Discord: Gateway, Sharding, max_concurrency). A maxConcurrency below 1 counts as 1.
func (id ID) Bucket(maxConcurrency int) int {
	return id.Index % max(maxConcurrency, 1)
}

// ForGuild returns the index of the shard that gets a guild's events when there are total shards. Events without a
// guild come on shard 0. A total below 1 counts as 1.
func ForGuild(guild uint64, total int) int {
	return int((guild >> 22) % uint64(max(total, 1)))
}
