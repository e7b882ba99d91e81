package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Errors of a registration.
var (
	// ErrIDInUse says that a live worker has this id.
	ErrIDInUse = errors.New("worker id is in use by a live worker")
	// ErrLost says that etcd has expired the registration, or was restored from a backup (it then is ErrRestored too): this incarnation
	// is dead, its ranges may be another's.
	ErrLost = errors.New("registration expired")
)

// MinTTL is the shortest liveness TTL: etcd grants no less than 2 s, and a second of it is margin.
const MinTTL = 3 * time.Second

// Registration is one incarnation of a worker: alive as long as [Registration.Keep] renews it. It is safe for
// concurrent use.
type Registration struct {
	store  *Store
	tenure tenure
	ref    Ref
	lease  clientv3.LeaseID
	ttl    time.Duration
	clock  func() time.Duration
	log    hclog.Logger
	over   chan struct{} // closed when its tenure is, as another told
	end    func()        // closes over

	mu      sync.Mutex
	worker  Worker
	trust   trust
	changed chan struct{} // closed, and replaced, when trust was renewed
}

// Register makes w alive, as a new incarnation. It returns ErrIDInUse if its id belongs to a live worker; the entry of
// a dead one goes away within its TTL.
func (s *Store) Register(ctx context.Context, w Worker, ttl time.Duration) (*Registration, error) {
	if err := ValidName(w.ID); err != nil {
		return nil, fmt.Errorf("worker id: %w", err)
	}
	if ttl < MinTTL {
		return nil, fmt.Errorf("worker TTL %v: must be at least %v", ttl, MinTTL)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	tenure, err := s.tenure(ctx)
	if err != nil {
		return nil, fmt.Errorf("register worker %s: %w", w.ID, err)
	}
	r := &Registration{
		store: s, tenure: tenure, ttl: ttl, clock: s.clock, worker: w, trust: trust{ttl: ttl}, changed: make(chan struct{}),
		log: s.log.With("worker", w.ID), over: make(chan struct{}),
	}
	r.end = sync.OnceFunc(func() { close(r.over) })
	sent := r.clock()
	grant, err := s.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return nil, fmt.Errorf("register worker %s: grant lease: %w", w.ID, err)
	}
	r.lease = grant.ID
	key := s.keys.worker(w.ID)
	revision, err := s.commit(ctx, "register worker "+w.ID,
		[]clientv3.Cmp{created(key, 0)}, put(key, w, clientv3.WithLease(r.lease)))
	if err != nil {
		if err := s.revoke(ctx, r.lease); err != nil {
			r.log.Debug("worker lease left to expire", "error", err)
		}
		if errors.Is(err, ErrFenced) {
			return nil, fmt.Errorf("register worker %s: %w", w.ID, ErrIDInUse)
		}
		return nil, err
	}
	r.ref = Ref{w.ID, revision}
	r.trust.renewed(sent)
	return r, nil
}

// Bury ends the registration of the worker with this id, if its process is dead: dead is asked, about the record as it is, and must
// be certain. It reports whether it did. What is ended is the very incarnation that dead was asked about, since no two have the same
// etcd lease; one that registers meanwhile is not touched.
func (s *Store) Bury(ctx context.Context, id string, dead func(Worker) bool) (buried bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, s.keys.worker(id))
	if err != nil {
		return false, fmt.Errorf("bury worker %s: %w", id, err)
	}
	if len(resp.Kvs) == 0 || resp.Kvs[0].Lease == 0 {
		return false, nil
	}
	kv := resp.Kvs[0]
	w := Worker{ID: id, Incarnation: kv.CreateRevision}
	if err := decode(s.record(kv), &w); err != nil {
		return false, fmt.Errorf("bury worker %s: %w", id, err)
	}
	if !dead(w) {
		return false, nil
	}
	if err := s.revoke(ctx, clientv3.LeaseID(kv.Lease)); err != nil {
		return false, fmt.Errorf("bury worker %s: %w", id, err)
	}
	return true, nil
}

// Ref names this incarnation.
func (r *Registration) Ref() Ref { return r.ref }

// Keep renews the registration every quarter of its TTL until ctx ends (then it returns nil) or etcd says that it has
// expired or was restored (ErrLost). While etcd does not answer it goes on trying: without a quorum etcd expires nothing.
func (r *Registration) Keep(ctx context.Context) error {
	ticker := time.NewTicker(r.ttl / 4)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.tenure.life.Done():
			return fmt.Errorf("worker %s: %w: %w", r.ref.Worker, ErrLost, ErrRestored)
		case <-r.over:
			return fmt.Errorf("worker %s: %w: %w", r.ref.Worker, ErrLost, ErrRestored)
		case <-ticker.C:
		}
		err := r.renew(ctx)
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			r.distrust()
			return fmt.Errorf("worker %s: %w", r.ref.Worker, ErrLost)
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			r.log.Warn("registration cannot be renewed; open sessions go on, nothing new is started", "error", err)
		case err == nil && failing:
			r.log.Warn("registration renewed again")
		}
		failing = err != nil
	}
}

// renew sends one renewal. It gives up after a quarter of the TTL, so that the next may try another etcd member.
func (r *Registration) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.ttl/4)
	defer cancel()
	sent := r.clock()
	if _, err := r.store.client.KeepAliveOnce(ctx, r.lease); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trust.renewed(sent)
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

// Trusted reports whether this incarnation is certainly still alive in etcd, so that nobody else can have been given its ranges.
func (r *Registration) Trusted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holds()
}

// holds is Trusted, for callers that hold r.mu.
func (r *Registration) holds() bool { return r.tenure.life.Err() == nil && r.trust.holds(r.clock()) }

// AwaitTrust blocks until Trusted, or until ctx ends, and then returns the context's cause.
func (r *Registration) AwaitTrust(ctx context.Context) error {
	for {
		r.mu.Lock()
		holds, changed := r.holds(), r.changed
		r.mu.Unlock()
		if holds {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// trustCheck is how often trust is looked at while it is waited for its end: timers stand still while a machine is suspended, and trust
// runs out all the same.
const trustCheck = 250 * time.Millisecond

// AwaitDistrust blocks until not Trusted, or until ctx ends, and then returns the context's cause. It returns at the very moment when
// trust runs out, which is a second before etcd can let the registration expire.
func (r *Registration) AwaitDistrust(ctx context.Context) error {
	for {
		r.mu.Lock()
		left := r.trust.left(r.clock())
		r.mu.Unlock()
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, min(left, trustCheck)); err != nil {
			return err
		}
	}
}

func (r *Registration) distrust() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trust.end()
}

// Drain tells the leader that this worker wants to hand over all it owns and be given nothing more.
func (r *Registration) Drain(ctx context.Context) error {
	r.mu.Lock()
	r.worker.Draining = true
	w := r.worker
	r.mu.Unlock()
	key := r.store.keys.worker(r.ref.Worker)
	_, err := r.store.commit(ctx, "drain worker "+r.ref.Worker,
		r.alive(), put(key, w, clientv3.WithLease(r.lease)))
	return err
}

// Report publishes the worker's status.
func (r *Registration) Report(ctx context.Context, status Status) error {
	_, err := r.store.commit(ctx, "report status of worker "+r.ref.Worker,
		r.alive(), put(r.store.keys.status(r.ref.Worker), status, clientv3.WithLease(r.lease)))
	return err
}

// Halt stops the whole fleet from connecting, for as long as this incarnation lives.
func (r *Registration) Halt(ctx context.Context, halt Halt) error {
	_, err := r.store.commit(ctx, "halt the fleet by worker "+r.ref.Worker,
		r.alive(), put(r.store.keys.halt(r.ref.Worker), halt, clientv3.WithLease(r.lease)))
	return err
}

// Refuse tells the leader that Discord does not accept a generation's number of shards, for as long as this incarnation lives. A later
// refusal of the generation replaces an earlier one.
func (r *Registration) Refuse(ctx context.Context, refusal Refusal) error {
	_, err := r.store.commit(ctx, "tell a refusal by worker "+r.ref.Worker,
		r.alive(), put(r.store.keys.refusal(RefusalID{r.ref.Worker, refusal.Generation}), refusal, clientv3.WithLease(r.lease)))
	return err
}

// Ready tells the owner of a range that is to be handed over to this worker that there is nothing more to wait for. ErrFenced: that
// was decided otherwise meanwhile.
func (r *Registration) Ready(ctx context.Context, n Notice) error {
	k := r.store.keys
	_, err := r.store.commit(ctx, fmt.Sprintf("say that worker %s is ready for range %v", r.ref.Worker, n.Range),
		append(r.alive(), modified(k.move(n.Range), n.Move)), // the owner is the same as long as the move is
		put(k.move(n.Range), Move{To: r.ref, Ready: true}),
		put(k.assignment(n.Owner.Worker, n.Range), Assignment{
			Incarnation: n.Owner.Incarnation, Fence: n.OwnerFence, HandOver: true, To: r.ref, Ready: true,
		}),
	)
	return err
}

// Leave ends this incarnation at once: its key is gone when Leave returns nil, and the leader gives what it still
// owns to others without waiting for the TTL. It is not Trusted from the moment of the call.
func (r *Registration) Leave(ctx context.Context) error {
	r.distrust()
	if err := r.store.revoke(ctx, r.lease); err != nil {
		return fmt.Errorf("worker %s leaves: %w", r.ref.Worker, err)
	}
	return nil
}

func (r *Registration) alive() []clientv3.Cmp {
	return []clientv3.Cmp{r.tenure.holds(r.store.keys), alive(r.store.keys, r.ref)}
}

// heed ends the registration if its era is over.
func (r *Registration) heed(u Update) {
	over := u.Reset // unless it has the era
	for _, record := range u.Puts {
		if record.Key == keyEra {
			over = string(record.Value) != r.tenure.era
		}
	}
	if over || slices.Contains(u.Deletes, keyEra) {
		r.distrust()
		r.end()
	}
}

func (s *Store) revoke(ctx context.Context, lease clientv3.LeaseID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	_, err := s.client.Revoke(ctx, lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}
