package lease

import (
	"context"
	"fmt"
)

// Orders is all that a worker knows of what it has to do. It is built from updates and belongs to one goroutine.
// The zero Orders is empty.
type Orders struct {
	Plan        Plan // Generation 0: there is none yet
	Assignments map[RangeID]Assignment
	Notices     map[RangeID]Notice // of ranges that are to be handed over to this worker
	Requests    map[RequestID]IdentifyRequest
	Halts       map[string]Halt
	Down        *Down // nil: the cluster is up

	self Ref
}

// Follow calls apply with everything Orders are made of, and then with every change, until ctx ends (nil) or
// apply returns an error (that error). If somebody found etcd restored, the registration is lost.
func (r *Registration) Follow(ctx context.Context, apply func(Update) error) error {
	own := []string{keyPlan, keyEra, dirHalts, dirDirectives + nameDown, dirAssignments + r.ref.Worker + "/", dirRequests + r.ref.Worker + "/"}
	return r.store.follow(ctx, scope{list: own, watch: own}, func(u Update) error {
		r.heed(u)
		return apply(u)
	})
}

// NewOrders makes the empty orders of this incarnation.
func (r *Registration) NewOrders() *Orders { return &Orders{self: r.ref} }

// Apply takes an update in. A record that cannot be read is left out, and reported in the errors. Assignments that were
// meant for an earlier incarnation of the worker are not orders.
func (o *Orders) Apply(u Update) (errs []error) {
	if u.Reset || o.Assignments == nil {
		*o = Orders{
			self: o.self, Assignments: map[RangeID]Assignment{}, Notices: map[RangeID]Notice{},
			Requests: map[RequestID]IdentifyRequest{}, Halts: map[string]Halt{},
		}
	}
	for _, record := range u.Puts {
		if err := o.put(record); err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", record.Key, err))
		}
	}
	for _, key := range u.Deletes {
		if err := o.remove(key); err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", key, err))
		}
	}
	return errs
}

func (o *Orders) put(r Record) error {
	switch dir, name := splitKey(r.Key); dir {
	case keyPlan:
		return decodePlan(r, &o.Plan)
	case keyEra: // the registration's
		return nil
	case dirHalts:
		return putHalt(o.Halts, name, r)
	case dirAssignments:
		return o.putAssignment(name, r)
	case dirRequests:
		return putRequest(o.Requests, name, r)
	case dirDirectives:
		return o.putDirective(name, r)
	default:
		return errKey
	}
}

func (o *Orders) remove(key string) error {
	switch dir, name := splitKey(key); dir {
	case keyPlan:
		o.Plan = Plan{}
	case keyEra:
	case dirHalts:
		delete(o.Halts, name)
	case dirAssignments:
		id, err := parseAssignmentKey(name)
		delete(o.Assignments, id)
		delete(o.Notices, id)
		return err
	case dirRequests:
		return removeRequest(o.Requests, name)
	case dirDirectives:
		return o.removeDirective(name)
	default:
		return errKey
	}
	return nil
}

// putDirective and removeDirective know the one directive that workers follow themselves.
func (o *Orders) putDirective(name string, r Record) (err error) {
	if name != nameDown {
		return errKey
	}
	o.Down, err = putDown(r)
	return err
}

func (o *Orders) removeDirective(name string) error {
	if name != nameDown {
		return errKey
	}
	o.Down = nil
	return nil
}

// putAssignment reads an assignment or a notice: whichever the key has, it has the other no more.
func (o *Orders) putAssignment(name string, r Record) error {
	id, err := parseAssignmentKey(name)
	if err != nil {
		return err
	}
	delete(o.Assignments, id)
	delete(o.Notices, id)
	n := Notice{Range: id, Move: r.Modified} // written together with the move key
	if err := decode(r, &n); err != nil || n.Incarnation != o.self.Incarnation {
		return err
	}
	if n.Prepare {
		o.Notices[id] = n
		return nil
	}
	a := Assignment{Range: id}
	if err := decode(r, &a); err != nil {
		return err
	}
	if a.Fence == 0 { // written together with the owner key
		a.Fence = r.Modified
	}
	if a.HandOver { // written together with the move key
		a.Move = r.Modified
	}
	o.Assignments[id] = a
	return nil
}

func parseAssignmentKey(name string) (RangeID, error) {
	_, pair, err := parseWorkerKey(name)
	return RangeID{pair.Generation, pair.Shard}, err
}
