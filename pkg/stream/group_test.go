package stream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

const groupName = "bot"

// ledger is what the handlers of all members of a group were given.
type ledger struct {
	mu       sync.Mutex
	got      map[int][]stream.ID // by shard, in the order of the handlers' beginnings
	inside   map[int]int         // handlers under way, by shard
	overlaps int
	total    int
	settled  chan struct{} // closed when want entries were settled
	want     int
	// fail says whether the handler fails, nil never.
	fail func(m stream.Message) error
}

func newLedger(want int) *ledger {
	return &ledger{got: make(map[int][]stream.ID), inside: make(map[int]int), want: want, settled: make(chan struct{})}
}

func (l *ledger) handle(_ context.Context, m stream.Message) error {
	l.mu.Lock()
	l.got[m.Shard] = append(l.got[m.Shard], m.ID)
	if l.inside[m.Shard]++; l.inside[m.Shard] > 1 {
		l.overlaps++
	}
	fail := l.fail
	l.mu.Unlock()
	var err error
	if fail != nil {
		err = fail(m)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inside[m.Shard]--
	if err != nil {
		return err
	}
	if l.total++; l.total == l.want {
		close(l.settled)
	}
	return nil
}

func (l *ledger) wait(t testing.TB) {
	t.Helper()
	select {
	case <-l.settled:
	case <-deadline(t).Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Fatalf("%d entries of %d were settled", l.total, l.want)
	}
}

// checkOrder fails the test unless each shard's entries came at least once, and
// for the first time in order.
func (l *ledger) checkOrder(t testing.TB, shards int, first, last stream.ID) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.overlaps > 0 {
		t.Errorf("%d times two handlers were in one shard", l.overlaps)
	}
	for shard := range shards {
		checkRun(t, firsts(l.got[shard]), first, last)
	}
}

// firsts returns ids without what came again.
func firsts(ids []stream.ID) []stream.ID {
	var once []stream.ID
	seen := make(map[stream.ID]bool)
	for _, id := range ids {
		if !seen[id] {
			once = append(once, id)
		}
		seen[id] = true
	}
	return once
}

// consume runs a member of the group until the test ends or stop is called,
// which waits for it.
func consume(t testing.TB, client redis.UniversalClient, opts stream.ReaderOptions, handle stream.Handler) (r *stream.Reader, stop func()) {
	t.Helper()
	if opts.Group == "" {
		opts.Group = groupName
	}
	if opts.Logger == nil {
		opts.Logger = hclog.New(&hclog.LoggerOptions{Output: testLog{t}, Level: hclog.Warn})
	}
	r = newReader(t, client, opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx, handle); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return r, stop
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// pendingIn returns how many entries of a shard the group has not acknowledged.
func pendingIn(t testing.TB, client redis.UniversalClient, shard int) int64 {
	t.Helper()
	p, err := client.XPending(deadline(t), stream.EventsKey(cluster, shard), groupName).Result()
	if err != nil {
		t.Fatal(err)
	}
	return p.Count
}

func TestGroupSharesShardsAndKeepsOrder(t *testing.T) {
	for members := 1; members <= 3; members++ {
		t.Run(fmt.Sprintf("%d members", members), func(t *testing.T) {
			client := open(t, redistest.StartReal(t).URL())
			const shards, entries = 16, 300
			publish(t, client, shards, 1)
			l := newLedger(shards * entries)
			var stops []func()
			for range members {
				_, stop := consume(t, client, stream.ReaderOptions{From: "0", Parallel: 4}, l.handle)
				stops = append(stops, stop)
			}
			for seq := int64(1); seq <= entries; seq++ {
				for shard := range shards {
					addEvent(t, client, shard, id(1, seq))
				}
			}
			l.wait(t)
			for _, stop := range stops {
				stop()
			}
			l.checkOrder(t, shards, id(1, 1), id(1, entries))
			if l.total != shards*entries { // nothing went wrong, so nothing came twice
				t.Errorf("%d messages, want %d", l.total, shards*entries)
			}
			for shard := range shards {
				if n := pendingIn(t, client, shard); n != 0 {
					t.Errorf("shard %d: %d entries are not acknowledged", shard, n)
				}
			}
			left, err := client.Keys(deadline(t), cluster+":*reader*").Result()
			if err != nil || len(left) != 1 || left[0] != cluster+":readers:"+groupName+":shards" {
				t.Errorf("keys left behind: %v, error %v", left, err)
			}
		})
	}
}

// Members come and go while entries are written and handled.
func TestGroupMembersJoinAndLeave(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	const shards, entries = 16, 200
	publish(t, client, shards, 1)
	l := newLedger(shards * entries)
	opts := stream.ReaderOptions{From: "0", Parallel: 2, LeaseTTL: minTTL}
	_, stopFirst := consume(t, client, opts, l.handle)
	var last func()
	for seq := int64(1); seq <= entries; seq++ {
		for shard := range shards {
			addEvent(t, client, shard, id(1, seq))
		}
		switch seq {
		case 50:
			consume(t, client, opts, l.handle)
		case 100:
			_, last = consume(t, client, opts, l.handle)
		case 130:
			stopFirst()
		case 170:
			last()
		}
	}
	l.wait(t)
	l.checkOrder(t, shards, id(1, 1), id(1, entries))
}

// Who comes later gets a fair share from those that are there.
func TestGroupGivesUpAFairShare(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	publish(t, client, 12, 1)
	var members []*stream.Reader
	for n := 1; n <= 3; n++ {
		r, _ := consume(t, client, stream.ReaderOptions{LeaseTTL: minTTL}, newLedger(0).handle)
		members = append(members, r)
		for ctx, fair := deadline(t), false; !fair; {
			fair = true
			for _, r := range members {
				fair = fair && r.Stats().Shards == 12/n
			}
			if ctx.Err() != nil {
				t.Fatalf("%d members do not share", n)
			}
		}
	}
}

func TestGroupBeginsWhereToldAndGoesOn(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	addEvents(t, client, 3, id(1, 1), id(1, 10))
	for from, first := range map[string]int64{"0": 1, "1-4": 5, "1-0": 1, "$": 11} {
		group := "from" + from
		opts := stream.ReaderOptions{Shards: []int{3}, From: from, Group: group}
		// A group is there from the first look; what is appended then is its.
		l := newLedger(int(11 - first))
		_, stop := consume(t, client, opts, l.handle)
		if first <= 10 {
			l.wait(t)
		} else {
			awaitGroup(t, client, 3, group)
		}
		stop()
		checkRun(t, l.got[3], id(1, first), id(1, 10))
	}
	addEvents(t, client, 3, id(1, 11), id(1, 20))
	for _, group := range []string{"from0", "from$"} {
		l := newLedger(10)
		_, stop := consume(t, client, stream.ReaderOptions{Shards: []int{3}, From: "0", Group: group}, l.handle)
		l.wait(t)
		stop()
		checkRun(t, l.got[3], id(1, 11), id(1, 20))
	}
}

// awaitGroup returns when a shard's stream has a group.
func awaitGroup(t testing.TB, client redis.UniversalClient, shard int, name string) {
	t.Helper()
	ctx := deadline(t)
	for ctx.Err() == nil {
		groups, _ := client.XInfoGroups(ctx, stream.EventsKey(cluster, shard)).Result() // an error: no stream yet
		for _, g := range groups {
			if g.Name == name {
				return
			}
		}
	}
	t.Fatalf("no group %s", name)
}

// A group may be made before the stream is: the writer still finds a stream that
// was never written, and a group made so misses nothing.
func TestGroupBeforeTheFirstEntry(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	publish(t, client, 1, 1)
	l := newLedger(100)
	_, stop := consume(t, client, stream.ReaderOptions{}, l.handle)
	awaitGroup(t, client, 0, groupName)
	if tail, err := stream.Tail(deadline(t), client, cluster, 0); err != nil || !tail.IsZero() {
		t.Errorf("the stream ends with %v, error %v", tail, err)
	}
	log := openLog(t, run(t, client, stream.Options{}), 0)
	appendRun(t, log, id(1, 1), id(1, 100))
	flush(t, log)
	l.wait(t)
	stop()
	checkRun(t, l.got[0], id(1, 1), id(1, 100))
}

// A handler that fails holds its shard, and no other, until it does not.
func TestGroupRetriesInPlace(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	addEvents(t, client, 0, id(1, 1), id(1, 20))
	addEvents(t, client, 1, id(1, 1), id(1, 20))
	l := newLedger(40)
	failures := 0
	l.fail = func(m stream.Message) error {
		if m.Shard == 0 && m.ID == id(1, 5) && failures < 3 {
			failures++
			return errors.New("not yet")
		}
		return nil
	}
	r, stop := consume(t, client, stream.ReaderOptions{Shards: []int{0, 1}, From: "0"}, l.handle)
	l.wait(t)
	stop()
	l.checkOrder(t, 2, id(1, 1), id(1, 20))
	if n := len(l.got[0]); n != 23 {
		t.Errorf("%d handlers, want 23", n)
	}
	if s := r.Stats(); s.Failures != 3 || s.Dead != 0 || s.Entries != 40 {
		t.Errorf("stats %+v", s)
	}
}

func TestGroupBuriesWhatKeepsFailing(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	addEvents(t, client, 0, id(1, 1), id(1, 10))
	l := newLedger(9)
	l.fail = func(m stream.Message) error {
		if m.ID == id(1, 4) {
			return errors.New("cannot")
		}
		return nil
	}
	r, stop := consume(t, client, stream.ReaderOptions{Shards: []int{0}, From: "0", MaxDeliveries: 3, LeaseTTL: minTTL}, l.handle)
	l.wait(t)
	for ctx := deadline(t); r.Stats().DeadDepth != 1; { // with the next renewal
		if ctx.Err() != nil {
			t.Fatalf("stats %+v", r.Stats())
		}
	}
	stop()
	l.checkOrder(t, 1, id(1, 1), id(1, 10))
	if n := len(l.got[0]); n != 9+3 {
		t.Errorf("%d deliveries, want 12", n)
	}
	dead, err := client.XRange(deadline(t), stream.DeadKey(cluster, 0, groupName), "-", "+").Result()
	if err != nil || len(dead) != 1 {
		t.Fatalf("dead letters %v, error %v", dead, err)
	}
	v, e := dead[0].Values, event(id(1, 4))
	if v["id"] != "1-4" || v["reason"] != "cannot" || v["deliveries"] != "3" || v["t"] != e.Type || v["d"] != string(e.Data) || v["at"] == "" {
		t.Errorf("the dead letter is %v", v)
	}
	if n := pendingIn(t, client, 0); n != 0 {
		t.Errorf("%d entries are not acknowledged", n)
	}
	if s := r.Stats(); s.Dead != 1 || s.Failures != 3 {
		t.Errorf("stats %+v", s)
	}
}

// The deliveries of earlier members count.
func TestGroupRemembersDeliveries(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	addEvents(t, client, 0, id(1, 1), id(1, 2))
	opts := stream.ReaderOptions{Shards: []int{0}, From: "0", Group: groupName, MaxDeliveries: 4}
	var deliveries int
	for range 2 { // two members that are told to end within their second failure each, before they can try again
		ctx, cancel := context.WithCancel(deadline(t))
		failures := 0
		err := newReader(t, client, opts).Run(ctx, func(context.Context, stream.Message) error {
			deliveries++
			if failures++; failures == 2 {
				cancel()
			}
			return errors.New("cannot")
		})
		if err != nil {
			t.Error(err)
		}
	}
	l := newLedger(1)
	_, stop := consume(t, client, opts, l.handle)
	l.wait(t)
	stop()
	if deliveries != 4 || len(l.got[0]) != 1 || l.got[0][0] != id(1, 2) {
		t.Errorf("%d deliveries, and then %v", deliveries, l.got[0])
	}
	if n := client.XLen(deadline(t), stream.DeadKey(cluster, 0, groupName)).Val(); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

// When the context ends the handler under way finishes, is acknowledged, and no
// other begins.
func TestGroupDrains(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	addEvents(t, client, 0, id(1, 1), id(1, 5))
	r := newReader(t, client, stream.ReaderOptions{Shards: []int{0}, From: "0", Group: groupName})
	ctx, cancel := context.WithCancel(deadline(t))
	var got []stream.ID
	err := r.Run(ctx, func(inner context.Context, m stream.Message) error {
		got = append(got, m.ID)
		if m.ID == id(1, 3) {
			cancel()
		}
		return inner.Err() // not ended with the other
	})
	if err != nil {
		t.Error(err)
	}
	checkRun(t, got, id(1, 1), id(1, 3))
	if n := pendingIn(t, client, 0); n != 2 {
		t.Errorf("%d entries are not acknowledged, want the 2 that were not handled", n)
	}
}

// A shard whose stream was never written has no lag, and spoils nothing.
func TestReadLagOfAnUnwrittenStream(t *testing.T) {
	client := open(t, redistest.Start(t).URL())
	publish(t, client, 2, 1)
	if err := client.XGroupCreateMkStream(deadline(t), stream.EventsKey(cluster, 0), "g", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if lags, err := stream.ReadLag(deadline(t), client, cluster, "g"); err != nil || len(lags) != 1 {
		t.Errorf("lag %v, %v", lags, err)
	}
}

// A context that ends in a loop's body does not cut it short: its message is passed and acknowledged, and the loop ends.
func TestGroupMessagesEndInTheBody(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	publish(t, client, 1, 1)
	addEvents(t, client, 0, id(1, 1), id(1, 3))
	r, err := stream.NewReader(client, stream.ReaderOptions{Cluster: cluster, From: "0", Group: groupName})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	handled := 0
	for range r.Messages(ctx) {
		handled++
		cancel()
	}
	pending, err := client.XPending(deadline(t), stream.EventsKey(cluster, 0), groupName).Result()
	if err != nil || handled != 1 {
		t.Fatalf("%d handled, %v", handled, err)
	}
	group := client.XInfoGroups(deadline(t), stream.EventsKey(cluster, 0)).Val()
	if pending.Count > 0 && pending.Lower == "1-1" {
		t.Errorf("what was handled is pending: %+v, %+v", pending, group)
	}
}

func TestGroupMessages(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	addEvents(t, client, 0, id(1, 1), id(1, 20))
	r := newReader(t, client, stream.ReaderOptions{Shards: []int{0}, From: "0", Group: groupName})
	var got []stream.ID
	for range 4 {
		for m := range r.Messages(deadline(t)) {
			if got = append(got, m.ID); len(got)%5 == 0 {
				break
			}
		}
	}
	checkRun(t, got, id(1, 1), id(1, 20))
	if n := pendingIn(t, client, 0); n != 0 {
		t.Errorf("%d entries are not acknowledged", n)
	}
}

func TestGroupSkipsMalformedEntries(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	addEvent(t, client, 0, id(1, 1))
	add(t, client, 0, "1-2", "t", "NO_DATA")
	add(t, client, 0, "1-18446744073709551614", "t", "ODD_ID", "d", "{}")
	addEvent(t, client, 0, id(2, 0))
	l := newLedger(2)
	r, stop := consume(t, client, stream.ReaderOptions{Shards: []int{0}, From: "0"}, l.handle)
	l.wait(t)
	stop()
	if got := fmt.Sprint(l.got[0]); got != "[1-1 2-0]" {
		t.Errorf("read %s", got)
	}
	if s := r.Stats(); s.Malformed != 2 || s.Losses != 0 {
		t.Errorf("stats %+v", s)
	}
	if n := pendingIn(t, client, 0); n != 0 {
		t.Errorf("%d entries are not acknowledged", n)
	}
}

func TestGroupFollowsTheNumberOfShards(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	addEvents(t, client, 0, id(1, 1), id(1, 5)) // before the group: not its
	publish(t, client, 1, 1)
	l := newLedger(30)
	_, stop := consume(t, client, stream.ReaderOptions{LeaseTTL: minTTL}, l.handle)
	awaitGroup(t, client, 0, groupName)
	addEvents(t, client, 2, id(1, 1), id(1, 10)) // before it is published
	publish(t, client, 3, 2)
	awaitGroup(t, client, 2, groupName)
	stop()
	publish(t, client, 1, 3)
	addEvents(t, client, 2, id(1, 11), id(1, 20)) // what an old shard's stream still holds is read
	_, stop = consume(t, client, stream.ReaderOptions{LeaseTTL: minTTL}, l.handle)
	addEvents(t, client, 0, id(1, 6), id(1, 15))
	l.wait(t)
	stop()
	checkRun(t, l.got[0], id(1, 6), id(1, 15))
	checkRun(t, l.got[2], id(1, 1), id(1, 20))
}

func TestGroupThatVanishedIsMadeAgain(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	ctx := deadline(t)
	key := stream.EventsKey(cluster, 0)
	l := newLedger(30)
	addEvents(t, client, 0, id(1, 1), id(1, 10))
	_, stop := consume(t, client, stream.ReaderOptions{Shards: []int{0}, From: "0"}, l.handle)
	for l.count() < 10 {
	}
	if err := client.XGroupDestroy(ctx, key, groupName).Err(); err != nil { // the group alone
		t.Fatal(err)
	}
	addEvents(t, client, 0, id(1, 11), id(1, 20))
	for l.count() < 20 {
	}
	if err := client.Del(ctx, key).Err(); err != nil { // all of the stream
		t.Fatal(err)
	}
	addEvents(t, client, 0, id(1, 21), id(1, 30))
	l.wait(t)
	stop()
	checkRun(t, l.got[0], id(1, 1), id(1, 30))
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

func TestGroupThroughAnOutage(t *testing.T) {
	server := redistest.StartReal(t, "--appendonly", "yes", "--appendfsync", "always")
	client := open(t, server.URL())
	const shards, entries = 4, 400
	publish(t, client, shards, 1)
	producer := open(t, server.URL()) // of its own: the readers' dials while the server is away count against their client's
	l := newLedger(shards * entries)
	for range 2 {
		consume(t, client, stream.ReaderOptions{From: "0", Parallel: 2, LeaseTTL: 3 * minTTL}, l.handle)
	}
	for seq := int64(1); seq <= entries; seq++ {
		for shard := range shards {
			addEvent(t, producer, shard, id(1, seq))
		}
		switch seq % 100 {
		case 50:
			server.Kill()
			server.Start()
		case 75:
			if err := client.ScriptFlush(deadline(t)).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.wait(t)
	l.checkOrder(t, shards, id(1, 1), id(1, entries))
}

// Redis comes back with nothing: no members, no leases, no groups, no streams.
// Members keep the shards they had, and go on with what is written then.
func TestGroupWhenRedisLostAll(t *testing.T) {
	server := redistest.StartReal(t)
	client := open(t, server.URL())
	const shards = 8
	publish(t, client, shards, 1)
	l := newLedger(shards * 20)
	for range 3 {
		consume(t, client, stream.ReaderOptions{From: "0", Parallel: 4, LeaseTTL: 3 * minTTL}, l.handle)
	}
	for shard := range shards {
		addEvents(t, client, shard, id(1, 1), id(1, 10))
	}
	for l.count() < shards*10 {
	}
	server.Kill()
	server.Start()
	publish(t, client, shards, 1)
	for shard := range shards {
		addEvents(t, client, shard, id(2, 0), id(2, 9))
	}
	l.wait(t)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.overlaps > 0 {
		t.Errorf("%d times two handlers were in one shard", l.overlaps)
	}
	for shard := range shards {
		checkRun(t, l.got[shard][:10], id(1, 1), id(1, 10))
		checkRun(t, firsts(l.got[shard][10:]), id(2, 0), id(2, 9))
	}
}

// A Redis that takes nothing more lets members read, acknowledge and keep what
// they have.
func TestGroupWhenRedisIsFull(t *testing.T) {
	client := open(t, redistest.StartReal(t, "--maxmemory-policy", "noeviction").URL())
	const entries = 5000
	publish(t, client, 1, 1)
	l := newLedger(entries)
	begun, full := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	l.fail = func(m stream.Message) error {
		begin()
		<-full
		return nil
	}
	consume(t, client, stream.ReaderOptions{From: "0", LeaseTTL: minTTL}, l.handle)
	addEvents(t, client, 0, id(1, 1), id(1, entries))
	<-begun // it has its lease, which it could not be given later
	if err := client.ConfigSet(deadline(t), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	close(full)
	l.wait(t)
	for ctx := deadline(t); pendingIn(t, client, 0) > 0; {
		if ctx.Err() != nil {
			t.Fatal("not all is acknowledged")
		}
	}
	l.checkOrder(t, 1, id(1, 1), id(1, entries))
}

func TestGroupOnRedisCluster(t *testing.T) {
	client := open(t, redistest.StartCluster(t, 3)[0].URL()+"?cluster=true")
	const shards, entries = 12, 100
	publish(t, client, shards, 1)
	l := newLedger(shards * entries)
	for range 2 {
		consume(t, client, stream.ReaderOptions{From: "0", Parallel: 2, LeaseTTL: minTTL}, l.handle)
	}
	for seq := int64(1); seq <= entries; seq++ {
		for shard := range shards {
			addEvent(t, client, shard, id(1, seq))
		}
	}
	l.wait(t)
	l.checkOrder(t, shards, id(1, 1), id(1, entries))
}

// A group that was away for longer than the stream is long is told what it
// missed, before it gets what there is. Entries that are not there because the
// cluster filters them are no loss.
func TestReadersSayWhatWasTrimmed(t *testing.T) {
	for _, group := range []string{"", groupName} {
		t.Run("group "+group, func(t *testing.T) {
			client := open(t, redistest.StartReal(t).URL())
			ctx := deadline(t)
			var losses []stream.Loss
			var got []string
			read := func(n int) *stream.Reader {
				r := newReader(t, client, stream.ReaderOptions{
					Shards: []int{0}, From: "1-1", Group: group,
					Lost: func(_ context.Context, l stream.Loss) {
						losses = append(losses, l)
						got = append(got, "lost")
					},
				})
				for m := range r.Messages(ctx) {
					if got = append(got, m.ID.String()); len(got) >= n {
						break
					}
				}
				return r
			}
			addEvents(t, client, 0, id(1, 1), id(1, 1))
			addEvents(t, client, 0, id(1, 5), id(1, 5)) // 2 to 4 are filtered
			read(1)
			addEvents(t, client, 0, id(1, 6), id(1, 9))
			trimTo(t, client, 0, 2)
			if group == "" { // nothing is remembered: begins after 1-1 again
				got = nil
			}
			r := read(len(got) + 3)
			want := map[string]string{"": "[lost 1-8 1-9]", groupName: "[1-5 lost 1-8 1-9]"}[group]
			if fmt.Sprint(got) != want {
				t.Errorf("got %v, want %s", got, want)
			}
			after := map[string]stream.ID{"": id(1, 1), groupName: id(1, 5)}[group]
			if len(losses) != 1 || losses[0] != (stream.Loss{Shard: 0, After: after, Before: id(1, 8)}) || r.Stats().Losses != 1 {
				t.Errorf("losses %+v, stats %+v", losses, r.Stats())
			}
		})
	}
}

// Entries that were delivered, never settled, and then trimmed are lost as well.
func TestGroupSaysWhatWasTrimmedWhilePending(t *testing.T) {
	client := open(t, redistest.StartReal(t).URL())
	ctx := deadline(t)
	addEvents(t, client, 0, id(1, 1), id(1, 6))
	key := stream.EventsKey(cluster, 0)
	if err := errors.Join(
		client.XGroupCreate(ctx, key, groupName, "0").Err(),
		client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: groupName, Consumer: "gone", Streams: []string{key, ">"}, Count: 5}).Err(),
	); err != nil {
		t.Fatal(err)
	}
	trimTo(t, client, 0, 3)
	var losses []stream.Loss
	l := newLedger(3)
	_, stop := consume(t, client, stream.ReaderOptions{
		Shards: []int{0}, Lost: func(_ context.Context, l stream.Loss) { losses = append(losses, l) },
	}, l.handle)
	l.wait(t)
	stop()
	checkRun(t, l.got[0], id(1, 4), id(1, 6))
	if len(losses) != 1 || losses[0] != (stream.Loss{Shard: 0, After: id(1, 0), Before: id(1, 4)}) {
		t.Errorf("losses %+v", losses)
	}
	if n := pendingIn(t, client, 0); n != 0 {
		t.Errorf("%d entries are not acknowledged", n)
	}
	consumers, err := client.XInfoConsumers(ctx, key, groupName).Result()
	if err != nil || len(consumers) != 1 {
		t.Errorf("consumers %v, error %v: want those that are gone forgotten", consumers, err)
	}
}

func trimTo(t testing.TB, client redis.UniversalClient, shard int, n int64) {
	t.Helper()
	if err := client.XTrimMaxLen(deadline(t), stream.EventsKey(cluster, shard), n).Err(); err != nil {
		t.Fatal(err)
	}
}
