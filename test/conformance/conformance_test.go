// Package conformance runs pkg/shard against pkg/discordsim through everything that the simulator can be told to do: each way to
// behave where Discord says nothing, and each fault at each stage of a connection. Whatever it is, in the end every event of every
// session was delivered once and in order, nothing was done that Discord forbids, and no IDENTIFY was spent without need.
package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/shard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bot is a cluster of two shards and all that was delivered to it.
type bot struct {
	t       *testing.T
	sim     *discordsim.Server
	cluster *shard.Cluster

	mu  sync.Mutex
	got map[string][]discordsim.Dispatched // by the trace of the session, which READY tells
	now [shards]string                     // the present session's
}

const shards = 2

// start starts a simulator and a bot on it, which is live when it returns. Both end with the test.
func start(t *testing.T, opts discordsim.Options, compression shard.Compression) *bot {
	opts.Shards, opts.MaxConcurrency, opts.Guilds = shards, shards, 20
	opts.Rate, opts.Record, opts.Privileged = 20, true, discordsim.PrivilegedIntents
	sim, err := discordsim.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	network := discordsim.NewNetwork()
	b := &bot{t: t, sim: sim, got: map[string][]discordsim.Dispatched{}}
	b.cluster, err = shard.NewCluster(shard.ClusterConfig{
		Shard: shard.Config{
			Token: discordsim.DefaultToken, Intents: shard.IntentsAll, Compression: compression, DialContext: network.DialContext,
			MaxMessageBytes: 1 << 20, // above any guild, below a bomb
		},
		APIURL:  "http://discord.invalid/api/v10",
		Deliver: b.deliver,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := sim.Serve(ctx, network); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if err := b.cluster.Down(context.Background()); err != nil {
			t.Error(err)
		}
		cancel()
		running.Wait()
	})
	if err := b.cluster.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.live()
	return b
}

func (b *bot) deliver(_ context.Context, id shard.ID, e shard.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := discordsim.Sum(e.Data)
	if e.Type == "READY" {
		var ready struct {
			Trace []string `json:"_trace"`
		}
		if err := json.Unmarshal(e.Data, &ready); err != nil || len(ready.Trace) == 0 {
			return fmt.Errorf("READY without a trace: %w", err)
		}
		b.now[id.Index], sum = ready.Trace[0], 0 // the session's id is blanked
	}
	session := b.now[id.Index]
	b.got[session] = append(b.got[session], discordsim.Dispatched{Seq: e.Seq, Type: e.Type, Sum: sum})
	return nil
}

// live waits until all shards are.
func (b *bot) live() {
	b.t.Helper()
	for deadline := time.Now().Add(time.Hour); time.Now().Before(deadline); time.Sleep(time.Second) { // virtual
		if !slices.ContainsFunc(b.cluster.Sessions(), func(s *shard.Session) bool { return s.Status().State != shard.StateLive }) {
			return
		}
	}
	for _, s := range b.cluster.Sessions() {
		b.t.Errorf("shard %s: %+v", s.ID(), s.Status())
	}
	b.t.Fatal("not live within an hour")
}

// settle stops the traffic and waits until all of it has arrived.
func (b *bot) settle() {
	b.sim.Pause()
	b.live()
	time.Sleep(time.Minute) // virtual
	b.live()
	synctest.Wait()
}

// audit compares what was delivered with what was sent: of each shard's present session everything, of an earlier one as much as
// there was time for.
func (b *bot) audit(identifies int) {
	b.t.Helper()
	b.settle()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, log := range b.sim.Sessions() {
		have := b.got[log.Trace]
		for i, d := range have {
			if i == 0 && d.Type == "READY" {
				d.Sum = log.Dispatches[0].Sum
			}
			if i >= len(log.Dispatches) || log.Dispatches[i] != d {
				b.t.Fatalf("shard %d: event %d is %+v, which was not sent there", log.Shard, i, d)
			}
		}
		if b.now[log.Shard] != log.Trace {
			continue
		}
		if len(have) != len(log.Dispatches) || len(have) < 20 {
			b.t.Errorf("shard %d: %d events delivered, %d sent", log.Shard, len(have), len(log.Dispatches))
		}
	}
	for _, v := range b.sim.Violations() {
		b.t.Errorf("violation: %+v", v)
	}
	if n := b.sim.Stats().Identifies; n != identifies {
		b.t.Errorf("%d IDENTIFYs, want %d", n, identifies)
	}
}

// compressions are all there are.
var compressions = []shard.Compression{shard.CompressionNone, shard.CompressionZlib, shard.CompressionZstd}

// inBubble runs f as a subtest on virtual time.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// TestOpenQuestions: however Discord may behave where it says nothing, a bot that is disturbed loses nothing.
func TestOpenQuestions(t *testing.T) {
	for name, u := range map[string]discordsim.Unspecified{
		"defaults":                  {},
		"resumes share":             {ResumeWhileLive: discordsim.ResumeShares},
		"op 9 comes late":           {InvalidSessionDelay: 7 * time.Second},
		"refused identify is free":  {RefusedIdentifyIsFree: true},
		"guilds shuffled":           {ShuffleGuilds: true},
		"guilds slowly":             {GuildInterval: 3 * time.Second},
		"guilds in an outage":       {Outages: 7},
		"an old seq closes":         {OldSeqCloses: true},
		"goes with 4000":            {GoingAwayCode: 4000},
		"goes with 1000":            {GoingAwayCode: 1000},
		"closes soon after op 7":    {ReconnectPatience: time.Second},
		"cuts resumes on base":      {CutBaseResumesAfter: 10 * time.Second},
		"channels obfuscated":       {ObfuscateChannels: true},
		"acks wait for the backlog": {AcksBehindBacklog: true},
	} {
		inBubble(t, name, func(t *testing.T) {
			b := start(t, discordsim.Options{Unspecified: u}, shard.CompressionZstd)
			for _, disturb := range []func(int) int{
				b.sim.Reconnect, b.sim.Drop,
				func(shard int) int { return b.sim.Disconnect(shard, discordsim.CloseUnknownError) },
				func(shard int) int { return b.sim.Invalidate(shard, true) },
			} {
				time.Sleep(20 * time.Second)
				if n := disturb(discordsim.AllShards); n == 0 {
					t.Error("nobody was disturbed")
				}
			}
			time.Sleep(5 * time.Minute)
			b.audit(shards)
		})
	}
}

// TestFaults: each fault at each stage, over every compression. It strikes while the bot is made to reconnect, or, on an open
// socket, at once, and is lifted after a minute.
func TestFaults(t *testing.T) {
	kinds := map[discordsim.FaultKind]discordsim.Fault{
		discordsim.FaultDrop:      {},
		discordsim.FaultBlackHole: {},
		discordsim.FaultClose:     {Code: 4000},
		discordsim.FaultStatus:    {Code: 503},
		discordsim.FaultGarbage:   {},
		discordsim.FaultSlow:      {BytesPerSecond: 4000},
		discordsim.FaultSplit:     {},
		discordsim.FaultCorrupt:   {},
		discordsim.FaultBomb:      {Size: 2 << 20},
		discordsim.FaultOmit:      {},
		discordsim.FaultRepeat:    {},
	}
	stages := []discordsim.Stage{
		discordsim.StageNow, discordsim.StageHandshake, discordsim.StageHello, discordsim.StageAfterHello, discordsim.StageLogin,
	}
	for kind, fault := range kinds {
		for _, stage := range stages {
			for _, compression := range compressions {
				fault.Kind, fault.Stage = kind, stage
				if stage != discordsim.StageNow {
					fault.Times = 2 // RESUMEs that fail: a third would cost the session
				}
				if !sensible(t, fault) {
					continue
				}
				inBubble(t, fmt.Sprintf("%s %s %s", kind, stage, compression), func(t *testing.T) {
					b := start(t, discordsim.Options{}, compression)
					b.strike(fault)
					b.audit(shards)
				})
			}
		}
	}
}

// sensible says whether there is such a fault at such a stage.
func sensible(t *testing.T, f discordsim.Fault) bool {
	sim, err := discordsim.New(discordsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = sim.Inject(f)
	return err == nil
}

// strike has something go wrong for a minute.
func (b *bot) strike(f discordsim.Fault) {
	b.t.Helper()
	time.Sleep(10 * time.Second)
	injected, err := b.sim.Inject(f)
	if err != nil {
		b.t.Fatal(err)
	}
	if f.Stage != discordsim.StageNow {
		b.sim.Drop(discordsim.AllShards)
	}
	time.Sleep(time.Minute)
	b.sim.Lift(injected.ID)
	time.Sleep(2 * time.Minute)
}

// TestStorms: op 7 and op 9 on every connection, for a minute and at each stage, and an opcode, an event and a number nobody
// is due.
func TestStorms(t *testing.T) {
	for name, c := range map[string]struct {
		message string
		loses   bool // the session
	}{
		"op 7":               {`{"t":null,"s":null,"op":7,"d":null}`, false},
		"op 9 true":          {`{"t":null,"s":null,"op":9,"d":true}`, false},
		"op 9 false":         {`{"t":null,"s":null,"op":9,"d":false}`, true},
		"op 1":               {`{"t":null,"s":null,"op":1,"d":null}`, false},
		"unknown opcode":     {`{"t":null,"s":null,"op":99,"d":{}}`, false},
		"a number skipped":   {`{"t":"X","s":1000000,"op":0,"d":{}}`, false},
		"a number repeated":  {`{"t":"X","s":1,"op":0,"d":{}}`, false},
		"not a message":      {`"secret nonsense"`, false},
		"hello without form": {`{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":"soon"}}`, false},
	} {
		for _, stage := range []discordsim.Stage{
			discordsim.StageNow, discordsim.StageHello, discordsim.StageAfterHello, discordsim.StageLogin,
		} {
			inBubble(t, fmt.Sprintf("%s %s", name, stage), func(t *testing.T) {
				b := start(t, discordsim.Options{}, shard.CompressionZstd)
				b.strike(discordsim.Fault{Stage: stage, Kind: discordsim.FaultSend, Message: []byte(c.message)})
				b.settle()
				n := b.sim.Stats().Identifies
				switch {
				case c.loses && (n <= shards || n > 20*shards):
					t.Errorf("%d IDENTIFYs for sessions that were taken away", n)
				case !c.loses && (n < shards || n > 4*shards || n > shards && stage == discordsim.StageNow):
					// A minute of RESUMEs that bring nothing may cost the sessions: three are the limit.
					t.Errorf("%d IDENTIFYs", n)
				}
				b.audit(n)
			})
		}
	}
}
