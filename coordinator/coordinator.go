package coordinator

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/serve"
	"github.com/muster-gateway/muster/pkg/lease"
	"github.com/muster-gateway/muster/pkg/shard"
)

// Config is what a coordinator needs. All fields but Shards, ReshardAt, AdminToken and DialDiscord are required.
type Config struct {
	ID      string // names this replica; unique among them
	Cluster string
	Token   string // of the bot
	APIURL  string // base of Discord's REST API
	Shards  int    // 0: as many as Discord recommends
	// ReshardAt is how many percent of the guilds that a shard can have Discord's recommendation may say it has, before there are to be
	// as many shards as it recommends. 0: that is left to people. It is nothing where Shards is set.
	ReshardAt  int
	Store      *lease.Store
	Listener   net.Listener // where to serve HTTP; closed by Run
	Logger     hclog.Logger
	AdminToken string // of who may give orders; "": who asks from this machine
	// DialDiscord opens connections to Discord, as net.Dialer.DialContext does, which is the default.
	DialDiscord func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Coordinator is one replica.
type Coordinator struct {
	cfg     Config
	log     hclog.Logger
	discord *http.Client
	view    atomic.Pointer[api.Cluster] // nil until etcd was read once
	leading atomic.Bool
	metrics *metrics

	chronicle chronicle
	sightings sightings // the loop's, and its leader's

	showAfter, decideAfter time.Time // the loop's
	unread                 time.Time // since when etcd does not answer; zero: it does. The loop's

	updates chan lease.Update
	terms   chan *lease.Term
	done    chan struct{} // a value for each term that the loop is done with
	answers chan gatewayBot
	ask     chan struct{} // asks for an answer now
}

// New makes a Coordinator.
func New(cfg Config) *Coordinator {
	c := &Coordinator{
		cfg: cfg, log: cfg.Logger, discord: newDiscordClient(cfg.DialDiscord),
		updates: make(chan lease.Update), terms: make(chan *lease.Term), done: make(chan struct{}), answers: make(chan gatewayBot),
		ask: make(chan struct{}, 1),
	}
	c.metrics = newMetrics(c)
	return c
}

// Run coordinates until ctx ends; then it resigns, if it leads, and returns nil. It returns an error only for what
// trying again cannot mend: ErrTokenRefused, a *lease.SchemaError or *lease.DeniedError when it starts, or a listener that fails.
func (c *Coordinator) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve.HTTP(ctx, c.cfg.Listener, c.handler()) })
	g.Go(func() error {
		if err := c.cfg.Store.AwaitReady(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		g.Go(func() error { return c.cfg.Store.FollowCluster(ctx, c.deliver(ctx)) })
		g.Go(func() error { return c.campaign(ctx) })
		g.Go(func() error { return c.pollDiscord(ctx) })
		return c.loop(ctx)
	})
	return g.Wait()
}

// deliver passes updates to the loop, in order, at its pace.
func (c *Coordinator) deliver(ctx context.Context) func(lease.Update) error {
	return func(u lease.Update) error {
		select {
		case c.updates <- u:
		case <-ctx.Done():
		}
		return nil
	}
}

// campaign stands for election again and again, and passes each term it wins to the loop.
func (c *Coordinator) campaign(ctx context.Context) error {
	retry := backoff.NewExponentialBackOff()
	retry.MaxInterval = 5 * time.Second
	var failing trouble
	for ctx.Err() == nil {
		term, err := c.cfg.Store.Campaign(ctx, c.cfg.ID)
		if err != nil {
			if ctx.Err() == nil && failing.fails(time.Now()) {
				c.log.Warn("election failed; trying again", "error", err)
			}
			wait(ctx, retry.NextBackOff())
			continue
		}
		failing.succeeds(time.Now()) // that it leads is said
		retry.Reset()
		c.serveTerm(ctx, term)
		term.Resign()
	}
	return nil
}

// serveTerm returns when the loop has finished with the term.
func (c *Coordinator) serveTerm(ctx context.Context, term *lease.Term) {
	select {
	case c.terms <- term:
	case <-ctx.Done():
		return
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

// Discord is asked this often for what is left of the identify budget; sooner if the last attempt failed.
const pollEvery = 5 * time.Minute

// pollDiscord asks Discord at once and then regularly. A token that is refused at the first answer ends the coordinator;
// refused later it is the shards that notice, each on its next connection, and halt the fleet.
func (c *Coordinator) pollDiscord(ctx context.Context) error {
	retry := backoff.NewExponentialBackOff()
	retry.MaxInterval = time.Minute
	answered := false
	for ctx.Err() == nil {
		bot, err := askDiscord(ctx, c.discord, c.cfg.APIURL, c.cfg.Token)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, ErrTokenRefused) && !answered:
			return err
		case err != nil:
			c.log.Error("discord does not say how to connect; trying again", "error", err)
			wait(ctx, max(retry.NextBackOff(), retryAfterOf(err)))
		default:
			answered = true
			retry.Reset()
			select {
			case c.answers <- bot:
			case <-ctx.Done():
			}
			select {
			case <-time.After(pollAfter(bot)):
			case <-c.ask:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// retryAfterOf is how long Discord wants us to wait after this answer.
func retryAfterOf(err error) time.Duration {
	if refused, ok := errors.AsType[*shard.APIError](err); ok {
		return refused.RetryAfter
	}
	return 0
}

// pollAfter is when to ask again: regularly, and just after the limit was reset.
func pollAfter(bot gatewayBot) time.Duration {
	reset := time.Duration(bot.SessionStartLimit.ResetAfter)*time.Millisecond + time.Second
	return max(min(pollEvery, reset), 10*time.Second)
}

// loop owns the cluster's state and, while this replica leads, all decisions.
func (c *Coordinator) loop(ctx context.Context) error {
	var (
		state lease.Cluster
		lead  *leader
		timer = time.NewTimer(time.Hour)
	)
	defer timer.Stop()
	for {
		var ended <-chan struct{}
		if lead != nil {
			ended = lead.term.Done()
		}
		select {
		case <-ctx.Done():
			return nil
		case u := <-c.updates:
			c.apply(&state, u)
		case answer := <-c.answers:
			if lead != nil {
				lead.answer = &answer
			}
		case term := <-c.terms:
			lead = newLeader(c, term, time.Now())
			c.log.Info("leading", "term", term.Number)
			c.askAgain()
		case <-ended:
			lead = c.stepDown(ctx, lead.term.Err().Error())
		case <-timer.C:
		}
		if state.Revision == 0 {
			continue
		}
		again, err := c.decide(ctx, lead, &state)
		if errors.Is(err, errDeposed) {
			lead = c.stepDown(ctx, err.Error())
		}
		c.leading.Store(lead != nil)
		again = earliest(again, c.show(&state))
		if again.IsZero() {
			again = time.Now().Add(time.Minute)
		}
		timer.Reset(time.Until(again))
	}
}

// share bounds the part of its time that the loop spends on views to one in so many, and that on decisions with nothing to do to another.
// In a large cluster both take longer than changes take to come, which are statuses for the most part.
const share = 10

// decide has the leader act, unless it did in vain too short ago: then it returns when to. Without one it keeps watching, at the same pace.
func (c *Coordinator) decide(ctx context.Context, lead *leader, state *lease.Cluster) (again time.Time, err error) {
	start := time.Now()
	if start.Before(c.decideAfter) {
		return c.decideAfter, nil
	}
	if lead == nil {
		c.sightings.observe(state, start)
		c.decideAfter = start.Add(share * time.Since(start))
		return time.Time{}, nil
	}
	written := lead.written
	again, err = lead.act(ctx, state, start)
	if lead.written == written {
		c.decideAfter = start.Add(min(share*time.Since(start), retryAfter)) // it may also have waited for etcd
	}
	return again, err
}

// silence is how long etcd may answer nothing before the view says so. A candidate's lease is renewed several times within that.
const silence = 10 * time.Second

// show makes the state the view, unless that was done too short ago. It returns when to do it again, though there is no news: when etcd may
// have been silent for too long.
func (c *Coordinator) show(state *lease.Cluster) (later time.Time) {
	start := time.Now()
	if start.Before(c.showAfter) {
		return c.showAfter
	}
	heard := c.cfg.Store.Heard()
	if c.unread = heard; start.Sub(heard) < silence {
		c.unread = time.Time{}
	}
	view := c.buildView(state, start)
	c.view.Store(view)
	c.chronicle.note(view)
	c.showAfter = start.Add(share * time.Since(start))
	if heard.IsZero() {
		return time.Time{}
	}
	return latest(heard.Add(silence), start.Add(time.Second))
}

// apply takes in an update, and all that are waiting behind it.
func (c *Coordinator) apply(state *lease.Cluster, u lease.Update) {
	for {
		for _, err := range state.Apply(u) {
			c.log.Error("record in etcd ignored", "error", err)
		}
		select {
		case u = <-c.updates:
		default:
			return
		}
	}
}

// askAgain has Discord asked at once: what a former leader was told of the budget is out of date.
func (c *Coordinator) askAgain() {
	select {
	case c.ask <- struct{}{}:
	default: // it will be
	}
}

func (c *Coordinator) stepDown(ctx context.Context, why string) *leader {
	c.log.Warn("no longer leading", "reason", why)
	select {
	case c.done <- struct{}{}:
	case <-ctx.Done():
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
