package worker

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// audit settles, holds the streams to what Discord sent, and returns how many gaps they have. A marker that a stream begins with is
// none: it says that a permit ran out unused, which happens to a machine that is busy enough.
func (c *cluster) audit() (gaps int) {
	c.t.Helper()
	c.settled()
	streams, raw := c.read()
	account := devstack.Audit(c.sim.Sessions(), streams)
	if !account.Clean() || account.Found == 0 {
		c.t.Errorf("the account is not clean: %+v", account)
	}
	for _, v := range c.sim.Violations() {
		if v.Rule == discordsim.RuleIdentifyRate || v.Rule == discordsim.RuleResumeSeq || v.Rule == discordsim.RuleResumeEnded {
			c.t.Errorf("violation: %+v", v)
		}
	}
	c.checkSecrets(raw)
	gaps = account.Gaps
	for _, entries := range streams {
		if entries[0].Type == stream.GapType {
			gaps--
		}
	}
	return gaps
}

// expect audits, and compares what it cost.
func (c *cluster) expect(identifies, gaps int) {
	c.t.Helper()
	if got := c.audit(); got != gaps {
		c.t.Errorf("%d gap markers, want %d", got, gaps)
	}
	if got := c.sim.Stats().Identifies; got != identifies {
		c.t.Errorf("%d IDENTIFYs, want %d", got, identifies)
	}
}

// checkSecrets looks for what must be nowhere in logs and streams.
func (c *cluster) checkSecrets(raw string) {
	c.t.Helper()
	logs := c.out.String()
	if strings.Contains(logs, token) || strings.Contains(raw, token) {
		c.t.Error("the token is in logs or streams")
	}
	for n := range c.shards {
		record := c.record(n)
		if record.ID == "" {
			c.t.Errorf("shard %d has no session record", n)
			continue
		}
		if strings.Contains(logs, record.ID) || strings.Contains(raw, record.ID) {
			c.t.Errorf("the session id of shard %d is in logs or streams", n)
		}
	}
}

var errRead = errors.New("all is read")

// read reads every stream to its end.
func (c *cluster) read() (map[int][]devstack.Entry, string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	ends := map[int]stream.ID{}
	for n := range c.shards {
		tail, err := stream.Tail(ctx, c.client, c.name, n)
		must(c.t, err)
		if !tail.IsZero() {
			ends[n] = tail
		}
	}
	if len(ends) == 0 {
		return nil, ""
	}
	reader, err := stream.NewReader(c.client, stream.ReaderOptions{Cluster: c.name, From: "0"})
	must(c.t, err)
	var raw bytes.Buffer
	streams := map[int][]devstack.Entry{}
	err = reader.Run(ctx, func(_ context.Context, m stream.Message) error {
		raw.WriteString(m.Type)
		raw.Write(m.Data)
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
		c.t.Fatalf("read streams: %v, not read: %v", err, ends)
	}
	return streams, raw.String()
}
