package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Format is the version of the wire format: the keys and the entries' fields.
// It changes only when an old consumer could misread a new entry.
const Format = 1

// Cluster is what consumers must know to start, kept in the hash ClusterKey
// beside the plain texts events, commands (patterns of the streams' keys, with
// <shard> to be replaced) and format.
type Cluster struct {
	Shards     int    // total shards: events come to the streams of 0 to Shards-1
	Generation uint64 // number of the plan that made it so
	Streams    int    // the most shards there ever were: the streams of 0 to Streams-1 may hold entries
	Filter     string // of the events that are in the streams, as MUSTER_EVENTS says it; "": all are
}

// ErrNoCluster says that no coordinator has published the cluster yet.
var ErrNoCluster = errors.New("the cluster is not published in redis")

// OlderGenerationError says that a newer generation is already published, so
// that whoever published is no longer the leader, or is late.
type OlderGenerationError struct {
	Generation uint64 // what was to be published
	Published  uint64 // what is
}

func (e *OlderGenerationError) Error() string {
	return fmt.Sprintf("publish generation %d: generation %d is published already", e.Generation, e.Published)
}

// publishScript replies with the generation that is published afterwards. The
// number of streams never falls, and is first that of the shards of before it was
// published at all.
var publishScript = redis.NewScript(`
local published = redis.call('HGET', KEYS[1], 'generation')
if published and tonumber(published) > tonumber(ARGV[1]) then return published end
local most = tonumber(ARGV[2])
for _, field in ipairs({'streams', 'shards'}) do
  most = math.max(most, tonumber(redis.call('HGET', KEYS[1], field) or 0) or 0)
end
redis.call('HSET', KEYS[1], 'streams', string.format('%d', most), 'generation', ARGV[1], 'shards', ARGV[2],
  'format', ARGV[3], 'events', ARGV[4], 'commands', ARGV[5], 'filter', ARGV[6])
return ARGV[1]
`)

// PublishCluster makes c what consumers read, but for Streams, which follows from
// what was published before; unless a newer generation is
// published; then the error is an *OlderGenerationError.
func PublishCluster(ctx context.Context, client Client, cluster string, c Cluster) error {
	if c.Shards <= 0 {
		return fmt.Errorf("publish cluster %s: %d shards", cluster, c.Shards)
	}
	reply, err := publishScript.Run(ctx, client, []string{ClusterKey(cluster)},
		c.Generation, c.Shards, Format, cluster+":{<shard>}:events", cluster+":{<shard>}:commands", c.Filter).Text()
	if err != nil {
		return fmt.Errorf("publish cluster %s: %w", cluster, err)
	}
	published, err := strconv.ParseUint(reply, 10, 64)
	if err != nil {
		return fmt.Errorf("publish cluster %s: generation %q in redis: %w", cluster, reply, err)
	}
	if published != c.Generation {
		return &OlderGenerationError{Generation: c.Generation, Published: published}
	}
	return nil
}

// ReadCluster returns what is published, or ErrNoCluster.
func ReadCluster(ctx context.Context, client Client, cluster string) (Cluster, error) {
	fields, err := client.HMGet(ctx, ClusterKey(cluster), "shards", "generation", "filter", "streams").Result()
	if err != nil {
		return Cluster{}, fmt.Errorf("read cluster %s: %w", cluster, err)
	}
	c, err := parseCluster(fields[:2])
	if err != nil {
		return Cluster{}, fmt.Errorf("read cluster %s: %w", cluster, err)
	}
	c.Filter, _ = fields[2].(string) // who published before there were filters left it out
	c.Streams = c.Shards
	if text, ok := fields[3].(string); ok { // who published before numbers changed left it out
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return Cluster{}, fmt.Errorf("read cluster %s: streams is %q", cluster, text)
		}
		c.Streams = max(c.Streams, int(n))
	}
	return c, nil
}

func parseCluster(fields []any) (Cluster, error) {
	if len(fields) != 2 {
		return Cluster{}, fmt.Errorf("%d fields, want 2", len(fields))
	}
	shards, ok1 := fields[0].(string)
	generation, ok2 := fields[1].(string)
	if !ok1 || !ok2 {
		return Cluster{}, ErrNoCluster
	}
	n, err := strconv.ParseUint(shards, 10, 31)
	if err != nil || n == 0 {
		return Cluster{}, fmt.Errorf("shards is %q", shards)
	}
	g, err := strconv.ParseUint(generation, 10, 64)
	if err != nil {
		return Cluster{}, fmt.Errorf("generation is %q", generation)
	}
	return Cluster{Shards: int(n), Generation: g}, nil
}
