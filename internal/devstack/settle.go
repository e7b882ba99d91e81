package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// quiet is how long everything must stay in place to count as settled: the simulated Discord may not yet know of a socket whose owner
// was killed a moment ago.
const quiet = 500 * time.Millisecond

// Settle stops the simulated traffic and waits until everything that Discord sent is in the streams and every session has its socket,
// or until ctx ends, which is an error that says what is still missing.
func (s *Stack) Settle(ctx context.Context) error {
	s.Sim.Pause()
	ticker := time.NewTicker(quiet / 5)
	defer ticker.Stop()
	since := time.Now()
	for {
		missing, err := s.unsettled(ctx)
		now := time.Now()
		if err != nil || missing != "" {
			since = now
		}
		if now.Sub(since) >= quiet {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not settled: %s: %w", missing, errors.Join(err, ctx.Err()))
		case <-ticker.C:
		}
	}
}

// unsettled names the first shard whose stream does not end with its session's last event.
func (s *Stack) unsettled(ctx context.Context) (string, error) {
	newest := map[int]discordsim.SessionLog{}
	for _, session := range s.Sim.Sessions() {
		newest[session.Shard] = session
	}
	c, err := stream.ReadCluster(ctx, s.client, s.Cluster)
	if err != nil {
		return "", err
	}
	if len(newest) < c.Shards {
		return fmt.Sprintf("%d of %d shards never had a session", c.Shards-len(newest), c.Shards), nil
	}
	for shard, session := range newest {
		if shard >= c.Shards { // of a time when there were more
			continue
		}
		tail, err := stream.Tail(ctx, s.client, s.Cluster, shard)
		if err != nil {
			return "", err
		}
		if !session.Attached || session.Pending > 0 || tail.Seq != session.Last {
			return fmt.Sprintf("shard %d's stream ends with %v, its session with %d and %d guilds to come (socket: %v)",
				shard, tail, session.Last, session.Pending, session.Attached), nil
		}
	}
	return "", nil
}

// Audit reads every stream, as a consumer would, and compares it with what the simulated Discord sent. The traffic must have settled,
// and the streams must not have been trimmed.
func (s *Stack) Audit(ctx context.Context) (Account, error) { return s.audit(ctx, Audit) }

// AuditReshard is Audit when the number of shards has changed without downtime.
func (s *Stack) AuditReshard(ctx context.Context) (Account, error) { return s.audit(ctx, AuditReshard) }

func (s *Stack) audit(ctx context.Context, compare func([]discordsim.SessionLog, map[int][]Entry) Account) (Account, error) {
	streams, err := s.readStreams(ctx)
	if err != nil {
		return Account{}, err
	}
	account := compare(s.Sim.Sessions(), streams)
	stats := s.Sim.Stats()
	account.Identifies, account.Resumes = stats.Identifies+stats.IdentifiesRefused, stats.Resumes
	account.Violations = stats.Violations
	return account, nil
}

var errAllRead = errors.New("all streams read")

func (s *Stack) readStreams(ctx context.Context) (map[int][]Entry, error) {
	c, err := stream.ReadCluster(ctx, s.client, s.Cluster)
	if err != nil {
		return nil, err
	}
	open := map[int]stream.ID{} // shards not read to their end, and that end
	for shard := range c.Streams {
		tail, err := stream.Tail(ctx, s.client, s.Cluster, shard)
		if err != nil {
			return nil, err
		}
		if !tail.IsZero() {
			open[shard] = tail
		}
	}
	streams := map[int][]Entry{}
	reader, err := stream.NewReader(s.client, stream.ReaderOptions{Cluster: s.Cluster, From: "0"})
	if err != nil {
		return nil, err
	}
	err = reader.Run(ctx, func(_ context.Context, m stream.Message) error {
		streams[m.Shard] = append(streams[m.Shard], EntryOf(m))
		if m.ID.Compare(open[m.Shard]) >= 0 {
			delete(open, m.Shard)
		}
		if len(open) == 0 {
			return errAllRead
		}
		return nil
	})
	if !errors.Is(err, errAllRead) && len(open) > 0 {
		return nil, fmt.Errorf("read streams: %d not read to their end: %w", len(open), errors.Join(err, ctx.Err()))
	}
	return streams, nil
}

// EntryOf is what an audit has to know of an entry.
func EntryOf(m stream.Message) Entry {
	e := Entry{ID: m.ID, Type: m.Type, Sum: discordsim.Sum(m.Data)}
	if m.Type == "READY" {
		var ready struct {
			Trace []string `json:"_trace"`
		}
		if json.Unmarshal(m.Data, &ready) == nil && len(ready.Trace) > 0 {
			e.Trace = ready.Trace[0]
		}
	}
	var reshard stream.Reshard
	if m.Type == stream.ReshardType && json.Unmarshal(m.Data, &reshard) == nil {
		e.Before, e.Total = reshard.Before, reshard.Shards
	}
	return e
}

// Appended is how many entries the streams were given so far, nearly: the sum of where they end. It grows by what was appended,
// but for a new session, which begins anew.
func (s *Stack) Appended(ctx context.Context) (sum int64) {
	published, err := stream.ReadCluster(ctx, s.client, s.Cluster)
	if err != nil {
		return 0 // not yet
	}
	for shard := range published.Shards {
		tail, err := stream.Tail(ctx, s.client, s.Cluster, shard)
		if err != nil {
			return 0
		}
		sum += tail.Seq
	}
	return sum
}
