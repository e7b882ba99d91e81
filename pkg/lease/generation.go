package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// sessionsPerPage is how many session records are read at once: a few hundred bytes each.
const sessionsPerPage = 1000

// CarryEpochs moves epochs of session records of generations that are over to the plan's, some at a time. A session cannot be carried:
// it is one of another number of shards. But its epoch must be, or the first of this generation might be the number of an IDENTIFY under
// way in the old one, and two sessions would write the same entry ids. What was never in force has written nothing, and is dropped.
//
// more says that there may be others to be carried. left says that records of shards that were prepared are still there: whoever
// unmutes such a shard takes its epoch along.
//
// The caller must have retired every range of the generations that are over, so that nobody can write their records any more; and, of
// a plan that was not prepared, not yet given out any of its ranges.
func (t *Term) CarryEpochs(ctx context.Context, plan Plan) (more, left bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	over, left, err := t.recordsOver(ctx, plan)
	if err != nil || len(over) == 0 {
		return false, left, err
	}
	steps, err := t.carries(ctx, plan, over)
	if err != nil {
		return false, false, err
	}
	_, err = t.store.commit(ctx, fmt.Sprintf("carry %d epochs to generation %d", len(steps), plan.Generation), t.guard(), steps...)
	return true, left, err
}

// recordOver is a session record of a generation that is over.
type recordOver struct {
	key   string
	shard int
	epoch uint64 // 0: there is none to carry
}

// recordsOver lists records that are to be carried or dropped, no two of one shard, as many as fit a transaction.
func (t *Term) recordsOver(ctx context.Context, plan Plan) (over []recordOver, left bool, err error) {
	k := t.store.keys
	dir, listed := k.prefix+dirSessions, map[int]bool{}
	for key, end := dir, clientv3.GetPrefixRangeEnd(dir); key < end && len(over) < maxActionsPerTxn; {
		resp, err := t.store.client.Get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(sessionsPerPage))
		if err != nil {
			return nil, false, fmt.Errorf("list sessions of generations that are over: %w", err)
		}
		key = end
		for _, kv := range resp.Kvs {
			generation, shard, err := parsePair(strings.TrimPrefix(string(kv.Key), dir))
			standing := plan.Standing(generation)
			if err == nil && standing != Finishing && standing != Over {
				key = clientv3.GetPrefixRangeEnd(k.sessions(generation)) // none of these is looked at
				break
			}
			if resp.More {
				key = string(kv.Key) + "\x00"
			}
			if err == nil && standing == Finishing && shard < plan.Shards {
				left = true
				continue
			}
			record := recordOver{key: string(kv.Key), shard: shard}
			var session Session
			// What cannot be read was no session to its owner either.
			if err == nil && generation < plan.Generation && json.Unmarshal(kv.Value, &session) == nil {
				record.epoch = session.Epoch
			}
			if record.epoch > 0 && listed[shard] || len(over) == maxActionsPerTxn {
				continue // the next call has it
			}
			listed[shard] = listed[shard] || record.epoch > 0
			over = append(over, record)
		}
	}
	return over, left, nil
}

// carries are the steps that move the epochs of records, or drop them. A record that the plan has all the same stays as it is, unless
// it is a carried epoch too, and a lower one.
func (t *Term) carries(ctx context.Context, plan Plan, over []recordOver) ([]clientv3.Op, error) {
	k := t.store.keys
	reads := make([]clientv3.Op, len(over))
	for i, record := range over {
		reads[i] = clientv3.OpGet(k.session(ShardID{plan.Generation, record.shard}))
	}
	resp, err := t.store.client.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return nil, fmt.Errorf("read sessions of generation %d: %w", plan.Generation, err)
	}
	steps := make([]clientv3.Op, len(over))
	for i, record := range over {
		steps[i] = clientv3.OpDelete(record.key)
		if record.epoch == 0 {
			continue
		}
		next := k.session(ShardID{plan.Generation, record.shard})
		var present Session
		for _, kv := range resp.Responses[i].GetResponseRange().Kvs {
			if json.Unmarshal(kv.Value, &present) != nil {
				present = Session{}
			}
			present.Revision = kv.ModRevision
		}
		if present.Epoch < record.epoch && present.ID == "" {
			// If it is written meanwhile, the old record stays, for the next call.
			steps[i] = clientv3.OpTxn([]clientv3.Cmp{modified(next, present.Revision)},
				[]clientv3.Op{put(next, Session{Epoch: record.epoch}), steps[i]}, nil)
		}
	}
	return steps, nil
}
