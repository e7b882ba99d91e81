package lease

import (
	"cmp"
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Directives are what operators want of the cluster. Any coordinator writes one down, whether it leads or not; the leader of the day
// acts on it, and so does the next one, until it is carried out or taken back.
type Directives struct {
	Down      *Down            // nil: the cluster is up
	Reshard   *Reshard         // nil: keep the number of shards
	Rebalance *Rebalance       // nil: even out load as usual
	Drains    map[string]Drain // by worker
}

// Down holds the whole cluster without sockets until it is taken back.
type Down struct {
	EndSessions bool      `json:"end_sessions,omitempty"` // close so that Discord ends the sessions, instead of resumably
	At          time.Time `json:"at"`
	Revision    int64     `json:"-"`
}

// Reshard wants another number of shards. The leader takes it away when the new generation is in force, or says why it will not be.
type Reshard struct {
	Shards   int       `json:"shards"`
	Abort    bool      `json:"abort,omitempty"`   // give the generation that is being prepared up again
	Refused  string    `json:"refused,omitempty"` // by the leader: why this is not done; it stays until the next directive
	At       time.Time `json:"at"`
	Revision int64     `json:"-"`
	Foreign  `json:"-"`
}

// Rebalance wants load evened out now, as far as it goes. The leader takes it away when nothing is left to do.
type Rebalance struct {
	At       time.Time `json:"at"`
	Revision int64     `json:"-"`
}

// Drain wants one incarnation of a worker to hand over all it owns and be given nothing more, though it lives on. A later incarnation is
// not meant. The leader takes it away when that incarnation is gone.
type Drain struct {
	Incarnation int64     `json:"incarnation"`
	At          time.Time `json:"at"`
	Revision    int64     `json:"-"`
}

// Names of directives, below dirDirectives; a drain's is followed by the worker.
const (
	nameDown      = "down"
	nameReshard   = "reshard"
	nameRebalance = "rebalance"
	nameDrain     = "drain/"
)

// Directive is a directive of which one at most stands: [Down], [Reshard] or [Rebalance].
type Directive interface{ name() string }

func (Down) name() string      { return nameDown }
func (Reshard) name() string   { return nameReshard }
func (Rebalance) name() string { return nameRebalance }

func newDirectives() Directives { return Directives{Drains: map[string]Drain{}} }

// put takes a directive in. One that cannot be read is none; but see putDown and putReshard.
func (d *Directives) put(name string, r Record) (err error) {
	switch kind, worker := splitKey(name); {
	case name == nameDown:
		d.Down, err = putDown(r)
	case name == nameReshard:
		d.Reshard, err = putReshard(r)
	case name == nameRebalance:
		rebalance := Rebalance{Revision: r.Modified}
		d.Rebalance = nil
		if err = decode(r, &rebalance); err == nil {
			d.Rebalance = &rebalance
		}
	case kind == nameDrain && ValidName(worker) == nil:
		drain := Drain{Revision: r.Modified}
		err = store(d.Drains, worker, &drain, decode(r, &drain))
	default:
		err = errKey
	}
	return err
}

// putDown takes a Down that cannot be read for one: not to connect harms less than to connect against somebody's word. It ends no
// sessions, which could not be undone.
func putDown(r Record) (*Down, error) {
	down := &Down{Revision: r.Modified}
	return down, decode(r, down)
}

// putReshard takes a Reshard that cannot be read for one that was refused: whoever writes by what stands has to know its revision.
func putReshard(r Record) (*Reshard, error) {
	reshard := &Reshard{Revision: r.Modified}
	err := decode(r, reshard)
	if err != nil {
		reshard.Refused = "the order cannot be read: give it again"
	}
	return reshard, err
}

func (d *Directives) remove(name string) error {
	switch kind, worker := splitKey(name); {
	case name == nameDown:
		d.Down = nil
	case name == nameReshard:
		d.Reshard = nil
	case name == nameRebalance:
		d.Rebalance = nil
	case kind == nameDrain:
		delete(d.Drains, worker)
	default:
		return errKey
	}
	return nil
}

// Directives reads what stands now. Records that cannot be read are taken as a [Cluster] takes them, which also reports them.
func (s *Store) Directives(ctx context.Context) (Directives, error) {
	snapshot, err := s.list(ctx, []string{dirDirectives})
	if err != nil {
		return Directives{}, fmt.Errorf("read directives: %w", err)
	}
	d := newDirectives()
	for _, r := range snapshot.Puts {
		_, name := splitKey(r.Key)
		_ = d.put(name, r)
	}
	return d, nil
}

// Direct writes a directive down, in place of one of its kind that stands. It is for coordinators that do not lead too, so it compares
// no term: what is done about it, the leader decides.
func (s *Store) Direct(ctx context.Context, d Directive) error {
	_, err := s.commit(ctx, "direct "+d.name(), nil, put(s.keys.directive(d.name()), d))
	return err
}

// DirectDrain has one incarnation drained. It returns ErrFenced if that is not alive.
func (s *Store) DirectDrain(ctx context.Context, worker Ref, at time.Time) error {
	_, err := s.commit(ctx, "direct drain of worker "+worker.Worker, []clientv3.Cmp{alive(s.keys, worker)},
		put(s.keys.directive(nameDrain+worker.Worker), Drain{Incarnation: worker.Incarnation, At: at}))
	return err
}

// AbortReshard has a Reshard given up that stands. It returns ErrFenced if that was carried out, refused or replaced meanwhile.
func (s *Store) AbortReshard(ctx context.Context, r Reshard) error {
	key := s.keys.directive(nameReshard)
	fence := modified(key, cmp.Or(r.Revision, noRevision))
	r.Abort = true
	_, err := s.commit(ctx, "abort "+nameReshard, []clientv3.Cmp{fence}, put(key, r))
	return err
}

// EndDown takes a Down back; nil if there is none.
func (s *Store) EndDown(ctx context.Context) error { return s.endDirective(ctx, nameDown) }

// EndDrain takes the drain of a worker back; nil if there is none.
func (s *Store) EndDrain(ctx context.Context, worker string) error {
	return s.endDirective(ctx, nameDrain+worker)
}

func (s *Store) endDirective(ctx context.Context, name string) error {
	_, err := s.commit(ctx, "end directive "+name, nil, clientv3.OpDelete(s.keys.directive(name)))
	return err
}

// RefuseReshard says why a directive is not carried out, unless another has taken its place (ErrFenced).
func (t *Term) RefuseReshard(ctx context.Context, r Reshard, why string) error {
	key := t.store.keys.directive(nameReshard)
	r.Refused = why
	_, err := t.store.commit(ctx, "refuse directive "+nameReshard, t.guard(modified(key, cmp.Or(r.Revision, noRevision))), put(key, r))
	return err
}

// DoneRebalance and DoneDrain take a directive away that is carried out, unless another has taken its place meanwhile (ErrFenced).
func (t *Term) DoneRebalance(ctx context.Context, r Rebalance) error {
	return t.doneDirective(ctx, nameRebalance, r.Revision)
}

// DoneDrain is as DoneRebalance.
func (t *Term) DoneDrain(ctx context.Context, worker string, d Drain) error {
	return t.doneDirective(ctx, nameDrain+worker, d.Revision)
}

func (t *Term) doneDirective(ctx context.Context, name string, revision int64) error {
	key := t.store.keys.directive(name)
	_, err := t.store.commit(ctx, "done with directive "+name, t.guard(modified(key, revision)), clientv3.OpDelete(key))
	return err
}
