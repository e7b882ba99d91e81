package shard_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/shard"
)

// world is a simulated Discord in a bubble.
type world struct {
	*discordsim.Server
	network *discordsim.Network
}

// newWorld serves until the test ends, which also checks that nobody broke Discord's rules.
func newWorld(t testing.TB, opts discordsim.Options) *world {
	sim, err := discordsim.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Server: sim, network: discordsim.NewNetwork()}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- sim.Serve(ctx, w.network) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, v := range sim.Violations() {
			if !slices.Contains(opts.Allow, v.Rule) {
				t.Errorf("violation: %+v", v)
			}
		}
	})
	return w
}

// givenUp is allowed where a test means to end sessions that could have been resumed.
var givenUp = []discordsim.Rule{discordsim.RuleSessionThrownAway}

// inject has something go wrong.
func (w *world) inject(t *testing.T, f discordsim.Fault) {
	t.Helper()
	if _, err := w.Inject(f); err != nil {
		t.Fatal(err)
	}
}

// logs are the sessions' accounts, once the simulator has noticed what was done before.
func (w *world) logs() []discordsim.SessionLog {
	synctest.Wait()
	return w.Sessions()
}

// bot is a cluster's configuration, and what was delivered to it.
type bot struct {
	shard.ClusterConfig
	mu  sync.Mutex
	got map[int][]int64 // the numbers of the events by shard
}

func (w *world) bot() *bot {
	b := &bot{got: map[int][]int64{}}
	b.ClusterConfig = shard.ClusterConfig{
		Shard:   shard.Config{Token: discordsim.DefaultToken, Intents: shard.IntentGuilds, DialContext: w.network.DialContext},
		APIURL:  "http://sim.test/api/v10",
		Deliver: b.deliver,
	}
	return b
}

func (b *bot) deliver(_ context.Context, id shard.ID, event shard.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got[id.Index] = append(b.got[id.Index], event.Seq)
	return nil
}

func (b *bot) cluster(t *testing.T) *shard.Cluster {
	t.Helper()
	c, err := shard.NewCluster(b.ClusterConfig)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inState counts the shards that are in a state.
func inState(c *shard.Cluster, state shard.State) (n int) {
	for _, s := range c.Sessions() {
		if s.Status().State == state {
			n++
		}
	}
	return n
}

// allLive waits until all shards are, and returns how long that took.
func allLive(t *testing.T, c *shard.Cluster) time.Duration {
	t.Helper()
	begin := time.Now()
	for inState(c, shard.StateLive) < len(c.Sessions()) {
		if time.Since(begin) > time.Hour { // virtual
			t.Fatal("not all shards are live after an hour")
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(begin)
}

// down takes a cluster down and waits until the simulator has noticed, which is just after it has answered the close frame.
func down(t *testing.T, c *shard.Cluster) {
	t.Helper()
	must(t, c.Down(t.Context()))
	synctest.Wait()
}

// TestClusterUp: as many shards as Discord recommends are live as soon as its rate of IDENTIFYs allows, each of their events is
// delivered once and in order, and Down keeps the sessions.
func TestClusterUp(t *testing.T) {
	for _, concurrency := range []int{1, 4, 16} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, discordsim.Options{Shards: 16, MaxConcurrency: concurrency, Guilds: 16, Rate: 10})
				b := w.bot()
				c := b.cluster(t)
				must(t, c.Up(t.Context()))
				least := time.Duration(16/concurrency-1) * 5 * time.Second
				if took := allLive(t, c); took < least || took > least+least/20+time.Second {
					t.Errorf("live after %s, want %s", took, least)
				}
				time.Sleep(time.Minute)
				w.Pause()
				synctest.Wait()
				for i, s := range c.Sessions() {
					if id, st := s.ID(), s.Status(); id != (shard.ID{Index: i, Total: 16}) || st.LastAck.IsZero() || st.Identifies != 1 {
						t.Errorf("shard %s has status %+v", id, st)
					}
				}
				must(t, c.Down(t.Context()))
				if n := inState(c, shard.StateStopped); n != 16 {
					t.Errorf("%d shards are stopped", n)
				}
				for _, log := range w.logs() {
					if log.Ended != "" || log.Attached {
						t.Errorf("shard %d: session attached %v, ended %q", log.Shard, log.Attached, log.Ended)
					}
					got := b.got[log.Shard]
					if int64(len(got)) != log.Last || !slices.IsSorted(got) || len(slices.Compact(got)) != len(got) {
						t.Errorf("shard %d: %d events delivered of %d", log.Shard, len(got), log.Last)
					}
				}
			})
		})
	}
}

// TestClusterDownAndUp: what one cluster leaves in a Store, another resumes; what it ended, it must identify anew.
func TestClusterDownAndUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{Shards: 4, MaxConcurrency: 4, Guilds: 8, Allow: givenUp})
		b := w.bot()
		b.Shard.Store = new(shard.MemoryStore)
		up := func(c *shard.Cluster, identifies, resumes int) {
			t.Helper()
			must(t, c.Up(t.Context()))
			allLive(t, c)
			if st := w.Stats(); st.Identifies != identifies || st.Resumes != resumes || st.ResumesRefused != 0 {
				t.Errorf("stats %+v, want %d IDENTIFYs and %d RESUMEs", st, identifies, resumes)
			}
		}
		first, second := b.cluster(t), b.cluster(t)
		up(first, 4, 0)
		down(t, first)
		up(second, 4, 4)
		down(t, second)
		up(second, 4, 8) // the same once more
		must(t, second.End(t.Context()))
		for _, log := range w.logs() {
			if log.Ended != discordsim.EndClosed {
				t.Errorf("session ended %q", log.Ended)
			}
		}
		time.Sleep(time.Minute)
		up(second, 8, 8)
		down(t, second)
	})
}

// TestClusterKeepsItsSessions: also without a Store of the caller's.
func TestClusterKeepsItsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{})
		c := w.bot().cluster(t)
		for range 3 {
			must(t, c.Up(t.Context()))
			allLive(t, c)
			down(t, c)
		}
		if st := w.Stats(); st.Identifies != 1 || st.Resumes != 2 {
			t.Errorf("stats %+v", st)
		}
	})
}

// TestClusterRun ends with its context, and ends the sessions if that asks for it.
func TestClusterRun(t *testing.T) {
	for cause, ended := range map[error]discordsim.EndReason{nil: "", shard.ErrEndSession: discordsim.EndClosed} {
		t.Run(fmt.Sprint(cause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, discordsim.Options{Shards: 2, MaxConcurrency: 2, Allow: givenUp})
				c := w.bot().cluster(t)
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Minute, func() { cancel(cause) })
				if err := c.Run(ctx); err != nil {
					t.Error(err)
				}
				for _, log := range w.logs() {
					if log.Ended != ended || log.Attached {
						t.Errorf("session ended %q, attached %v", log.Ended, log.Attached)
					}
				}
			})
		})
	}
}

// TestClusterIsDownedWhileItGoesUp: whoever asks, Run and Down return without an error, and Up says why it is not up.
func TestClusterIsDownedWhileItGoesUp(t *testing.T) {
	for name, run := range map[string]func(context.Context, *shard.Cluster) error{
		"run": func(ctx context.Context, c *shard.Cluster) error { return c.Run(ctx) },
		"up":  func(ctx context.Context, c *shard.Cluster) error { return c.Up(ctx) },
	} {
		for _, down := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, down %v", name, down), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, discordsim.Options{})
					w.inject(t, discordsim.Fault{Stage: discordsim.StageGateway, Kind: discordsim.FaultStatus, Code: 500})
					c := w.bot().cluster(t)
					ctx, cancel := context.WithCancel(t.Context())
					ended := make(chan error)
					go func() { ended <- run(ctx, c) }()
					time.Sleep(time.Minute)
					if down {
						must(t, c.Down(t.Context()))
					}
					cancel()
					if err := <-ended; (err == nil) != (name == "run") {
						t.Errorf("%s: %v", name, err)
					}
					must(t, c.Wait())
					if n := len(w.logs()); n != 0 {
						t.Errorf("%d sessions", n)
					}
				})
			})
		}
	}
}

// TestClusterWithWrongToken: refused by the API, and refused by the gateway, it ends with an error that says so.
func TestClusterWithWrongToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{Shards: 3, MaxConcurrency: 3, Allow: []discordsim.Rule{discordsim.RuleBadToken}})
		b := w.bot()
		b.Shard.Token = "wrong-secret"
		c := b.cluster(t)
		for range 2 { // it can be tried again
			if err := c.Run(t.Context()); !errors.Is(err, shard.ErrTokenRefused) || strings.Contains(err.Error(), "secret") {
				t.Errorf("Run: %v", err)
			}
		}
		if err := c.Up(t.Context()); !errors.Is(err, shard.ErrTokenRefused) || !errors.Is(c.Wait(), shard.ErrTokenRefused) {
			t.Errorf("Up: %v", err)
		}
		w.OnRequest(func(_ http.ResponseWriter, r *http.Request) bool {
			r.Header.Set("Authorization", "Bot "+discordsim.DefaultToken) // the API alone takes it
			return false
		})
		var fatal *shard.FatalError
		err := c.Run(t.Context())
		if !errors.As(err, &fatal) || fatal.Scope() != shard.ScopeBot || fatal.Code != 4004 || strings.Contains(err.Error(), "secret") {
			t.Errorf("Run: %v", err)
		}
		if inState(c, shard.StateFailed) < 1 || inState(c, shard.StateFailed)+inState(c, shard.StateStopped) != 3 {
			t.Errorf("%d shards failed", inState(c, shard.StateFailed))
		}
	})
}

// TestClusterOfTheWrongSize: a refusal that is about the number of shards ends it too.
func TestClusterOfTheWrongSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{
			Shards: 4, ShardMultiple: 4, MaxConcurrency: 4, Allow: []discordsim.Rule{discordsim.RuleBadIdentify},
		})
		b := w.bot()
		b.Total = 3
		var fatal *shard.FatalError
		if err := b.cluster(t).Run(t.Context()); !errors.As(err, &fatal) || fatal.Scope() != shard.ScopePlan {
			t.Errorf("Run: %v", err)
		}
	})
}

// TestClusterEndsWithACallback: an error of one shard's takes down all, resumably.
func TestClusterEndsWithACallback(t *testing.T) {
	boom := errors.New("boom")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{Shards: 3, MaxConcurrency: 3})
		b := w.bot()
		b.Deliver = func(ctx context.Context, id shard.ID, e shard.Event) error {
			if id.Index == 1 && e.Type == "MUCH_NEWER" {
				return boom
			}
			return b.deliver(ctx, id, e)
		}
		c := b.cluster(t)
		must(t, c.Up(t.Context()))
		allLive(t, c)
		if n, err := w.Dispatch(1, "MUCH_NEWER", []byte(`{}`)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if err := c.Wait(); !errors.Is(err, boom) || !strings.Contains(err.Error(), "shard 1/3") {
			t.Errorf("Wait: %v", err)
		}
		if err := c.Down(t.Context()); !errors.Is(err, boom) {
			t.Errorf("Down: %v", err)
		}
		for _, log := range w.logs() {
			if log.Attached || log.Ended != "" {
				t.Errorf("shard %d attached %v, ended %q", log.Shard, log.Attached, log.Ended)
			}
		}
	})
}

// TestClusterAsksAgain: trouble that passes is waited for, as long as Discord asks for; a refusal is returned.
func TestClusterAsksAgain(t *testing.T) {
	for _, test := range []struct {
		kind        discordsim.FaultKind
		status      int
		retry       float64
		times       int
		least, most time.Duration // until it is up
		fails       bool
	}{
		{discordsim.FaultStatus, 500, 0, 5, 0, time.Minute, false},
		{discordsim.FaultStatus, 429, 600, 2, 20 * time.Minute, 21 * time.Minute, false},
		{discordsim.FaultStatus, 404, 0, 1, 0, 0, true},
		{discordsim.FaultStatus, 403, 0, 1, 0, 0, true},
		{discordsim.FaultGarbage, 0, 0, 1, 0, 2 * time.Second, false},
		{discordsim.FaultDrop, 0, 0, 3, 0, 20 * time.Second, false},
	} {
		t.Run(fmt.Sprint(test.kind, test.status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, discordsim.Options{})
				w.inject(t, discordsim.Fault{Stage: discordsim.StageGateway, Kind: test.kind, Code: test.status, RetryAfter: test.retry, Times: test.times})
				c := w.bot().cluster(t)
				begin := time.Now()
				err := c.Up(t.Context())
				var api *shard.APIError
				if errors.As(err, &api) != test.fails || (err != nil) != test.fails {
					t.Errorf("Up: %v", err)
				}
				if took := time.Since(begin); took < test.least || took > test.most {
					t.Errorf("Up took %s, want from %s to %s", took, test.least, test.most)
				}
				_ = c.Down(t.Context())
			})
		})
	}
}

// TestClusterUpIsBoundByItsContext only while it lasts.
func TestClusterUpIsBoundByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{})
		c := w.bot().cluster(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		must(t, c.Up(ctx))
		if err := c.Up(t.Context()); err == nil {
			t.Error("it went up twice")
		}
		<-ctx.Done()
		time.Sleep(time.Hour)
		if inState(c, shard.StateLive) != 1 || w.Stats().Identifies != 1 {
			t.Errorf("stats %+v", w.Stats())
		}
		must(t, c.Down(t.Context()))
	})
}

// TestClusterUpWhoseContextEndsLate: if it ends just then, Up either fails and leaves nothing, or has succeeded for good.
func TestClusterUpWhoseContextEndsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{Shards: 16, MaxConcurrency: 16, SessionLimit: discordsim.SessionLimit{Total: 10_000}, Allow: givenUp})
		b := w.bot()
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			b.Observe = func(shard.ID, shard.Status) { cancel() } // while the others are being started
			c := b.cluster(t)
			err := c.Up(ctx)
			cancel()
			time.Sleep(time.Minute)
			if n := w.Stats().Sockets; err == nil && n != 16 || err != nil && n != 0 {
				t.Fatalf("Up: %v, and %d sockets", err, n)
			}
			must(t, c.End(t.Context()))
			time.Sleep(time.Minute)
		}
	})
}

// TestClusterStream: one event at a time whatever the shard, and those of the others wait, unread, while heartbeats go on.
func TestClusterStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{Shards: 4, MaxConcurrency: 4, Rate: 50})
		b := w.bot()
		var inside, delivered atomic.Int64
		release := make(chan struct{})
		b.Deliver = func(ctx context.Context, id shard.ID, e shard.Event) error {
			if inside.Add(1) != 1 {
				t.Error("two events are delivered at once")
			}
			defer inside.Add(-1)
			if e.Type != "READY" {
				<-release
			}
			delivered.Add(1)
			time.Sleep(time.Millisecond)
			return b.deliver(ctx, id, e)
		}
		c := b.cluster(t)
		must(t, c.Up(t.Context()))
		time.Sleep(10 * time.Minute)
		if n := delivered.Load(); n > 4 {
			t.Errorf("%d events delivered while the first was held up", n)
		}
		if st := w.Stats(); st.Sockets != 4 || st.Identifies != 4 {
			t.Errorf("stats %+v", st)
		}
		close(release)
		w.Pause()
		time.Sleep(10 * time.Minute)
		for _, log := range w.logs() {
			if got := b.got[log.Shard]; int64(len(got)) != log.Last || !slices.IsSorted(got) {
				t.Errorf("shard %d: %d events delivered of %d", log.Shard, len(got), log.Last)
			}
		}
		must(t, c.Down(t.Context()))
	})
}

// TestClusterDownIsBoundByItsContext: who does not want to wait for a callback that does not return need not.
func TestClusterDownIsBoundByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{})
		b := w.bot()
		release := make(chan struct{})
		b.Deliver = func(context.Context, shard.ID, shard.Event) error { <-release; return nil }
		c := b.cluster(t)
		must(t, c.Up(t.Context()))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.Down(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Down: %v", err)
		}
		close(release)
		must(t, c.Wait())
	})
}

// TestClusterOfSomeShards runs the given ones, and finds them by index and by guild.
func TestClusterOfSomeShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, discordsim.Options{Shards: 2, MaxConcurrency: 8, Guilds: 32})
		b := w.bot()
		b.Total, b.Indices = 8, []int{5, 2}
		var mu sync.Mutex
		live := map[int]bool{}
		b.Observe = func(id shard.ID, status shard.Status) {
			mu.Lock()
			defer mu.Unlock()
			live[id.Index] = status.State == shard.StateLive
		}
		c := b.cluster(t)
		if _, ok := c.ForGuild(w.Guilds()[0]); ok || c.Sessions() != nil || c.Down(t.Context()) != nil || c.Wait() != nil {
			t.Error("a cluster that was never up has sessions")
		}
		must(t, c.Up(t.Context()))
		allLive(t, c)
		if s := c.Sessions(); len(s) != 2 || s[0].ID() != (shard.ID{Index: 2, Total: 8}) || s[1].ID() != (shard.ID{Index: 5, Total: 8}) {
			t.Errorf("sessions %v", s)
		}
		for _, guild := range w.Guilds() {
			index := shard.ForGuild(guild, 8)
			s, ok := c.ForGuild(guild)
			if ok != (index == 2 || index == 5) || ok && s.ID().Index != index {
				t.Errorf("guild of shard %d: %v, %v", index, s, ok)
			}
			if same, found := c.Session(index); same != s || found != ok {
				t.Errorf("shard %d: %v, %v", index, same, found)
			}
		}
		mu.Lock()
		if !live[2] || !live[5] || len(live) != 2 {
			t.Errorf("observed %v", live)
		}
		mu.Unlock()
		must(t, c.Down(t.Context()))
	})
}

func TestClusterConfig(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*shard.ClusterConfig)
		want   string // part of the error; empty: none
	}{
		"good":                {func(*shard.ClusterConfig) {}, ""},
		"no token":            {func(c *shard.ClusterConfig) { c.Shard.Token = "" }, "Token"},
		"token with newline":  {func(c *shard.ClusterConfig) { c.Shard.Token = "secret\n" }, "Token"},
		"no deliver":          {func(c *shard.ClusterConfig) { c.Deliver = nil }, "Deliver"},
		"id":                  {func(c *shard.ClusterConfig) { c.Shard.ID.Total = 1 }, "set by the cluster"},
		"address":             {func(c *shard.ClusterConfig) { c.Shard.GatewayURL = "wss://x" }, "set by the cluster"},
		"bad presence":        {func(c *shard.ClusterConfig) { c.Shard.Presence = &shard.Presence{Status: "asleep"} }, "Presence"},
		"bad compression":     {func(c *shard.ClusterConfig) { c.Shard.Compression = "lzma" }, "Compression"},
		"api without scheme":  {func(c *shard.ClusterConfig) { c.APIURL = "bot:hunter2@discord.com" }, "APIURL"},
		"api without host":    {func(c *shard.ClusterConfig) { c.APIURL = "https:///api" }, "APIURL"},
		"api not an address":  {func(c *shard.ClusterConfig) { c.APIURL = "http://%zz:hunter2@x" }, "APIURL"},
		"negative total":      {func(c *shard.ClusterConfig) { c.Total = -1 }, "Total"},
		"indices, no total":   {func(c *shard.ClusterConfig) { c.Indices = []int{0} }, "Indices"},
		"index beyond":        {func(c *shard.ClusterConfig) { c.Total, c.Indices = 2, []int{0, 2} }, "Indices has 2"},
		"negative index":      {func(c *shard.ClusterConfig) { c.Total, c.Indices = 2, []int{-1} }, "Indices has -1"},
		"index twice":         {func(c *shard.ClusterConfig) { c.Total, c.Indices = 3, []int{1, 0, 1} }, "Indices has 1 twice"},
		"some, in any order":  {func(c *shard.ClusterConfig) { c.Total, c.Indices = 3, []int{2, 0} }, ""},
		"default api address": {func(c *shard.ClusterConfig) { c.APIURL = "" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := shard.ClusterConfig{Shard: shard.Config{Token: "token-secret"}, APIURL: "http://sim.test",
				Deliver: func(context.Context, shard.ID, shard.Event) error { return nil }}
			test.change(&cfg)
			c, err := shard.NewCluster(cfg)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
			if strings.Contains(fmt.Sprint(err), "hunter2") {
				t.Errorf("the password is in %v", err)
			}
			for _, s := range []string{fmt.Sprint(err), fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg), fmt.Sprintf("%v %+v %#v", c, c, c)} {
				if strings.Contains(s, "secret") {
					t.Errorf("the token is in %s", s)
				}
			}
		})
	}
}
