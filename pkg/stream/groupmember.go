package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// shards returns the shards there are for the group. Streams of a time when there
// were more shards are read on, so that nothing is left in them unread.
func (g *group) shards(ctx context.Context) ([]int, error) {
	shards, err := g.r.lookUp(ctx)
	if err != nil || len(shards) == 0 || g.r.opts.Shards != nil {
		return shards, err
	}
	key := knownKey(g.r.opts.Cluster, g.name)
	reply, err := knowScript.Run(ctx, g.r.client, []string{key}, len(shards)).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("group %s: shards known: %w", g.name, err)
	}
	first, most, err := parseKnown(reply)
	if err != nil {
		return nil, fmt.Errorf("group %s: %s: %w", g.name, key, err)
	}
	g.first = first
	for shard := len(shards); shard < most; shard++ {
		shards = append(shards, shard)
	}
	return shards, nil
}

// parseKnown reads the reply of knownScript.
func parseKnown(reply []string) (first, most int, err error) {
	if len(reply) != 2 {
		return 0, 0, fmt.Errorf("%d numbers, want 2", len(reply))
	}
	f, errFirst := strconv.ParseUint(reply[0], 10, 20) // far more than Discord has for anybody
	m, errMost := strconv.ParseUint(reply[1], 10, 20)
	return int(f), int(m), errors.Join(errFirst, errMost)
}

// from says where a group that is not there yet begins in a shard's stream. Of a
// shard that came later, nothing may be missed.
func (g *group) from(shard int) string {
	if g.r.opts.Shards == nil && shard >= g.first {
		return "0"
	}
	return g.r.opts.From
}

// join keeps the member registered and returns all there are.
//
// A member that finds itself missing was paused for longer than it was registered
// for, or Redis has lost it, and then perhaps the others and the leases too. It
// returns no members then, so that nothing changes hands, until all leases that
// somebody may still believe in have been renewed or are over.
func (g *group) join(ctx context.Context) ([]member, error) {
	ttl, again := g.r.opts.LeaseTTL, ""
	if !g.registered.IsZero() && (g.missing.IsZero() || time.Since(g.missing) < ttl) {
		again = "again"
	}
	key := readersKey(g.r.opts.Cluster, g.name)
	reply, err := joinScript.Run(ctx, g.r.client, []string{key}, g.member().String(), ttl.Milliseconds(), again).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("group %s: join: %w", g.name, err)
	}
	if len(reply) == 0 {
		if g.missing.IsZero() {
			g.missing = time.Now()
			g.r.logger.Warn("redis has forgotten this member, waiting for others to come back", "group", g.name, "member", g.id)
		}
		return nil, nil
	}
	g.registered, g.missing = time.Now(), time.Time{}
	members := make([]member, 0, len(reply))
	for _, text := range reply {
		m, err := parseMember(text)
		if err != nil { // it expires
			g.r.logger.Warn("skipping a malformed member", "group", g.name, "error", err)
			continue
		}
		members = append(members, m)
	}
	return members, nil
}
