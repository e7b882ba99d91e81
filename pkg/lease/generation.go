package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// CarryEpochs moves the epochs of one generation's session records to the generation after it, some at a time, and reports
// whether there are more. A session cannot be carried: it is one of another number of shards. But its epoch must be, or the
// first of the new generation might be the number of an IDENTIFY under way in the old one, and two sessions would write the same entry ids.
//
// The caller must have retired every range of the old generation, so that nobody can write its records any more, and not yet
// given out any of the new one. A record that the new generation has all the same stays as it is.
func (t *Term) CarryEpochs(ctx context.Context, from int) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	k := t.store.keys
	resp, err := t.store.client.Get(ctx, k.sessions(from), clientv3.WithPrefix(), clientv3.WithLimit(maxActionsPerTxn))
	if err != nil {
		return false, fmt.Errorf("carry epochs of generation %d: %w", from, err)
	}
	if len(resp.Kvs) == 0 {
		return false, nil
	}
	steps := make([]clientv3.Op, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		old := string(kv.Key)
		drop := clientv3.OpDelete(old)
		var session Session
		shard, err := parseNumber(strings.TrimPrefix(old, k.sessions(from)))
		if err != nil || json.Unmarshal(kv.Value, &session) != nil { // such a record was no session to its owner either
			steps[i] = drop
			continue
		}
		next := k.session(ShardID{from + 1, shard})
		steps[i] = clientv3.OpTxn([]clientv3.Cmp{created(next, 0)},
			[]clientv3.Op{put(next, Session{Epoch: session.Epoch}), drop}, []clientv3.Op{drop})
	}
	_, err = t.store.commit(ctx, fmt.Sprintf("carry %d epochs of generation %d", len(steps), from), t.guard(), steps...)
	return resp.More, err
}
