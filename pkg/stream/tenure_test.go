package stream

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/redistest"
)

func testGroup(t *testing.T, client redis.UniversalClient, opts ReaderOptions, handler Handler) *group {
	t.Helper()
	opts.Group = "g"
	g := newGroup(testReader(t, client, opts), handler)
	g.ctx, g.base = t.Context(), t.Context()
	return g
}

// Past its deadline a tenure begins no handler, and no renewal brings it back,
// whether or not the timer that says so has had its turn.
func TestTenurePastItsDeadline(t *testing.T) {
	g := testGroup(t, nil, ReaderOptions{}, nil)
	late := func() *tenure {
		tenure := g.newTenure(0, "me/1", time.Now().Add(time.Hour))
		tenure.expiry.Stop()
		tenure.deadline = time.Now()
		return tenure
	}
	if tenure := late(); tenure.held() || !errors.Is(context.Cause(tenure.ctx), errLeaseLost) {
		t.Errorf("it is held; its context's cause is %v", context.Cause(tenure.ctx))
	}
	tenure := late()
	tenure.extend(time.Now().Add(time.Hour))
	if tenure.held() || !errors.Is(context.Cause(tenure.ctx), errLeaseLost) {
		t.Errorf("extended it is held; its context's cause is %v", context.Cause(tenure.ctx))
	}
	tenure = g.newTenure(0, "me/1", time.Now().Add(time.Hour))
	tenure.extend(time.Now().Add(2 * time.Hour))
	if !tenure.held() {
		t.Error("it is not held before its deadline")
	}
	tenure.expiry.Stop()
	tenure.end(nil)
}

// A member that is told to end makes no further delivery, and counts none.
func TestDeliveryThatIsNotMadeIsNotCounted(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	g := testGroup(t, client, ReaderOptions{}, func(context.Context, Message) error { t.Error("the handler begins"); return nil })
	ctx, end := context.WithCancel(t.Context())
	g.ctx = ctx
	calling, hangUp := context.WithCancel(t.Context())
	var courier sync.WaitGroup
	courier.Go(func() { g.courier.run(calling) })
	defer courier.Wait()
	defer hangUp()
	addRun(t, client, 0, 1, 1)
	keys := g.keys(0)
	client.Set(t.Context(), keys[1], "me/1", 0)
	client.XGroupCreate(t.Context(), keys[0], "g", "0")
	if _, err := readScript.Run(t.Context(), client, keys, "me/1", "g", g.id, 10).Result(); err != nil {
		t.Fatal(err)
	}
	tenure := g.newTenure(0, "me/1", time.Now().Add(time.Hour))
	defer tenure.end(nil)
	defer tenure.expiry.Stop()
	end()
	if settled, err := tenure.attempt(Message{ID: ID{1, 1}}, "1-1", 2); settled || !errors.Is(err, context.Canceled) {
		t.Errorf("settled %v, error %v", settled, err)
	}
	pending, err := client.XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: keys[0], Group: "g", Start: "-", End: "+", Count: 10}).Result()
	if err != nil || len(pending) != 1 || pending[0].RetryCount != 1 {
		t.Errorf("pending %+v, error %v", pending, err)
	}
}

// While Redis is away a handler's context ends before the lease can.
func TestHandlerEndsBeforeTheLease(t *testing.T) {
	server := redistest.StartReal(t)
	client := openTest(t, server.URL())
	addRun(t, client, 0, 1, 1)
	const ttl = 2 * minLeaseTTL
	r := testReader(t, client, ReaderOptions{Group: "g", Shards: []int{0}, From: "0", LeaseTTL: ttl})
	ctx, cancel := context.WithCancel(t.Context())
	var cause error
	err := r.Run(ctx, func(inner context.Context, _ Message) error {
		cancel() // which does not end it
		server.Kill()
		<-inner.Done()
		cause = context.Cause(inner)
		return inner.Err()
	})
	if err != nil || !errors.Is(cause, errLeaseLost) {
		t.Errorf("the cause is %v, error %v", cause, err)
	}
}

// A handler may take longer than a lease.
func TestLeaseIsRenewed(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	addRun(t, client, 0, 1, 1)
	const ttl = 4 * minLeaseTTL
	r := testReader(t, client, ReaderOptions{Group: "g", Shards: []int{0}, From: "0", LeaseTTL: ttl})
	ctx, cancel := context.WithCancel(t.Context())
	err := r.Run(ctx, func(inner context.Context, _ Message) error {
		cancel() // not even when Run is to end
		pause(inner, ttl+ttl/4)
		if inner.Err() != nil {
			t.Errorf("the handler's context has ended: %v", context.Cause(inner))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A member that Redis has forgotten takes nothing until the others have had time
// to say what they hold.
func TestForgottenMemberWaits(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	g := testGroup(t, client, ReaderOptions{}, nil)
	join := func(want int) {
		t.Helper()
		if members, err := g.join(t.Context()); err != nil || len(members) != want {
			t.Errorf("members %v, error %v, want %d", members, err, want)
		}
	}
	join(1)
	join(1)
	client.Del(t.Context(), readersKey("test", "g"))
	join(0)
	join(0)
	g.missing = g.missing.Add(-DefaultLeaseTTL)
	join(1)
	join(1)
}

// Out of memory Redis keeps the leases there are, and gives no more.
func TestHoldOutOfMemory(t *testing.T) {
	client := openTest(t, redistest.StartReal(t, "--maxmemory-policy", "noeviction").URL())
	g := testGroup(t, client, ReaderOptions{}, nil)
	hold := func(shard int) error {
		held, _, err := parseHold(holdScript.Run(t.Context(), client, g.keys(shard), "me/1", 1000).Slice())
		if err == nil && held != "me/1" {
			t.Errorf("shard %d is held by %s", shard, held)
		}
		return err
	}
	if err := hold(0); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := hold(0); err != nil {
		t.Errorf("renew: %v", err)
	}
	if err := hold(1); err == nil {
		t.Error("a new lease was given, so this tests nothing")
	}
}

// Where a group is made: ids of the stream, where to begin, where it then stands.
func TestEnterScript(t *testing.T) {
	client := openTest(t, redistest.StartReal(t).URL())
	g := testGroup(t, client, ReaderOptions{}, nil)
	keys := g.keys(0)
	for _, tt := range []struct {
		name        string
		first, last int64
		from, bound string
		want        string
	}{
		{"no stream, now", 1, 0, "$", "", "0-0"},
		{"no stream, oldest", 1, 0, "0", "", "0-0"},
		{"no stream, where it stood", 1, 0, "1-20", "bounded", "0-0"},
		{"now", 3, 9, "$", "", "1-9"},
		{"oldest", 3, 9, "0", "", "1-2"},
		{"oldest is the first", 1, 9, "0", "", "1-0"},
		{"an id", 3, 9, "1-5", "", "1-5"},
		{"an id to come", 3, 9, "1-20", "", "1-20"},
		{"where it stood", 3, 9, "1-5", "bounded", "1-5"},
		{"where it stood, beyond the end", 3, 9, "1-20", "bounded", "1-9"},
		{"where it stood, in a later epoch", 3, 9, "2-1", "bounded", "1-9"},
	} {
		client.FlushAll(t.Context())
		client.Set(t.Context(), keys[1], "me/1", 0)
		addRun(t, client, 0, tt.first, tt.last)
		for _, again := range []string{"", ", again"} {
			from := tt.from
			if again != "" {
				from = "1-1" // of no account: it is there
			}
			got, err := enterScript.Run(t.Context(), client, keys, "me/1", "g", from, tt.bound).Text()
			if err != nil || got != tt.want {
				t.Errorf("%s%s: stands at %s, error %v, want %s", tt.name, again, got, err, tt.want)
			}
		}
	}
}
