package lease

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// relistEvery is how often a follower reads everything again although its watch seems well. etcd has had bugs that lost
// watch events (etcd issues 17529, 18089, 19179); this bounds how long such a loss can last.
const relistEvery = time.Minute

// Update is what one transaction changed of the keys that are followed, each key at most once. With Reset it is all there
// is, and replaces everything known before. Keys are relative to the cluster's prefix.
type Update struct {
	Revision int64
	Reset    bool
	Puts     []Record
	Deletes  []string
}

// Record is a key as etcd has it.
type Record struct {
	Key      string
	Value    []byte
	Created  int64 // revision
	Modified int64 // revision
}

// scope is what a follower reads: single keys and directories, which end in a slash, relative to the cluster's prefix.
// It lists exactly what it needs, and may watch more: one watch of everything is in order of revision throughout, several
// are so each for itself only.
type scope struct{ list, watch []string }

// follow calls apply with everything in the scope, and then with every change, in order of revision for each watch.
// apply is never called by two goroutines at once; an error from it ends follow. It survives compaction, lost
// connections, lost events and an etcd that was restored from a backup by reading everything again, and returns nil when ctx ends.
func (s *Store) follow(ctx context.Context, in scope, apply func(Update) error) error {
	retry := newRetry(5 * time.Second)
	failing := false
	for ctx.Err() == nil {
		err := s.followOnce(ctx, in, func(u Update) error {
			if failing {
				s.log.Warn("following etcd again", "revision", u.Revision)
			}
			failing = false
			retry.Reset()
			return apply(u)
		})
		if stop, ok := err.(*applyError); ok {
			return stop.err
		}
		if ctx.Err() != nil || err == nil {
			continue
		}
		if !failing {
			s.log.Warn("following etcd interrupted; reading everything again", "error", err)
		}
		failing = true
		_ = sleep(ctx, retry.NextBackOff()) // the loop looks at ctx
	}
	return nil
}

// applyError marks an error that came from the caller's function.
type applyError struct{ err error }

func (e *applyError) Error() string { return e.err.Error() }

// followOnce lists and watches until something fails, or returns nil when it is time to list again.
func (s *Store) followOnce(ctx context.Context, in scope, apply func(Update) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()

	life := s.witness.life()
	snapshot, err := s.list(ctx, in.list)
	if err != nil {
		return err
	}
	watches := s.watch(ctx, &watchers, in.watch, snapshot.Revision+1)
	if err := apply(snapshot); err != nil {
		return &applyError{err}
	}
	relist := time.NewTimer(s.untilRelist())
	defer relist.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-relist.C:
			return nil
		case <-life.Done():
			return context.Cause(life)
		case <-s.witness.doubt:
			if err := s.checkSchema(ctx); err != nil {
				return err
			}
		case resp := <-watches:
			if err := resp.Err(); err != nil {
				return fmt.Errorf("watch: %w", err)
			}
			for _, update := range s.updatesOf(resp) {
				if err := apply(update); err != nil {
					return &applyError{err}
				}
			}
		}
	}
}

// untilRelist is how long to rely on a watch. It differs each time, so that a fleet does not read all at once.
func (s *Store) untilRelist() time.Duration { return s.relist/2 + rand.N(s.relist)/2 }

// listPage is how many keys of a directory one request reads at most. Of identify requests, of which there can be one for each of 100,000
// shards, these are a megabyte; of the largest records, statuses, there is one for each worker. While a follower lists it hears of
// no changes, so there should not be many pages.
const listPage = 4000

// list reads everything at one revision: the first page of each key and directory in one request, and then what is left of the long ones.
func (s *Store) list(ctx context.Context, what []string) (Update, error) {
	reads := make([]clientv3.Op, len(what))
	for i, key := range what {
		reads[i] = clientv3.OpGet(s.keys.prefix+key, append(span(key), clientv3.WithLimit(s.page))...)
	}
	resp, err := s.read(ctx, reads)
	if err != nil {
		return Update{}, err
	}
	update := Update{Revision: resp.Header.Revision, Reset: true}
	for i, part := range resp.Responses {
		page := (*clientv3.GetResponse)(part.GetResponseRange())
		for ; err == nil && page.More; page, err = s.nextPage(ctx, what[i], page, update.Revision) {
			update.Puts = append(update.Puts, s.records(page)...)
		}
		if err != nil {
			return Update{}, err
		}
		update.Puts = append(update.Puts, s.records(page)...)
	}
	return update, nil
}

// nextPage reads what follows a page of a directory, as it was at the given revision.
func (s *Store) nextPage(ctx context.Context, dir string, page *clientv3.GetResponse, revision int64) (*clientv3.GetResponse, error) {
	from := string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	resp, err := s.read(ctx, []clientv3.Op{clientv3.OpGet(from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(s.keys.prefix+dir)),
		clientv3.WithLimit(s.page), clientv3.WithRev(revision))})
	if err != nil {
		return nil, err
	}
	return (*clientv3.GetResponse)(resp.Responses[0].GetResponseRange()), nil
}

// read makes one request of several reads.
func (s *Store) read(ctx context.Context, reads []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return resp, nil
}

// watch merges one watch for each key or directory into a channel. Watches that share a context share a gRPC stream.
// A watch that ends sends a last response whose Err is not nil.
func (s *Store) watch(ctx context.Context, watchers *sync.WaitGroup, what []string, from int64) <-chan clientv3.WatchResponse {
	merged := make(chan clientv3.WatchResponse)
	ctx = clientv3.WithRequireLeader(ctx) // a member cut off from the quorum must break the watch, not go quiet
	for _, key := range what {
		watch := s.client.Watch(ctx, s.keys.prefix+key, append(span(key), clientv3.WithRev(from))...)
		watchers.Go(func() {
			for resp := range watch {
				select {
				case merged <- resp:
				case <-ctx.Done():
					return
				}
			}
			select {
			case merged <- clientv3.WatchResponse{Canceled: true}: // its Err is not nil
			case <-ctx.Done():
			}
		})
	}
	return merged
}

func span(key string) []clientv3.OpOption {
	if key == everything || strings.HasSuffix(key, "/") {
		return []clientv3.OpOption{clientv3.WithPrefix()}
	}
	return nil
}

// updatesOf makes one update of each revision. A response can hold several, and in one revision a key changes at most
// once. Its header is no help: while a watch catches up, that names a revision whose events may be still to come.
func (s *Store) updatesOf(resp clientv3.WatchResponse) []Update {
	var updates []Update
	for _, event := range resp.Events {
		if n := len(updates); n == 0 || updates[n-1].Revision != event.Kv.ModRevision {
			updates = append(updates, Update{Revision: event.Kv.ModRevision})
		}
		update := &updates[len(updates)-1]
		if event.Type == clientv3.EventTypeDelete {
			update.Deletes = append(update.Deletes, strings.TrimPrefix(string(event.Kv.Key), s.keys.prefix))
		} else {
			update.Puts = append(update.Puts, s.record(event.Kv))
		}
	}
	return updates
}

func (s *Store) records(page *clientv3.GetResponse) []Record {
	records := make([]Record, len(page.Kvs))
	for i, kv := range page.Kvs {
		records[i] = s.record(kv)
	}
	return records
}

func (s *Store) record(kv *mvccpb.KeyValue) Record {
	return Record{
		Key: strings.TrimPrefix(string(kv.Key), s.keys.prefix), Value: kv.Value,
		Created: kv.CreateRevision, Modified: kv.ModRevision,
	}
}
