package etcdmem

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// leaderless is for how long a member of etcd must miss its leader before it ends the watches that require one.
const leaderless = 3 * time.Second

// watcher is the client's half of a watch as well as the server's: it goes on by itself after the link was interrupted, and ends
// with an error where etcd's own client does.
type watcher struct{ *Link }

// Close does nothing: watches end with the link.
func (watcher) Close() error { return nil }

func (watcher) RequestProgress(context.Context) error {
	return errors.New("etcdmem: progress of watches is not implemented")
}

func (w watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	op := clientv3.OpGet(key, opts...)
	watch := &watch{
		link: w.Link, in: span{string(op.KeyBytes()), string(op.RangeBytes())}, next: op.Rev(), out: make(chan clientv3.WatchResponse),
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok {
		watch.requireLeader = slices.Contains(md[rpctypes.MetadataRequireLeaderKey], rpctypes.MetadataHasLeader)
	}
	go watch.run(ctx)
	return watch.out
}

type watch struct {
	link          *Link
	in            span
	next          int64 // the first revision that is still to come; 0: that after the present
	requireLeader bool
	out           chan clientv3.WatchResponse
}

// idle is how long a watch waits when nothing is on its way, unless something happens.
const idle = time.Hour

// run ends when ctx does, with the link, or with a last response that says why.
func (w *watch) run(ctx context.Context) {
	defer close(w.out)
	for last := false; !last; {
		state, slow, mended := w.link.look()
		var resp clientv3.WatchResponse
		var more <-chan struct{}
		wait := idle
		if state == whole {
			resp, more, wait = w.read(slow)
		}
		if w.link.losesEvents() {
			resp.Events = nil
		}
		if last = resp.Canceled; last || len(resp.Events) > 0 {
			select {
			case w.out <- resp:
			case <-ctx.Done():
				return
			case <-w.link.ctx.Done():
				return
			}
			continue
		}
		again := time.NewTimer(wait)
		select {
		case <-more:
		case <-mended:
		case <-again.C:
		case <-ctx.Done():
			last = true
		case <-w.link.ctx.Done():
			last = true
		}
		again.Stop()
	}
}

// read takes what may be told by now: events, or that the watch ends. It returns too what closes when more happens, and when there
// may be more though nothing does. Events are shared between watches.
func (w *watch) read(slow time.Duration) (resp clientv3.WatchResponse, more <-chan struct{}, wait time.Duration) {
	s := w.link.server
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	more, wait, resp.Header = s.changed, idle, s.header()
	if w.requireLeader && !s.lost.IsZero() {
		if wait = s.lost.Add(leaderless).Sub(now); wait <= 0 {
			resp.Canceled, resp.CancelReason = true, rpctypes.ErrNoLeader.Error()
			return resp, more, wait
		}
	}
	if w.next == 0 {
		w.next = s.revision + 1
	}
	commits, ok := s.since(w.next)
	if !ok {
		resp.Canceled, resp.CompactRevision = true, s.compacted
		return resp, more, wait
	}
	for _, c := range commits {
		if due := c.At.Add(max(slow, hop)).Sub(now); due > 0 {
			return resp, more, min(wait, due)
		}
		w.next = c.Revision + 1
		for _, e := range c.Events {
			if w.in.has(string(e.Kv.Key)) {
				resp.Events = append(resp.Events, (*clientv3.Event)(e))
			}
		}
	}
	return resp, more, wait
}
