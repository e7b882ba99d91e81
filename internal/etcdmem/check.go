package etcdmem

import (
	"maps"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxTxnOps is etcd's default of --max-txn-ops. Nested transactions have what the one around them leaves.
const maxTxnOps = 128

// errNotHere refuses what pkg/lease does not use.
var errNotHere = status.Error(codes.Unimplemented, "etcdmem: not implemented")

// checkTxn refuses what etcd refuses before it looks at a key.
func checkTxn(r *pb.TxnRequest, most int) error {
	ops := max(len(r.Compare), len(r.Success), len(r.Failure))
	if ops > most {
		return rpctypes.ErrGRPCTooManyOps
	}
	for _, c := range r.Compare {
		if len(c.Key) == 0 {
			return rpctypes.ErrGRPCEmptyKey
		}
	}
	for _, op := range slices.Concat(r.Success, r.Failure) {
		if err := checkOp(op, most-ops); err != nil {
			return err
		}
	}
	return nil
}

func checkOp(op *pb.RequestOp, most int) error {
	switch op := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return notEmpty(op.RequestRange.Key)
	case *pb.RequestOp_RequestPut:
		put := op.RequestPut
		if put.IgnoreValue && len(put.Value) > 0 {
			return rpctypes.ErrGRPCValueProvided
		}
		if put.IgnoreLease && put.Lease != 0 {
			return rpctypes.ErrGRPCLeaseProvided
		}
		return notEmpty(put.Key)
	case *pb.RequestOp_RequestDeleteRange:
		return notEmpty(op.RequestDeleteRange.Key)
	case *pb.RequestOp_RequestTxn:
		return checkTxn(op.RequestTxn, most)
	default:
		return rpctypes.ErrGRPCKeyNotFound
	}
}

func notEmpty(key []byte) error {
	if len(key) == 0 {
		return rpctypes.ErrGRPCEmptyKey
	}
	return nil
}

// checkKeys refuses a key that is put twice, or put and deleted. It goes through the operations in etcd's order, by which
// deletes of a nested transaction count for the puts of those after it, but not of those before.
func checkKeys(ops []*pb.RequestOp) (puts map[string]bool, deletes []span, err error) {
	puts = map[string]bool{}
	add := func(key string) error {
		if puts[key] || slices.ContainsFunc(deletes, func(s span) bool { return s.has(key) }) {
			return rpctypes.ErrGRPCDuplicateKey
		}
		puts[key] = true
		return nil
	}
	for _, op := range ops {
		if d := op.GetRequestDeleteRange(); d != nil {
			deletes = append(deletes, span{string(d.Key), string(d.RangeEnd)})
		}
	}
	for _, op := range ops {
		nested := op.GetRequestTxn()
		if nested == nil {
			continue
		}
		then, thenDeletes, err := checkKeys(nested.Success)
		if err != nil {
			return nil, nil, err
		}
		otherwise, otherDeletes, err := checkKeys(nested.Failure)
		if err != nil {
			return nil, nil, err
		}
		maps.Copy(then, otherwise) // only one side is taken, so both may have a key
		for key := range then {
			if err := add(key); err != nil {
				return nil, nil, err
			}
		}
		deletes = append(deletes, thenDeletes...)
		deletes = append(deletes, otherDeletes...)
	}
	for _, op := range ops {
		if put := op.GetRequestPut(); put != nil {
			if err := add(string(put.Key)); err != nil {
				return nil, nil, err
			}
		}
	}
	return puts, deletes, nil
}

// span is a range of keys; without an end it is one key, and with "\x00" for an end all from key on.
type span struct{ key, end string }

func (s span) has(key string) bool {
	switch s.end {
	case "":
		return key == s.key
	case "\x00":
		return key >= s.key
	default:
		return s.key <= key && key < s.end
	}
}
