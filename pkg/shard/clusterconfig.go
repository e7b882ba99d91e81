package shard

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// ClusterConfig says which shards a [Cluster] runs, and how.
type ClusterConfig struct {
	// Shard is the configuration of every shard, except that ID, GatewayURL, Deliver and Observe are the cluster's to set. All
	// shards share what is in it. Without a Store, sessions are kept from one Up to the next of this Cluster. Without an
	// Identifier there is one IdentifyQueue, which counts by what Discord says of the limits at each Up; it knows nothing of
	// shards in other processes, so a bot that has some needs an Identifier that they all ask. DialContext serves the REST API too.
	Shard Config
	// APIURL is the base of Discord's REST API; default DefaultAPIURL.
	APIURL string
	// Total is how many shards the bot has. 0: as many as Discord recommends, at each Up.
	Total int
	// Indices are those of Total that run here. None: all of them.
	Indices []int

	// Deliver takes the events of all shards as one stream: one at a time, each shard's in order. Event.Data is valid only
	// until it returns.
	//
	// Nothing is queued. While Deliver is at an event, the other shards hold at most one each and then read no more from their
	// sockets, until Discord has to wait; heartbeats go on meanwhile. So it should be quick, and hand on (a copy of) what
	// takes long. It must return soon after its context has ended. An error takes the cluster down, and the event counts as
	// not delivered: the session is resumed from before it.
	Deliver func(ctx context.Context, id ID, event Event) error
	// Observe, if set, is told of each change of a shard's state, by several goroutines at once. It must not block and must
	// not call the Cluster.
	Observe func(id ID, status Status)
}

// validate names the first field that cannot work.
func (c ClusterConfig) validate() error {
	own := c.Shard
	if own.ID != (ID{}) || own.GatewayURL != "" || own.Deliver != nil || own.Observe != nil {
		return errors.New("fields ID, GatewayURL, Deliver and Observe of Shard are set by the cluster: want them empty")
	}
	own.ID, own.GatewayURL, own.Deliver = ID{0, 1}, "wss://gateway.discord.gg", func(context.Context, Event) error { return nil }
	if err := own.withDefaults().validate(); err != nil {
		return err
	}
	api, err := url.Parse(c.APIURL)
	switch {
	case strings.ContainsFunc(own.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("field Token has a character that no token has, such as a space or a line break")
	case c.Deliver == nil:
		return errors.New("field Deliver is nil")
	case c.APIURL != "" && (err != nil || api.Scheme != "https" && api.Scheme != "http" || api.Host == ""):
		return errors.New("field APIURL: want https://host/path or http://host/path") // and not a word of it: it may hold a password
	case c.Total < 0:
		return fmt.Errorf("field Total is %d: want none below 0", c.Total)
	case len(c.Indices) > 0 && c.Total == 0:
		return errors.New("field Indices without Total: want how many shards there are besides")
	}
	return c.validateIndices()
}

func (c ClusterConfig) validateIndices() error {
	indices := slices.Sorted(slices.Values(c.Indices))
	for i, index := range indices {
		if index < 0 || index >= c.Total {
			return fmt.Errorf("field Indices has %d: want indices from 0 and below the total, %d", index, c.Total)
		}
		if i > 0 && index == indices[i-1] {
			return fmt.Errorf("field Indices has %d twice", index)
		}
	}
	return nil
}

// ids lists the shards that run here, in order, when Discord recommends so many.
func (c ClusterConfig) ids(recommended int) []ID {
	total := c.Total
	if total == 0 {
		total = recommended
	}
	var ids []ID
	for index := range total {
		if len(c.Indices) == 0 || slices.Contains(c.Indices, index) {
			ids = append(ids, ID{index, total})
		}
	}
	return ids
}
