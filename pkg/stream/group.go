package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// beatsPerTTL is how often, within the time a lease lasts, a member renews
	// what it has and looks whether it should have something else.
	beatsPerTTL = 10
	// leaseMargin is the part of a lease's time that a member does not rely on.
	leaseMargin = 5 // a fifth

	farewellTimeout = 2 * time.Second
)

// group is one Run of a Reader with a group: a member, from joining to leaving.
//
// Its goroutines are the beat, which owns what shards the member has (run); one
// for each shard (tenure); and one each for calls, acknowledgements and news.
type group struct {
	r       *Reader
	name    string
	id      string // of this member, and the name of its consumer
	handler Handler
	ctx     context.Context // Run's
	base    context.Context // of handlers: it does not end
	slots   chan struct{}   // holds a token for each handler under way

	courier *courier
	acker   *acker
	watch   chan struct{} // holds one token when a tenure has begun to wait
	outage  outage

	// Owned by the beat:
	registered time.Time   // when the member was registered last, zero if never
	missing    time.Time   // when it noticed that it is not any more
	terms      map[int]int // how many tenures of each shard there were
	first      int         // shards whose beginning is ReaderOptions.From

	// leases is held while leases are renewed or released: a renewal on its way
	// would bring back one that is released meanwhile.
	leases sync.Mutex

	mu      sync.Mutex
	tenures map[int]*tenure
	gone    chan struct{} // holds one token when a tenure has ended
	running sync.WaitGroup
}

func newGroup(r *Reader, handler Handler) *group {
	return &group{
		r: r, name: r.opts.Group, id: memberID(), handler: handler,
		slots:   make(chan struct{}, r.opts.Parallel),
		courier: newCourier(r.client),
		acker:   newAcker(r.client, r.opts.Group),
		watch:   make(chan struct{}, 1),
		outage:  outage{logger: r.logger, trouble: "redis does not answer", relief: "redis answers again"},
		terms:   make(map[int]int),
		tenures: make(map[int]*tenure),
		gone:    make(chan struct{}, 1),
	}
}

// memberID is unique for each Run, and says on which machine it is.
func memberID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return strings.ReplaceAll(host, " ", "-") + "-" + rand.Text()[:10]
}

// run is a member's life. When it returns, all it started has ended.
func (g *group) run(ctx context.Context) {
	g.ctx, g.base = ctx, context.WithoutCancel(ctx)
	helpersCtx, stopHelpers := context.WithCancel(g.base)
	var helpers sync.WaitGroup
	helpers.Go(func() { g.courier.run(helpersCtx) })
	helpers.Go(func() { g.acker.run(helpersCtx) })
	helpers.Go(func() { g.awaitNews(helpersCtx) })
	defer helpers.Wait()
	defer stopHelpers()

	for attempt := 0; ctx.Err() == nil; {
		wait := g.interval()
		if err := g.beat(ctx); err != nil && ctx.Err() == nil {
			g.outage.note(err)
			wait = backoff(attempt)
			attempt++
		} else if attempt > 0 {
			g.outage.over()
			attempt = 0
		}
		pause(ctx, wait)
	}
	g.drain()
	g.withdraw()
}

func (g *group) interval() time.Duration {
	d := g.r.opts.LeaseTTL / beatsPerTTL
	return d - mathrand.N(d/4)
}

// drain ends all tenures. Their leases are kept until they have.
func (g *group) drain() {
	for _, t := range g.held() {
		t.leave()
	}
	beat := time.NewTicker(g.r.opts.LeaseTTL / beatsPerTTL)
	defer beat.Stop()
	for len(g.held()) > 0 {
		select {
		case <-g.gone:
		case <-beat.C:
			_ = g.renew(g.base) // the tenures notice if this fails
		}
	}
	g.running.Wait()
}

// withdraw unregisters the member, so that the others need not wait for it to expire.
func (g *group) withdraw() {
	ctx, cancel := context.WithTimeout(g.base, farewellTimeout)
	defer cancel()
	key := readersKey(g.r.opts.Cluster, g.name)
	if err := g.r.client.ZRem(ctx, key, g.member().String()).Err(); err != nil {
		g.r.logger.Debug("the member is left to expire", "member", g.id, "error", err)
	}
}

func (g *group) member() member { return member{id: g.id, shards: g.r.opts.Shards} }

// beat renews the leases, and then sees who there is and what should be whose.
func (g *group) beat(ctx context.Context) error {
	errRenew := g.renew(ctx) // which must not keep the member from staying one
	shards, err := g.shards(ctx)
	if err != nil {
		return errors.Join(errRenew, err)
	}
	members, err := g.join(ctx)
	if err != nil || members == nil {
		return errors.Join(errRenew, err)
	}
	held := g.held()
	holds := make(map[int]bool, len(held))
	for shard := range held {
		holds[shard] = true
	}
	give, take := exchange(g.id, assign(shards, members), holds)
	for _, shard := range give {
		held[shard].leave()
	}
	return errors.Join(errRenew, g.take(ctx, take))
}

func (g *group) keys(shard int) []string {
	cluster := g.r.opts.Cluster
	return []string{EventsKey(cluster, shard), readerKey(cluster, shard, g.name), DeadKey(cluster, shard, g.name)}
}

// ahead is how many entries of a shard are read at once. They are in hand until
// they are handled, and nothing more of the shard is read before.
func (g *group) ahead() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return perStream(max(len(g.tenures), 1))
}

// held returns the tenures that have not ended.
func (g *group) held() map[int]*tenure {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.tenures)
}

func (g *group) setDepth(t *tenure, depth int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.depth = depth
}

// ended forgets a tenure.
func (g *group) ended(t *tenure) {
	g.mu.Lock()
	delete(g.tenures, t.shard)
	g.mu.Unlock()
	signal(g.gone)
}
