package lease

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

var faultsFor = flag.Duration("faults", 12*time.Second, "for how long the tests of an etcd of three members break it")

// enough is how often each outcome that is needed has to come about.
const enough = 3

// patienceUnderFaults is how long a call may take until its outcome counts as unknown.
const patienceUnderFaults = time.Second

// broken is an etcd of three members that does not stay whole, and the links of those who use it.
type broken struct {
	t     *testing.T
	etcd  *etcdtest.Cluster
	began time.Time

	mu       sync.Mutex
	links    [][]*etcdtest.Link // of each client, to the members in order
	faults   map[string]int
	history  []porcupine.Operation
	outcomes map[string]int // of calls
}

func newBroken(t *testing.T) *broken {
	return &broken{t: t, etcd: etcdtest.StartCluster(t), began: time.Now(), faults: map[string]int{}, outcomes: map[string]int{}}
}

// store is a client with links of its own.
func (b *broken) store(cluster string) *Store {
	b.t.Helper()
	links, endpoints := b.etcd.Links(b.t)
	b.mu.Lock()
	b.links = append(b.links, links)
	b.mu.Unlock()
	return storeAt(b.t, endpoints, cluster)
}

// now is the time of porcupine's histories.
func (b *broken) now() int64 { return int64(time.Since(b.began)) }

// breakIt makes one fault after the other, each for a while, for as long as the flag says; then everything is whole again. However few there is
// time for on a slow machine, there are some, and no two are of a kind before there was one of each.
func (b *broken) breakIt(ctx context.Context) {
	seed := rand.Uint64()
	b.t.Logf("faults have seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	pause := func(most time.Duration) { _ = sleep(ctx, most/4+rand.N(most*3/4)) }
	var kinds []int
	for end := time.Now().Add(*faultsFor); time.Now().Before(end) || len(b.faults) < fewestFaults; kinds = kinds[1:] {
		if len(kinds) == 0 {
			kinds = rng.Perm(faultKinds)
		}
		kind, mend := b.fault(kinds[0], rng)
		b.faults[kind]++
		pause(1600 * time.Millisecond)
		mend()
		pause(800 * time.Millisecond)
	}
}

// faultKinds is how many kinds of faults there are, and fewestFaults of how many there must be one to prove anything.
const faultKinds, fewestFaults = 9, 3

// fault breaks something in one of the ways, and returns how to mend it.
func (b *broken) fault(way int, rng *rand.Rand) (kind string, mend func()) {
	member, other := rng.IntN(3), rng.IntN(2)+1
	other = (member + other) % 3
	b.mu.Lock()
	links := b.links[rng.IntN(len(b.links))]
	b.mu.Unlock()
	eachLink := func(do func(*etcdtest.Link)) func() {
		for _, l := range links {
			do(l)
		}
		return func() {
			for _, l := range links {
				l.Mend()
			}
		}
	}
	switch way {
	case 0:
		b.etcd.Isolate(member)
		return "member isolated", b.etcd.Mend
	case 1:
		if leader := b.etcd.Leader(); leader >= 0 {
			member = leader
		}
		b.etcd.Isolate(member)
		return "leader isolated", b.etcd.Mend
	case 2:
		b.etcd.Hold(member, other)
		return "one way between members", b.etcd.Mend
	case 3:
		b.etcd.Delay(time.Duration(rng.IntN(100)) * time.Millisecond)
		return "members slow", b.etcd.Mend
	case 4:
		_ = b.etcd.MoveLeader(member) // it may lead already, or nobody
		return "leader moved", func() {}
	case 5:
		b.etcd.Stop(member)
		return "member stopped", b.restart(member)
	case 6:
		b.etcd.Stop(member, other)
		return "quorum lost", b.restart(member, other)
	case 7:
		return "client's answers held", eachLink((*etcdtest.Link).HoldAnswers)
	default:
		return "client cut", eachLink((*etcdtest.Link).Cut)
	}
}

func (b *broken) restart(members ...int) func() {
	return func() {
		if err := b.etcd.Restart(members...); err != nil {
			b.t.Errorf("restart: %v", err)
		}
	}
}

// during runs everybody while etcd is broken, and then until all the outcomes that are needed to prove something have come
// about, however slow the machine. It returns their history.
func (b *broken) during(needed []string, everybody ...func(context.Context)) []porcupine.Operation {
	b.t.Helper()
	working, end := context.WithCancel(b.t.Context())
	defer end()
	var all sync.WaitGroup
	for _, run := range everybody {
		all.Go(func() { run(working) })
	}
	b.breakIt(working)
	for calm := time.Now(); b.lacks(needed) != "" && time.Since(calm) < 2*time.Minute; {
		_ = sleep(working, 100*time.Millisecond)
	}
	end()
	all.Wait()
	b.t.Logf("faults %v, outcomes %v", b.faults, b.outcomes)
	if lacks := b.lacks(needed); lacks != "" {
		b.t.Errorf("proves nothing: %q came about too rarely, in faults %v", lacks, b.faults)
	}
	return b.history
}

func (b *broken) lacks(needed []string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, outcome := range needed {
		if b.outcomes[outcome] < enough {
			return outcome
		}
	}
	return ""
}

// record makes a call, which is described so, and notes how it ended. A question without an answer proves nothing, and is not noted.
func (p *participant) record(kind string, input any, do func(context.Context) error, answer func(outcome string) any) error {
	op := porcupine.Operation{ClientId: p.id, Input: input, Call: p.now()}
	ctx, cancel := context.WithTimeout(context.Background(), patienceUnderFaults)
	defer cancel()
	err := do(ctx)
	op.Return = p.now()
	outcome := "done"
	switch {
	case err == nil:
	case kind == "read":
		return err
	case errors.Is(err, ErrFenced):
		outcome = "fenced"
	default:
		outcome, op.Return = "lost", math.MaxInt64 // it may be done at any later time, or never
	}
	op.Output = answer(outcome)
	p.note(kind+" "+outcome, op)
	return err
}

// terms are those that a participant won, the last of which may last.
type terms struct {
	mu  sync.Mutex
	won []*Term
}

// one is the last term, or now and then one before it; nil if there is none.
func (t *terms) one(rng *rand.Rand) *Term {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.won) == 0 {
		return nil
	}
	back := max(0, rng.IntN(8)-5) // 0 in six of eight cases
	return t.won[max(0, len(t.won)-1-back)]
}

// campaign wins term after term, none for long, until ctx ends. describe, if not nil, says how to note one.
func (t *terms) campaign(ctx context.Context, p *participant, describe func(term int64) (call, answer any)) {
	for ctx.Err() == nil {
		op := porcupine.Operation{ClientId: p.id + 100, Call: p.now()} // it goes on beside the participant's other calls
		term, err := p.store.Campaign(ctx, fmt.Sprint(p.id))
		if err != nil {
			_ = sleep(ctx, 100*time.Millisecond)
			continue
		}
		if op.Return = p.now(); describe != nil {
			op.Input, op.Output = describe(term.Number)
			p.note("campaign", op)
		}
		t.mu.Lock()
		t.won = append(t.won, term)
		t.mu.Unlock()
		select {
		case <-term.Done():
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
		term.Resign()
	}
}

func (b *broken) note(outcome string, op porcupine.Operation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outcomes[outcome]++
	b.history = append(b.history, op)
}

// participant is somebody who calls, on a store of his own, and remembers what he called.
type participant struct {
	*broken
	id    int
	store *Store
	rng   *rand.Rand
}

func (b *broken) participant(id int, cluster string) *participant {
	seed := rand.Uint64()
	b.t.Logf("participant %d has seed %d", id, seed)
	return &participant{broken: b, id: id, store: b.store(cluster), rng: rand.New(rand.NewPCG(seed, 0))}
}

// work calls again and again, at a pace that lets the faults take turns, until ctx ends.
func (p *participant) work(ctx context.Context, call func()) {
	for ctx.Err() == nil {
		call()
		_ = sleep(ctx, time.Duration(p.rng.IntN(30))*time.Millisecond)
	}
}
