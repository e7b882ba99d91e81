package lease

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// tenure is what everything is begun in that compares revisions: the time from one restoration of etcd to the next. etcd has a record of
// it, the era, with a random id. A restored etcd has that of its backup, and the first that notices replaces it. So nothing of the time
// before can be written any more, by anyone, whether he noticed or not.
type tenure struct {
	life context.Context // ends if we see that etcd was restored
	era  string          // the record, as etcd has it
}

// holds compares that the tenure is not over.
func (t tenure) holds(k keys) clientv3.Cmp {
	if t.life.Err() != nil {
		return created(k.era(), noRevision)
	}
	return clientv3.Compare(clientv3.Value(k.era()), "=", t.era)
}

// tenure is the present one. It begins an era if there is none, or only the one from before a restoration that we saw.
func (s *Store) tenure(ctx context.Context) (tenure, error) {
	key := s.keys.era()
	for {
		life := s.witness.life()
		resp, err := s.client.Get(ctx, key)
		if err != nil && life.Err() != nil && ctx.Err() == nil {
			continue // this very question told that etcd was restored; what is begun now begins after that
		}
		if err != nil {
			return tenure{}, fmt.Errorf("read era: %w", err)
		}
		var revision int64
		if len(resp.Kvs) > 0 {
			revision = resp.Kvs[0].ModRevision
			if era := string(resp.Kvs[0].Value); s.witness.adopt(era) {
				return tenure{life, era}, nil
			}
		}
		_, err = s.commit(ctx, "begin an era", []clientv3.Cmp{modified(key, revision)}, put(key, Era{ID: rand.Text()}))
		if err != nil && !errors.Is(err, ErrFenced) { // fenced: somebody else was faster
			return tenure{}, err
		}
	}
}
