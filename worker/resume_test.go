package worker

import (
	"testing"

	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

func TestResumePoint(t *testing.T) {
	record := lease.Session{Epoch: 3, ID: "s", ResumeURL: "wss://resume", Shards: 16}
	claimed := lease.Session{Epoch: 3, Shards: 16}
	for _, c := range []struct {
		name   string
		record lease.Session
		tail   stream.ID
		total  int
		resume bool
	}{
		{"in the middle of a session", record, stream.ID{Epoch: 3, Seq: 40}, 16, true},
		{"right after READY", record, stream.ID{Epoch: 3, Seq: 1}, 16, true},
		{"no record, no stream", lease.Session{}, stream.ID{}, 16, false},
		{"no record", lease.Session{}, stream.ID{Epoch: 3, Seq: 40}, 16, false},
		{"claimed and nothing heard since", claimed, stream.ID{Epoch: 2, Seq: 40}, 16, false},
		{"claimed, and READY is written but the record is not", claimed, stream.ID{Epoch: 3, Seq: 1}, 16, false},
		{"READY is not written", record, stream.ID{Epoch: 2, Seq: 40}, 16, false},
		{"only the gap marker is written", record, stream.ID{Epoch: 3}, 16, false},
		{"the stream is gone", record, stream.ID{}, 16, false},
		{"the stream is ahead: etcd came back from a backup", record, stream.ID{Epoch: 4, Seq: 40}, 16, false},
		{"the number of shards has changed", record, stream.ID{Epoch: 3, Seq: 40}, 32, false},
	} {
		got := resumePoint(c.record, c.tail, c.total)
		if (got != shard.Resume{}) != c.resume {
			t.Errorf("%s: got %v", c.name, got)
		}
		if c.resume && got != (shard.Resume{SessionID: "s", URL: "wss://resume", Seq: c.tail.Seq}) {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}
