package stream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
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

// shards returns the shards there are for the group. Streams of a time when there
// were more shards are read on, so that nothing is left in them unread.
func (g *group) shards(ctx context.Context) ([]int, error) {
	shards, err := g.r.lookUp(ctx)
	if err != nil || len(shards) == 0 || g.r.opts.Shards != nil {
		return shards, err
	}
	key := knownKey(g.r.opts.Cluster, g.name)
	reply, err := knowScript.Run(ctx, g.r.client, []string{key}, len(shards)).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("group %s: shards known: %w", g.name, err)
	}
	first, most, err := parseKnown(reply)
	if err != nil {
		return nil, fmt.Errorf("group %s: %s: %w", g.name, key, err)
	}
	g.first = first
	for shard := len(shards); shard < most; shard++ {
		shards = append(shards, shard)
	}
	return shards, nil
}

// parseKnown reads the reply of knowScript.
func parseKnown(reply []string) (first, most int, err error) {
	if len(reply) != 2 {
		return 0, 0, fmt.Errorf("%d numbers, want 2", len(reply))
	}
	f, errFirst := strconv.ParseUint(reply[0], 10, 20) // far more than Discord has for anybody
	m, errMost := strconv.ParseUint(reply[1], 10, 20)
	return int(f), int(m), errors.Join(errFirst, errMost)
}

// from says where a group that is not there yet begins in a shard's stream. Of a
// shard that came later, nothing may be missed.
func (g *group) from(shard int) string {
	if g.r.opts.Shards == nil && shard >= g.first {
		return "0"
	}
	return g.r.opts.From
}

// join keeps the member registered and returns all there are.
//
// A member that finds itself missing was paused for longer than it was registered
// for, or Redis has lost it, and then perhaps the others and the leases too. It
// returns no members then, so that nothing changes hands, until all leases that
// somebody may still believe in have been renewed or are over.
func (g *group) join(ctx context.Context) ([]member, error) {
	ttl, again := g.r.opts.LeaseTTL, ""
	if !g.registered.IsZero() && (g.missing.IsZero() || time.Since(g.missing) < ttl) {
		again = "again"
	}
	key := readersKey(g.r.opts.Cluster, g.name)
	reply, err := joinScript.Run(ctx, g.r.client, []string{key}, g.member().String(), ttl.Milliseconds(), again).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("group %s: join: %w", g.name, err)
	}
	if len(reply) == 0 {
		if g.missing.IsZero() {
			g.missing = time.Now()
			g.r.logger.Warn("redis has forgotten this member, waiting for others to come back", "group", g.name, "member", g.id)
		}
		return nil, nil
	}
	g.registered, g.missing = time.Now(), time.Time{}
	members := make([]member, 0, len(reply))
	for _, text := range reply {
		m, err := parseMember(text)
		if err != nil { // it expires
			g.r.logger.Warn("skipping a malformed member", "group", g.name, "error", err)
			continue
		}
		members = append(members, m)
	}
	return members, nil
}

// renew prolongs the leases of all tenures.
func (g *group) renew(ctx context.Context) error {
	g.leases.Lock()
	defer g.leases.Unlock()
	tenures := slices.DeleteFunc(slices.Collect(maps.Values(g.held())), func(t *tenure) bool { return t.ctx.Err() != nil })
	calls := make([]*call, len(tenures))
	for i, t := range tenures {
		calls[i] = g.hold(t.keys, t.token)
	}
	deadline := g.deadline()
	roundTrip(ctx, g.r.client, calls)
	var failed error
	for i, t := range tenures {
		held, depth, err := parseHold(calls[i].cmd.Slice())
		switch {
		case err != nil:
			failed = fmt.Errorf("group %s: renew the lease of shard %d: %w", g.name, t.shard, err)
		case held != t.token:
			t.end(errLeaseLost)
		default:
			t.extend(deadline)
			g.setDepth(t, depth)
		}
	}
	return failed
}

// take begins a tenure of each of the shards whose lease is to be had.
func (g *group) take(ctx context.Context, shards []int) error {
	tokens := make([]string, len(shards))
	calls := make([]*call, len(shards))
	for i, shard := range shards {
		tokens[i] = g.id + "/" + strconv.Itoa(g.terms[shard]+1)
		calls[i] = g.hold(g.keys(shard), tokens[i])
	}
	deadline := g.deadline()
	roundTrip(ctx, g.r.client, calls)
	var failed error
	for i, shard := range shards {
		held, depth, err := parseHold(calls[i].cmd.Slice())
		switch {
		case err != nil:
			failed = fmt.Errorf("group %s: take shard %d: %w", g.name, shard, err)
		case held == tokens[i]:
			g.terms[shard]++
			t := g.newTenure(shard, tokens[i], deadline)
			t.depth = depth
			g.mu.Lock()
			g.tenures[shard] = t
			g.mu.Unlock()
			g.running.Go(t.run)
		}
	}
	return failed
}

func (g *group) hold(keys []string, token string) *call {
	return &call{script: holdScript, keys: keys, args: []any{token, g.r.opts.LeaseTTL.Milliseconds()}}
}

// deadline is until when a lease asked for now is to be relied on. It counts from
// before the request leaves, so it is over here before it is over in Redis.
func (g *group) deadline() time.Time {
	ttl := g.r.opts.LeaseTTL
	return time.Now().Add(ttl - ttl/leaseMargin)
}

// parseHold reads the reply of holdScript.
func parseHold(reply []any, err error) (held string, depth int64, _ error) {
	if err != nil {
		return "", 0, err
	}
	if len(reply) != 2 {
		return "", 0, fmt.Errorf("a lease's reply of %d parts, want 2", len(reply))
	}
	held, ok1 := reply[0].(string)
	depth, ok2 := reply[1].(int64)
	if !ok1 || !ok2 {
		return "", 0, fmt.Errorf("a lease's reply of %T and %T", reply[0], reply[1])
	}
	return held, depth, nil
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
