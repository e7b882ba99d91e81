package clustertest

import (
	"context"
	"errors"

	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Settle stops the traffic, waits until all of it is in the streams, and compares these with what Discord sent.
func (c *Cluster) Settle() devstack.Account {
	c.tb.Helper()
	c.Sim.Pause()
	c.AwaitWritten(c.Streams())
	account := devstack.Audit(c.Sim.Sessions(), c.Read(c.Streams()))
	stats := c.Sim.Stats()
	account.Identifies, account.Resumes, account.Violations = stats.Identifies+stats.IdentifiesRefused, stats.Resumes, stats.Violations
	return account
}

// AwaitWritten waits until all that Discord sent to the newest sessions of the first so many shards is in their streams.
func (c *Cluster) AwaitWritten(shards int) {
	c.tb.Helper()
	c.Await("everything to be in the streams", func() bool {
		for n, session := range c.newest() {
			tail, err := stream.Tail(c.tb.Context(), c.Redis, Name, n)
			if n < shards && (err != nil || !session.Attached || session.Pending > 0 || tail.Seq != session.Last) {
				return false
			}
		}
		return true
	})
}

// Streams is how many shards ever had a session.
func (c *Cluster) Streams() int { return len(c.newest()) }

func (c *Cluster) newest() map[int]discordsim.SessionLog {
	newest := map[int]discordsim.SessionLog{}
	for _, session := range c.Sim.Sessions() {
		newest[session.Shard] = session
	}
	return newest
}

var errRead = errors.New("all is read")

// Read reads the streams of so many shards to their ends.
func (c *Cluster) Read(shards int) map[int][]devstack.Entry {
	c.tb.Helper()
	ends, all := map[int]stream.ID{}, make([]int, shards)
	for n := range shards {
		tail, err := stream.Tail(c.tb.Context(), c.Redis, Name, n)
		c.must(err)
		all[n], ends[n] = n, tail
	}
	reader, err := stream.NewReader(c.Redis, stream.ReaderOptions{Cluster: Name, From: "0", Shards: all})
	c.must(err)
	streams := map[int][]devstack.Entry{}
	err = reader.Run(c.tb.Context(), func(_ context.Context, m stream.Message) error {
		streams[m.Shard] = append(streams[m.Shard], devstack.EntryOf(m))
		if m.ID == ends[m.Shard] {
			delete(ends, m.Shard)
		}
		if len(ends) == 0 {
			return errRead
		}
		return nil
	})
	if !errors.Is(err, errRead) {
		c.tb.Fatalf("read streams: %v, not read: %v", err, ends)
	}
	return streams
}
