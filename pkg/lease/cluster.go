package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
)

// Cluster is all that a coordinator knows: what etcd had at Revision, exactly. It is built from updates and belongs to one goroutine.
// The zero Cluster is empty.
type Cluster struct {
	Revision int64
	Era      string // that of a term which can act on this
	Leader   Leader
	Plan     Plan // Generation 0: there is none yet
	Budget   Budget
	Alarm    Alarm // zero: none stands
	Workers  map[string]Worker
	Status   map[string]Status
	Halts    map[string]Halt
	Refusals map[RefusalID]Refusal
	Ranges   map[RangeID]Range
	Requests map[RequestID]IdentifyRequest
	Slots    map[int]Slot

	Directives Directives
}

// FollowCluster calls apply with everything a Cluster is made of, and then with every change, until ctx ends (nil) or apply
// returns an error (that error).
func (s *Store) FollowCluster(ctx context.Context, apply func(Update) error) error {
	return s.follow(ctx, scope{
		list: []string{
			keyEra, keyLeader, keyPlan, keyBudget, keyAlarm, dirWorkers, dirStatus, dirHalts, dirRefusals, dirOwners, dirMoves, dirRequests, dirSlots,
			dirDirectives,
		},
		watch: []string{everything},
	}, apply)
}

// Apply takes an update in. A record that cannot be read is reported in the errors; what it then counts as is the safe
// reading of its kind, as a rule that it is not there. An unreadable plan leaves the one before in force.
func (c *Cluster) Apply(u Update) (errs []error) {
	if u.Reset || c.Workers == nil {
		*c = Cluster{
			Workers: map[string]Worker{}, Status: map[string]Status{}, Halts: map[string]Halt{}, Refusals: map[RefusalID]Refusal{},
			Ranges: map[RangeID]Range{}, Requests: map[RequestID]IdentifyRequest{}, Slots: map[int]Slot{},
			Directives: newDirectives(),
		}
	}
	c.Revision = max(c.Revision, u.Revision)
	for _, record := range u.Puts {
		if err := c.put(record); err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", record.Key, err))
		}
	}
	for _, key := range u.Deletes {
		if err := c.remove(key); err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", key, err))
		}
	}
	return errs
}

// Clone is a copy that does not change with c.
func (c *Cluster) Clone() *Cluster {
	clone := *c
	clone.Workers, clone.Status = maps.Clone(c.Workers), maps.Clone(c.Status)
	clone.Halts, clone.Refusals = maps.Clone(c.Halts), maps.Clone(c.Refusals)
	clone.Ranges, clone.Requests, clone.Slots = maps.Clone(c.Ranges), maps.Clone(c.Requests), maps.Clone(c.Slots)
	clone.Directives.Drains = maps.Clone(c.Directives.Drains)
	return &clone
}

func (c *Cluster) put(r Record) error {
	switch dir, name := splitKey(r.Key); dir {
	case keyEra:
		c.Era = string(r.Value)
		return nil
	case keyLeader:
		c.Leader = Leader{}
		return decode(r, &c.Leader)
	case keyPlan:
		return decodePlan(r, &c.Plan)
	case keyBudget:
		return c.putBudget(r)
	case keyAlarm:
		c.Alarm = Alarm{}
		return decode(r, &c.Alarm)
	case dirWorkers:
		if err := ValidName(name); err != nil {
			return err
		}
		w := Worker{ID: name, Incarnation: r.Created}
		return store(c.Workers, name, &w, decode(r, &w))
	case dirStatus:
		status := Status{Worker: name}
		return store(c.Status, name, &status, decode(r, &status))
	case dirHalts:
		return putHalt(c.Halts, name, r)
	case dirRefusals:
		return putRefusal(c.Refusals, name, r)
	case dirOwners:
		return c.putOwner(name, r)
	case dirMoves:
		return c.putMove(name, r)
	case dirRequests:
		return putRequest(c.Requests, name, r)
	case dirSlots:
		return c.putSlot(name, r)
	case dirDirectives:
		return c.Directives.put(name, r)
	case dirElection, dirAssignments, dirSessions, keySchema: // between others
		return nil
	default:
		return errKey
	}
}

func (c *Cluster) remove(key string) error {
	switch dir, name := splitKey(key); dir {
	case keyEra:
		c.Era = ""
	case keyLeader:
		c.Leader = Leader{}
	case keyPlan:
		c.Plan = Plan{}
	case keyBudget:
		c.Budget = Budget{}
	case keyAlarm:
		c.Alarm = Alarm{}
	case dirWorkers:
		delete(c.Workers, name)
	case dirStatus:
		delete(c.Status, name)
	case dirHalts:
		delete(c.Halts, name)
	case dirRefusals:
		id, err := parseRefusal(name)
		delete(c.Refusals, id)
		return err
	case dirOwners:
		return c.updateRange(name, func(r *Range) { r.Owner, r.Fence = Ref{}, 0 })
	case dirMoves:
		return c.updateRange(name, func(r *Range) { r.Move = nil })
	case dirRequests:
		return removeRequest(c.Requests, name)
	case dirSlots:
		bucket, err := parseNumber(name)
		delete(c.Slots, bucket)
		return err
	case dirDirectives:
		return c.Directives.remove(name)
	case dirElection, dirAssignments, dirSessions, keySchema:
	default:
		return errKey
	}
	return nil
}

// putBudget, putSlot, putOwner and putMove keep the revision of a record that cannot be read, so that the leader can still
// replace it. An unreadable budget is an empty one, an unreadable slot may have just been claimed, and a range with an
// unreadable owner is a range without one.
func (c *Cluster) putBudget(r Record) error {
	budget := Budget{Revision: r.Modified}
	err := decode(r, &budget)
	if n := budget.MaxConcurrency; n < 0 || n > MaxShards { // each bucket is looked at
		budget, err = Budget{Revision: r.Modified}, fmt.Errorf("max_concurrency is %d: want 0 to %d", n, MaxShards)
	}
	c.Budget = budget
	return err
}

func (c *Cluster) putSlot(name string, r Record) error {
	bucket, err := parseNumber(name)
	if err != nil {
		return err
	}
	slot := Slot{Bucket: bucket, Revision: r.Modified}
	if err = decode(r, &slot); err != nil {
		slot.State = SlotClaimed
	}
	c.Slots[bucket] = slot
	return err
}

func (c *Cluster) putOwner(name string, r Record) error {
	var owner Ref
	err := decode(r, &owner)
	if rangeErr := c.updateRange(name, func(g *Range) { g.Owner, g.Fence = owner, r.Modified }); rangeErr != nil {
		return rangeErr
	}
	return err
}

func (c *Cluster) putMove(name string, r Record) error {
	move := &Move{Revision: r.Modified}
	err := decode(r, move)
	if rangeErr := c.updateRange(name, func(g *Range) { g.Move = move }); rangeErr != nil {
		return rangeErr
	}
	return err
}

func (c *Cluster) updateRange(name string, change func(*Range)) error {
	generation, index, err := parsePair(name)
	if err != nil {
		return err
	}
	id := RangeID{generation, index}
	r := c.Ranges[id]
	r.ID = id
	change(&r)
	if r.Fence == 0 && r.Move == nil {
		delete(c.Ranges, id)
		return nil
	}
	c.Ranges[id] = r
	return nil
}

// splitKey cuts a relative key into its directory, with the slash, and the rest; a single key is its own directory.
func splitKey(key string) (dir, name string) {
	i := strings.IndexByte(key, '/')
	if i < 0 {
		return key, ""
	}
	return key[:i+1], key[i+1:]
}

func decodePlan(r Record, into *Plan) error {
	plan := Plan{Revision: r.Modified}
	if err := decode(r, &plan); err != nil {
		return err
	}
	if err := (Cut{plan.Generation, plan.Shards, plan.RangeSize}).check(); err != nil {
		return err
	}
	for name, cut := range map[string]Cut{"next": plan.Next, "former": plan.Former} {
		if err := cut.check(); err != nil && cut != (Cut{}) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	*into = plan
	return nil
}

// putHalt takes a halt that cannot be read for a halt: not to connect harms less than to connect against somebody's word.
func putHalt(into map[string]Halt, name string, r Record) error {
	halt := Halt{Worker: name}
	err := decode(r, &halt)
	if err != nil {
		halt.Reason = "unreadable"
	}
	into[name] = halt
	return err
}

// putRefusal reads a refusal, whose key ends in <worker>/<generation>.
func putRefusal(into map[RefusalID]Refusal, name string, r Record) error {
	id, err := parseRefusal(name)
	if err != nil {
		return err
	}
	refusal := Refusal{Worker: id.Worker, Generation: id.Generation}
	return store(into, id, &refusal, decode(r, &refusal))
}

func parseRefusal(name string) (id RefusalID, err error) {
	worker, generation, ok := strings.Cut(name, "/")
	if !ok {
		return RefusalID{}, errKey
	}
	id.Worker = worker
	id.Generation, err = parseNumber(generation)
	return id, err
}

// putRequest reads a request, whose key ends in <worker>/<generation>/<shard>.
func putRequest(into map[RequestID]IdentifyRequest, name string, r Record) error {
	worker, shard, err := parseWorkerKey(name)
	if err != nil {
		return err
	}
	request := IdentifyRequest{Worker: worker, Shard: shard, Revision: r.Modified}
	return store(into, RequestID{worker, shard}, &request, decode(r, &request))
}

func removeRequest(from map[RequestID]IdentifyRequest, name string) error {
	worker, shard, err := parseWorkerKey(name)
	delete(from, RequestID{worker, shard})
	return err
}

// parseWorkerKey reads the <worker>/<generation>/<number> that assignments and requests end in.
func parseWorkerKey(name string) (worker string, shard ShardID, err error) {
	worker, rest, ok := strings.Cut(name, "/")
	if !ok {
		return "", ShardID{}, errKey
	}
	shard.Generation, shard.Shard, err = parsePair(rest)
	return worker, shard, err
}

// decode reads a record's value. If it cannot, it leaves into as it was.
func decode[T any](r Record, into *T) error {
	before := *into
	if err := json.Unmarshal(r.Value, into); err != nil {
		*into = before
		return fmt.Errorf("not a record of its form: %w", err)
	}
	if record, ok := any(into).(interface{ keep(string) }); ok {
		record.keep(unknownIn(r.Value, into))
	}
	return nil
}

func store[K comparable, V any](into map[K]V, key K, value *V, err error) error {
	if err != nil {
		delete(into, key)
		return err
	}
	into[key] = *value
	return nil
}
