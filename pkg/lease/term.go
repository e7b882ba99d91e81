package lease

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// electionTTL is how long after a leader's death the next can be elected, in seconds.
const electionTTL = 5

var errTermExpired = errors.New("the lease of the term ended")

// Term is one leader's time in office. Everything a leader writes goes through it and compares that the term still
// lasts, so a leader that was deposed without noticing can decide but not act. It is safe for concurrent use.
type Term struct {
	Number int64 // create revision of the leader's key in the election; later terms have larger ones

	store   *Store
	key     string
	session *concurrency.Session
	tenure  tenure
	done    context.Context // ends with the session, or with the tenure's life
	release func()
}

// Campaign blocks until the candidate leads, or until ctx ends. A term is confirmed by a write that compares it before it
// is returned: an election alone may report victory to a candidate whose lease has just expired.
func (s *Store) Campaign(ctx context.Context, candidate string) (*Term, error) {
	campaign, cancel := context.WithCancel(ctx)
	defer cancel()
	tenure, err := s.tenure(campaign)
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	session, err := s.electionSession(campaign)
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	stop := context.AfterFunc(session.Ctx(), cancel) // an expired lease would leave Campaign waiting with no key to win with
	defer stop()

	election := concurrency.NewElection(session, s.keys.election())
	if err := s.stand(campaign, election, candidate); err != nil {
		lost := ctx.Err() == nil && session.Ctx().Err() != nil
		s.closeSession(session)
		if lost {
			err = errors.New("the candidate's lease expired")
		}
		return nil, fmt.Errorf("campaign: %w", err)
	}
	t := &Term{Number: election.Rev(), store: s, key: election.Key(), session: session, tenure: tenure}
	t.done, t.release = both(session.Ctx(), tenure.life)
	_, err = s.commit(ctx, "confirm term", t.guard(), put(s.keys.leader(), Leader{ID: candidate, Term: t.Number}), noteSchema(s.keys))
	if err != nil {
		t.Resign()
		return nil, err
	}
	return t, nil
}

// stand waits until the candidate is elected. The library waits for the end of the one before with a watch, and for ever if etcd
// loses that event; so it begins anew, at the end of the queue, about as often as followers read everything again.
func (s *Store) stand(ctx context.Context, election *concurrency.Election, candidate string) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, s.untilRelist())
		err := election.Campaign(attempt, candidate)
		again := attempt.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || !again {
			return err
		}
	}
}

// electionSession keeps a lease alive until it is closed. The election library ends a campaign with a request under its
// client's context, not the caller's; so the client it is given is one whose context is the campaign's, or ending a campaign
// would wait for as long as etcd is unreachable.
func (s *Store) electionSession(campaign context.Context) (*concurrency.Session, error) {
	ctx, cancel := context.WithTimeout(campaign, requestTimeout)
	defer cancel()
	grant, err := s.client.Grant(ctx, electionTTL)
	if err != nil {
		return nil, fmt.Errorf("grant lease: %w", err)
	}
	client := clientv3.NewCtxClient(campaign)
	client.KV, client.Lease, client.Watcher = s.client.KV, s.client.Lease, s.client.Watcher
	return concurrency.NewSession(client, concurrency.WithLease(grant.ID), concurrency.WithContext(context.WithoutCancel(campaign)))
}

// closeSession revokes the session's lease under a deadline of its own; an unreachable etcd lets it expire.
func (s *Store) closeSession(session *concurrency.Session) {
	session.Orphan()
	if err := s.revoke(context.Background(), session.Lease()); err != nil {
		s.log.Debug("election lease left to expire", "error", err)
	}
}

// both is a context that ends with the first of two. release lets go of them.
func both(a, b context.Context) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(a)
	stop := context.AfterFunc(b, cancel)
	return ctx, func() { stop(); cancel() }
}

// Era is that of a Cluster which the term can act on. Another is from before etcd was restored from a backup, or the term is.
func (t *Term) Era() string { return t.tenure.era }

// Done is closed when etcd has, or may have, ended the term. It may be late: only a write tells.
func (t *Term) Done() <-chan struct{} { return t.done.Done() }

// Err says why the term is Done.
func (t *Term) Err() error {
	if t.tenure.life.Err() != nil {
		return ErrRestored
	}
	return errTermExpired
}

// Resign ends the term at once, so that another candidate need not wait for its lease to expire.
func (t *Term) Resign() {
	t.release()
	t.store.closeSession(t.session)
}

func (t *Term) guard(more ...clientv3.Cmp) []clientv3.Cmp {
	return append([]clientv3.Cmp{t.tenure.holds(t.store.keys), created(t.key, t.Number)}, more...)
}

// SetPlan writes the generation in force, if the plan is still at plan.Revision (0: there is none), and returns its new revision.
func (t *Term) SetPlan(ctx context.Context, plan Plan) (int64, error) {
	key := t.store.keys.plan()
	return t.store.commit(ctx, fmt.Sprintf("set plan of generation %d", plan.Generation),
		t.guard(modified(key, plan.Revision)), put(key, plan))
}

// SetAlarm makes known, to those who ask any coordinator, what only a person can mend; the zero Alarm ends it. It outlives the term:
// the next leader ends it, when it is over.
func (t *Term) SetAlarm(ctx context.Context, alarm Alarm) error {
	op := put(t.store.keys.alarm(), alarm)
	if alarm == (Alarm{}) {
		op = clientv3.OpDelete(t.store.keys.alarm())
	}
	_, err := t.store.commit(ctx, "set alarm", t.guard(), op)
	return err
}

// SetBudget writes what Discord said is left, and returns the record's new revision.
func (t *Term) SetBudget(ctx context.Context, budget Budget) (int64, error) {
	key := t.store.keys.budget()
	return t.store.commit(ctx, "set identify budget", t.guard(modified(key, budget.Revision)), put(key, budget))
}

// DropRequest deletes an identify request whose owner cannot use it any more.
func (t *Term) DropRequest(ctx context.Context, request IdentifyRequest) error {
	key := t.store.keys.request(request.Worker, request.Shard)
	_, err := t.store.commit(ctx, fmt.Sprintf("drop identify request of shard %d", request.Shard.Shard),
		t.guard(modified(key, request.Revision)), clientv3.OpDelete(key))
	return err
}
