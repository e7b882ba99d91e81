package stream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// renew prolongs the leases of all tenures.
func (g *group) renew(ctx context.Context) error {
	g.leases.Lock()
	defer g.leases.Unlock()
	tenures := slices.DeleteFunc(slices.Collect(maps.Values(g.held())), func(t *tenure) bool { return t.ctx.Err() != nil })
	calls := make([]*call, len(tenures))
	for i, t := range tenures {
		calls[i] = g.hold(t.keys, t.token)
	}
	deadline := g.deadline()
	roundTrip(ctx, g.r.client, calls)
	var failed error
	for i, t := range tenures {
		held, depth, err := parseHold(calls[i].cmd.Slice())
		switch {
		case err != nil:
			failed = fmt.Errorf("group %s: renew the lease of shard %d: %w", g.name, t.shard, err)
		case held != t.token:
			t.end(errLeaseLost)
		default:
			t.extend(deadline)
			g.setDepth(t, depth)
		}
	}
	return failed
}

// take begins a tenure of each of the shards whose lease is to be had.
func (g *group) take(ctx context.Context, shards []int) error {
	tokens := make([]string, len(shards))
	calls := make([]*call, len(shards))
	for i, shard := range shards {
		tokens[i] = g.id + "/" + strconv.Itoa(g.terms[shard]+1)
		calls[i] = g.hold(g.keys(shard), tokens[i])
	}
	deadline := g.deadline()
	roundTrip(ctx, g.r.client, calls)
	var failed error
	for i, shard := range shards {
		held, depth, err := parseHold(calls[i].cmd.Slice())
		switch {
		case err != nil:
			failed = fmt.Errorf("group %s: take shard %d: %w", g.name, shard, err)
		case held == tokens[i]:
			g.terms[shard]++
			t := g.newTenure(shard, tokens[i], deadline)
			t.depth = depth
			g.mu.Lock()
			g.tenures[shard] = t
			g.mu.Unlock()
			g.running.Go(t.run)
		}
	}
	return failed
}

func (g *group) hold(keys []string, token string) *call {
	return &call{script: holdScript, keys: keys, args: []any{token, g.r.opts.LeaseTTL.Milliseconds()}}
}

// deadline is until when a lease asked for now is to be relied on. It counts from
// before the request leaves, so it is over here before it is over in Redis.
func (g *group) deadline() time.Time {
	ttl := g.r.opts.LeaseTTL
	return time.Now().Add(ttl - ttl/leaseMargin)
}

// parseHold reads the reply of holdScript.
func parseHold(reply []any, err error) (held string, depth int64, _ error) {
	if err != nil {
		return "", 0, err
	}
	if len(reply) != 2 {
		return "", 0, fmt.Errorf("a lease's reply of %d parts, want 2", len(reply))
	}
	held, ok1 := reply[0].(string)
	depth, ok2 := reply[1].(int64)
	if !ok1 || !ok2 {
		return "", 0, fmt.Errorf("a lease's reply of %T and %T", reply[0], reply[1])
	}
	return held, depth, nil
}
