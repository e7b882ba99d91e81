package worker

import (
	"fmt"
	"testing"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

func TestFilter(t *testing.T) {
	for text, tt := range map[string]struct {
		says           string
		wants, refuses []string
	}{
		"":                                  {wants: []string{"READY", "MESSAGE_CREATE", "ANYTHING"}},
		" , ":                               {wants: []string{"READY", "MESSAGE_CREATE"}},
		"MESSAGE_CREATE":                    {says: "MESSAGE_CREATE", wants: []string{"MESSAGE_CREATE", "READY"}, refuses: []string{"RESUMED", "MESSAGE_UPDATE", "A", "Z"}},
		" RESUMED,A_1 ,MESSAGE_CREATE, A_1": {says: "A_1,MESSAGE_CREATE,RESUMED", wants: []string{"MESSAGE_CREATE", "READY", "RESUMED", "A_1"}, refuses: []string{"A"}},
		"-TYPING_START":                     {says: "-TYPING_START", wants: []string{"MESSAGE_CREATE", "READY", "RESUMED"}, refuses: []string{"TYPING_START"}},
		"!PRESENCE_UPDATE,-TYPING_START":    {says: "-PRESENCE_UPDATE,-TYPING_START", wants: []string{"MESSAGE_CREATE"}, refuses: []string{"PRESENCE_UPDATE", "TYPING_START"}},
	} {
		f, err := ParseFilter(text)
		if err != nil || f.String() != tt.says {
			t.Errorf("%q: is %q, error %v", text, f, err)
		}
		for _, name := range tt.wants {
			if !f.Wants(name) {
				t.Errorf("%q: does not want %s", text, name)
			}
		}
		for _, name := range tt.refuses {
			if f.Wants(name) {
				t.Errorf("%q: wants %s", text, name)
			}
		}
		if again, err := ParseFilter(f.String()); err != nil || again.String() != f.String() {
			t.Errorf("%q: read again it is %q, error %v", text, again, err)
		}
	}
	for _, text := range []string{"message_create", "MESSAGE CREATE", "-", "--TYPING_START", "A,-B", "-A,B", "-READY", "!MUSTER_GAP", "*"} {
		if f, err := ParseFilter(text); err == nil {
			t.Errorf("%q is read as %q", text, f)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add("MESSAGE_CREATE,READY")
	f.Add("-TYPING_START,!PRESENCE_UPDATE")
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := ParseFilter(text)
		if err != nil {
			return
		}
		again, err := ParseFilter(filter.String())
		if err != nil || again.String() != filter.String() || !filter.Wants("READY") {
			t.Errorf("%q is read as %q, and that as %q, error %v", text, filter, again, err)
		}
	})
}

// wanted leaves of what Discord sent only what a filter wants.
func (c *cluster) wanted(f Filter) (byShard map[int][]stream.ID) {
	byShard = map[int][]stream.ID{}
	for _, session := range c.sim.Sessions() {
		for i, e := range session.Dispatches {
			if f.Wants(e.Type) {
				byShard[session.Shard] = append(byShard[session.Shard], stream.ID{Epoch: c.record(session.Shard).Epoch, Seq: int64(i) + 1})
			}
		}
	}
	return byShard
}

// What a filter leaves out is not in the streams, and all else is, exactly once: over a drop of the sockets, a move to another worker,
// and one that fails without having saved how far it came.
func TestFilteredStreams(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{sim: discordsim.Options{Rate: 400}})
	filter, err := ParseFilter("MESSAGE_CREATE")
	must(t, err)
	filtered := func(w *Worker) { w.cfg.Events = filter }
	a := c.start("a", func(w *Worker) { patientDrain(w); filtered(w) })
	c.awaitLive()
	c.advance(0, 20)
	c.sim.Drop(discordsim.AllShards)
	c.advance(1, 20)
	c.start("b", filtered)
	a.end() // hands over
	c.advance(2, 20)
	c.sim.Pause()
	for n := range c.shards { // so that every stream is left behind by events that are not in it
		_, err := c.sim.Dispatch(n, "MUCH_NEWER", []byte(`{}`))
		must(t, err)
	}
	c.await(func() string {
		for n, session := range c.newest() {
			noted, err := c.client.Get(t.Context(), stream.PositionKey(c.name, n)).Result()
			if err != nil || !session.Attached || noted[len(noted)-len(fmt.Sprint(session.Last)):] != fmt.Sprint(session.Last) {
				return fmt.Sprintf("shard %d's position is %q, %v; its session is at %d", n, noted, err, session.Last)
			}
		}
		return ""
	})
	streams, raw := c.read()
	c.checkSecrets(raw)
	for n, want := range c.wanted(filter) {
		got := streams[n]
		if len(got) != len(want) {
			t.Errorf("shard %d: %d entries, want %d", n, len(got), len(want))
		}
		for i := range min(len(got), len(want)) {
			if got[i].ID != want[i] || !filter.Wants(got[i].Type) {
				t.Fatalf("shard %d: entry %d is %v %s, want %v", n, i, got[i].ID, got[i].Type, want[i])
			}
		}
	}
	if n := c.sim.Stats().Identifies; n != c.shards {
		t.Errorf("%d IDENTIFYs", n)
	}
	if published, err := stream.ReadCluster(t.Context(), c.client, c.name); err != nil || published.Filter != "MESSAGE_CREATE" {
		t.Errorf("published is %+v, error %v", published, err)
	}
}
