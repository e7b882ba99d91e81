package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/shard"
	"github.com/muster-gateway/muster/pkg/stream"
)

// fakeSender is a session whose sends end as the test says.
type fakeSender struct {
	fate func(ctx context.Context, d string) error // called for each Send, several at a time

	mu   sync.Mutex
	sent []string // the d of each Send that began
}

func (s *fakeSender) Send(ctx context.Context, cmd shard.Command) error {
	d := string(cmd.(shard.Raw).Data)
	s.mu.Lock()
	s.sent = append(s.sent, d)
	s.mu.Unlock()
	return s.fate(ctx, d)
}

// pumpRig is a pump between a Redis and a fake session.
type pumpRig struct {
	t        *testing.T
	client   stream.Client
	commands *stream.Commands
	reader   *stream.CommandReader
	sender   *fakeSender
	pump     *commandPump
	gate     atomic.Pointer[gate] // nil: always open
}

// gate is one that is shut.
type gate struct {
	asked chan struct{} // somebody waits
	open  chan struct{} // closed to open it
}

// awaitGate waits until the gate is open.
func (r *pumpRig) awaitGate(ctx context.Context) error {
	g := r.gate.Load()
	if g == nil {
		return nil
	}
	select {
	case g.asked <- struct{}{}:
	default:
	}
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// newPump starts a pump, which is stopped with the test.
func newPump(t *testing.T, fate func(ctx context.Context, d string) error) *pumpRig {
	t.Helper()
	client, err := stream.Open(redistest.Start(t).URL())
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	must(t, stream.PublishCluster(t.Context(), client, "test", stream.Cluster{Shards: 2, Generation: 1}))
	reader := stream.NewCommandReader(client, stream.CommandReaderOptions{Cluster: "test"})
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() { _ = reader.Run(ctx) })
	r := &pumpRig{t: t, client: client, commands: stream.NewCommands(client, "test"), reader: reader, sender: &fakeSender{fate: fate}}
	r.pump = &commandPump{
		queue: reader.Open(0), session: r.sender, gate: r.awaitGate, metrics: newCommandMetrics(prometheus.NewRegistry()), log: hclog.NewNullLogger(), keep: ctx,
	}
	r.pump.start(ctx)
	r.pump.observe(shard.StateLive)
	t.Cleanup(func() {
		r.pump.stop()
		cancel()
		reading.Wait()
	})
	return r
}

func (r *pumpRig) send(cmd stream.Command) {
	r.t.Helper()
	_, err := r.commands.To(r.t.Context(), 0, cmd)
	must(r.t, err)
}

func (r *pumpRig) left() int64 {
	r.t.Helper()
	n, err := r.client.XLen(r.t.Context(), stream.CommandsKey("test", 0)).Result()
	must(r.t, err)
	return n
}

func (r *pumpRig) drained() {
	r.t.Helper()
	r.await(func() bool { return r.left() == 0 })
}

// await polls until it is so.
func (r *pumpRig) await(so func() bool) {
	r.t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(patience)
	for !so() {
		select {
		case <-ticker.C:
		case <-late:
			r.t.Fatal("it never comes about")
		}
	}
}

func voice(guild int) stream.Command {
	return stream.Command{Op: 4, Data: fmt.Appendf(nil, `{"guild_id":"%d"}`, guild)}
}

// A worker that cannot be sure to own the shard sends nothing, and takes nothing away from who does.
func TestCommandsWaitForTheGate(t *testing.T) {
	t.Parallel()
	r := newPump(t, func(context.Context, string) error { return nil })
	shut := &gate{asked: make(chan struct{}, 1), open: make(chan struct{})}
	r.gate.Store(shut)
	r.send(voice(1))
	select {
	case <-shut.asked:
	case <-time.After(patience):
		t.Fatal("the gate is not asked")
	}
	r.sender.mu.Lock()
	sent := len(r.sender.sent)
	r.sender.mu.Unlock()
	if sent != 0 || r.left() != 1 {
		t.Errorf("%d commands sent, %d left", sent, r.left())
	}
	close(shut.open)
	r.drained()
}

// A command whose outcome is unknown is sent again, in its place.
func TestCommandOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	broken := 0
	r := newPump(t, func(_ context.Context, d string) error {
		if d == string(voice(2).Data) && broken < 2 {
			broken++
			return fmt.Errorf("shard 0: %w", shard.ErrUnknownOutcome)
		}
		return nil
	})
	for n := 1; n <= 4; n++ {
		r.send(voice(n))
	}
	r.drained()
	var want []string
	for _, n := range []int{1, 2, 2, 2, 3, 4} {
		want = append(want, string(voice(n).Data))
	}
	if !slices.Equal(r.sender.begun(), want) {
		t.Errorf("sent were %v", r.sender.sent)
	}
	if sent, repeated := r.pump.metrics.sent.Load(), r.pump.metrics.repeated.Load(); sent != 4 || repeated != 2 {
		t.Errorf("%d sent, %d repeated", sent, repeated)
	}
}

func (s *fakeSender) begun() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// A full queue is waited for; a session that has ended leaves its commands where they are.
func TestCommandsOfASessionThatEnds(t *testing.T) {
	t.Parallel()
	full := true
	r := newPump(t, func(_ context.Context, d string) error {
		switch {
		case d == string(voice(2).Data):
			return shard.ErrNotRunning
		case full:
			full = false
			return shard.ErrQueueFull
		}
		return nil
	})
	r.send(voice(1))
	r.drained()
	r.send(voice(2))
	r.await(func() bool { return len(r.sender.begun()) == 3 })
	r.pump.stop()
	if n := r.left(); n != 1 {
		t.Errorf("%d commands are left", n)
	}
}

// A command that is held back does not hold back those of other lanes; those of its own wait behind it.
func TestCommandLanes(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newPump(t, func(_ context.Context, d string) error {
		if d == string(voice(1).Data) {
			<-release
		}
		return nil
	})
	presence := stream.Command{Op: 3, Data: json.RawMessage(`{"status":"idle"}`)}
	r.send(voice(1))
	r.send(voice(2))
	r.send(presence)
	r.await(func() bool { return slices.Contains(r.sender.begun(), string(presence.Data)) })
	if slices.Contains(r.sender.begun(), string(voice(2).Data)) {
		t.Error("a command overtook one of its lane")
	}
	close(release)
	r.drained()
}

// A pump that is stopped returns only when what was sent at the last moment is removed.
func TestCommandPumpStops(t *testing.T) {
	t.Parallel()
	began, stopped := make(chan struct{}), make(chan struct{})
	r := newPump(t, func(ctx context.Context, _ string) error {
		close(began)
		<-ctx.Done()
		select {
		case <-stopped:
			t.Error("it does not wait")
		case <-time.After(50 * time.Millisecond): // long enough to notice, if it did not
		}
		return nil
	})
	r.send(voice(1))
	<-began
	r.pump.stop()
	close(stopped)
	if n := r.left(); n != 0 {
		t.Errorf("%d commands are left, though it was sent", n)
	}
}

// A command that has expired when its turn comes is not even tried.
func TestCommandExpiredInRedis(t *testing.T) {
	t.Parallel()
	r := newPump(t, func(context.Context, string) error { return nil })
	late := voice(1)
	late.Expires = time.Now().Add(-time.Second)
	r.send(late)
	r.send(voice(2))
	r.drained()
	if got := r.sender.begun(); !slices.Equal(got, []string{string(voice(2).Data)}) {
		t.Errorf("sent were %v", got)
	}
}

// A pump that is to send no more commands sends none, though they are read. Another shard's, which the same reader reads and which came
// later, shows that they were.
func TestQuietPumpSendsNothing(t *testing.T) {
	r := newPump(t, func(context.Context, string) error { return nil })
	r.send(voice(1))
	r.drained()
	r.pump.quiesce()
	r.send(voice(2))
	other := r.reader.Open(1)
	t.Cleanup(other.Close)
	_, err := r.commands.To(t.Context(), 1, voice(3))
	must(t, err)
	other.SetReading(true)
	select {
	case <-other.Commands():
	case <-time.After(patience):
		t.Fatal("nothing is read")
	}
	r.pump.stop()
	if sent := r.sender.begun(); len(sent) != 1 || r.left() != 1 {
		t.Errorf("%d commands were sent, and %d are left; want one of each", len(sent), r.left())
	}
}

// noCommands is a queue that nobody fills.
func noCommands() *stream.CommandQueue {
	return stream.NewCommandReader(nil, stream.CommandReaderOptions{}).Open(0)
}
