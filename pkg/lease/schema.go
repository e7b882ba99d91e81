package lease

import (
	"context"
	"encoding/json"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Schema is the version of the keys and records in etcd. A version of muster adds keys and fields without changing it, since unknown ones are left alone and
// kept. It changes only when an older version would do harm with what a newer one writes; then the older one must not start.
const Schema = 1

// schemaRecord is what the key schema holds: the Schema of whoever made the cluster.
type schemaRecord struct {
	Version int `json:"version"`
}

// SchemaError says that the cluster's keys are those of a later version of muster than this.
type SchemaError struct{ Found int }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("etcd holds schema %d of this cluster, and this version of muster knows %d: run a later version", e.Found, Schema)
}

// checkSchema makes one linearizable read, and returns a *SchemaError if the cluster is one of a later version. What is not there, or cannot be read, is not.
func (s *Store) checkSchema(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, s.keys.schema())
	if err != nil {
		return fmt.Errorf("read etcd: %w", err)
	}
	var found schemaRecord
	if len(resp.Kvs) > 0 && json.Unmarshal(resp.Kvs[0].Value, &found) == nil && found.Version > Schema {
		return &SchemaError{found.Version}
	}
	return nil
}

// noteSchema writes the schema down, if nobody did.
func noteSchema(k keys) clientv3.Op {
	key := k.schema()
	return clientv3.OpTxn([]clientv3.Cmp{created(key, 0)}, []clientv3.Op{put(key, schemaRecord{Schema})}, nil)
}
