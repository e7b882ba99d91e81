package etcdmem

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// branch is the side that a transaction takes. It is decided for nested ones too before anything is written: their comparisons see
// what was there before.
type branch struct {
	succeeded bool
	ops       []*pb.RequestOp
	nested    map[int]*branch // by index in ops
}

// txn carries out one request as one revision; its later reads see its earlier writes. The server's mu is held.
type txn struct {
	*Server
	events []*mvccpb.Event
	before []*mvccpb.KeyValue // what was there before each event; nil: nothing
}

func (t *txn) wrote(e *mvccpb.Event, before *mvccpb.KeyValue) {
	t.events, t.before = append(t.events, e), append(t.before, before)
}

// transact checks and carries out a transaction, or refuses all of it.
func (s *Server) transact(by string, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := checkTxn(r, maxTxnOps); err != nil {
		return nil, err
	}
	for _, side := range [][]*pb.RequestOp{r.Success, r.Failure} {
		if _, _, err := checkKeys(side); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &txn{Server: s}
	b := t.decide(r)
	if err := t.possible(b); err != nil {
		return nil, err
	}
	resp := t.execute(b)
	s.commit(by, t)
	resp.Header.Revision = s.revision
	return resp, nil
}

// single carries out one operation outside a transaction.
func (s *Server) single(by string, op *pb.RequestOp) (*pb.ResponseOp, error) {
	if err := checkOp(op, maxTxnOps); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &txn{Server: s}
	b := &branch{ops: []*pb.RequestOp{op}}
	if err := t.possible(b); err != nil {
		return nil, err
	}
	resp := t.execute(b)
	s.commit(by, t)
	return resp.Responses[0], nil
}

func (t *txn) decide(r *pb.TxnRequest) *branch {
	b := &branch{succeeded: true, ops: r.Success, nested: map[int]*branch{}}
	for _, c := range r.Compare {
		if !t.holds(c) {
			b.succeeded, b.ops = false, r.Failure
			break
		}
	}
	for i, op := range b.ops {
		if nested := op.GetRequestTxn(); nested != nil {
			b.nested[i] = t.decide(nested)
		}
	}
	return b
}

// possible refuses puts that need a lease or a key that is not there, and reads at a revision that is not.
func (t *txn) possible(b *branch) error {
	for i, op := range b.ops {
		var err error
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestTxn:
			err = t.possible(b.nested[i])
		case *pb.RequestOp_RequestPut:
			err = t.puttable(op.RequestPut)
		case *pb.RequestOp_RequestRange:
			err = t.readable(op.RequestRange.Revision)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) puttable(r *pb.PutRequest) error {
	switch {
	case r.Lease != 0 && t.leases[r.Lease] == nil:
		return rpctypes.ErrGRPCLeaseNotFound
	case (r.IgnoreValue || r.IgnoreLease) && t.keys[string(r.Key)] == nil:
		return rpctypes.ErrGRPCKeyNotFound
	default:
		return nil
	}
}

// readable refuses a revision that is still to come, or was compacted; 0 is the present.
func (t *txn) readable(revision int64) error {
	switch {
	case revision > t.revision:
		return rpctypes.ErrGRPCFutureRev
	case revision != 0 && revision < t.compacted:
		return rpctypes.ErrGRPCCompacted
	default:
		return nil
	}
}

// at are the keys as they were at a revision that can be read: the present ones, with what was written since undone.
func (t *txn) at(revision int64) map[string]*mvccpb.KeyValue {
	keys := maps.Clone(t.keys)
	undo(keys, t.events, t.before)
	commits, _ := t.since(revision + 1)
	for _, c := range slices.Backward(commits) {
		undo(keys, c.Events, c.before)
	}
	return keys
}

func undo(keys map[string]*mvccpb.KeyValue, events []*mvccpb.Event, before []*mvccpb.KeyValue) {
	for i, e := range slices.Backward(events) {
		if key := string(e.Kv.Key); before[i] != nil {
			keys[key] = before[i]
		} else {
			delete(keys, key)
		}
	}
}

func (t *txn) execute(b *branch) *pb.TxnResponse {
	resp := &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: b.succeeded, Responses: make([]*pb.ResponseOp, len(b.ops))}
	for i, op := range b.ops {
		out := &pb.ResponseOp{}
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			out.Response = &pb.ResponseOp_ResponseRange{ResponseRange: t.read(op.RequestRange)}
		case *pb.RequestOp_RequestPut:
			out.Response = &pb.ResponseOp_ResponsePut{ResponsePut: t.put(op.RequestPut)}
		case *pb.RequestOp_RequestDeleteRange:
			out.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: t.deleteRange(op.RequestDeleteRange)}
		case *pb.RequestOp_RequestTxn:
			out.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: t.execute(b.nested[i])}
		}
		resp.Responses[i] = out
	}
	return resp
}

// now is the revision that a read within the transaction is of.
func (t *txn) now() *pb.ResponseHeader {
	if len(t.events) > 0 {
		return &pb.ResponseHeader{Revision: t.revision + 1}
	}
	return t.header()
}

func (t *txn) put(r *pb.PutRequest) *pb.PutResponse {
	key := string(r.Key)
	before := t.keys[key]
	kv := &mvccpb.KeyValue{Key: r.Key, Value: r.Value, Lease: r.Lease, CreateRevision: t.revision + 1, ModRevision: t.revision + 1, Version: 1}
	resp := &pb.PutResponse{}
	if before != nil {
		kv.CreateRevision, kv.Version = before.CreateRevision, before.Version+1
		if r.IgnoreValue {
			kv.Value = before.Value
		}
		if r.IgnoreLease {
			kv.Lease = before.Lease
		}
		if r.PrevKv {
			resp.PrevKv = before
		}
	}
	t.attach(key, before, kv.Lease)
	t.keys[key] = kv
	t.wrote(&mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv}, before)
	resp.Header = t.now()
	return resp
}

func (t *txn) deleteRange(r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	resp := &pb.DeleteRangeResponse{}
	for _, kv := range within(t.keys, r.Key, r.RangeEnd) {
		t.remove(kv)
		resp.Deleted++
		if r.PrevKv {
			resp.PrevKvs = append(resp.PrevKvs, kv)
		}
	}
	resp.Header = t.now()
	return resp
}

func (t *txn) remove(kv *mvccpb.KeyValue) {
	t.attach(string(kv.Key), kv, 0)
	delete(t.keys, string(kv.Key))
	t.wrote(&mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: kv.Key, ModRevision: t.revision + 1}}, kv)
}

func (t *txn) read(r *pb.RangeRequest) *pb.RangeResponse {
	keys := t.keys
	if r.Revision > 0 {
		keys = t.at(r.Revision)
	}
	kvs := within(keys, r.Key, r.RangeEnd)
	resp := &pb.RangeResponse{Header: t.now(), Count: int64(len(kvs))}
	if r.CountOnly {
		return resp
	}
	kvs = slices.DeleteFunc(kvs, func(kv *mvccpb.KeyValue) bool {
		return outside(kv.ModRevision, r.MinModRevision, r.MaxModRevision) || outside(kv.CreateRevision, r.MinCreateRevision, r.MaxCreateRevision)
	})
	sortBy(kvs, r.SortTarget, r.SortOrder)
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, resp.More = kvs[:r.Limit], true
	}
	if r.KeysOnly {
		for i, kv := range kvs {
			kvs[i] = proto.CloneOf(kv)
			kvs[i].Value = nil
			if r.SortTarget != pb.RangeRequest_VALUE { // answered from etcd's index, which knows of no leases
				kvs[i].Lease = 0
			}
		}
	}
	resp.Kvs = kvs
	return resp
}

// outside reports whether a revision is below the least or above the most, where 0 is no bound.
func outside(revision, least, most int64) bool {
	return revision < least || most != 0 && revision > most
}

func sortBy(kvs []*mvccpb.KeyValue, target pb.RangeRequest_SortTarget, order pb.RangeRequest_SortOrder) {
	slices.SortStableFunc(kvs, func(a, b *mvccpb.KeyValue) int {
		if order == pb.RangeRequest_DESCEND {
			a, b = b, a
		}
		switch target {
		case pb.RangeRequest_VERSION:
			return cmp.Compare(a.Version, b.Version)
		case pb.RangeRequest_CREATE:
			return cmp.Compare(a.CreateRevision, b.CreateRevision)
		case pb.RangeRequest_MOD:
			return cmp.Compare(a.ModRevision, b.ModRevision)
		case pb.RangeRequest_VALUE:
			return bytes.Compare(a.Value, b.Value)
		default:
			return bytes.Compare(a.Key, b.Key)
		}
	})
}

// within lists what is in a range, by key.
func within(keys map[string]*mvccpb.KeyValue, key, end []byte) []*mvccpb.KeyValue {
	if len(end) == 0 {
		if kv := keys[string(key)]; kv != nil {
			return []*mvccpb.KeyValue{kv}
		}
		return nil
	}
	in := span{string(key), string(end)}
	var kvs []*mvccpb.KeyValue
	for key, kv := range keys {
		if in.has(key) {
			kvs = append(kvs, kv)
		}
	}
	sortBy(kvs, pb.RangeRequest_KEY, pb.RangeRequest_ASCEND)
	return kvs
}

func (t *txn) holds(c *pb.Compare) bool {
	kvs := within(t.keys, c.Key, c.RangeEnd)
	if len(kvs) == 0 {
		if c.Target == pb.Compare_VALUE {
			return false // what is not there has no value, not an empty one
		}
		kvs = []*mvccpb.KeyValue{{}}
	}
	return !slices.ContainsFunc(kvs, func(kv *mvccpb.KeyValue) bool { return !compare(c, kv) })
}

func compare(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	var result int
	switch c.Target {
	case pb.Compare_VALUE:
		result = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_CREATE:
		result = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		result = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VERSION:
		result = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_LEASE:
		result = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return result == 0
	case pb.Compare_NOT_EQUAL:
		return result != 0
	case pb.Compare_GREATER:
		return result > 0
	default:
		return result < 0
	}
}
