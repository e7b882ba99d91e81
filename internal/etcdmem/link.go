package etcdmem

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// hop is how long a message takes from one end of a link to the other, if nothing is said.
	hop = 250 * time.Microsecond
	// silence is after how long a client takes a connection for dead on which nothing comes, as pkg/lease configures gRPC.
	silence = 12 * time.Second
	// connecting is how long an attempt to connect takes that is refused.
	connecting = 100 * time.Millisecond
)

// What gRPC makes of a connection that breaks or cannot be made, and of one that was closed at this end.
var (
	errUnavailable = status.Error(codes.Unavailable, "etcdmem: connection lost")
	errClosed      = status.Error(codes.Canceled, "etcdmem: connection closed")
)

// Link is one process's way to the server, which can fail while that of others does not. It is safe for concurrent use.
type Link struct {
	Client *clientv3.Client // ends with Close

	server *Server
	name   string
	ctx    context.Context // ends with Close
	close  context.CancelFunc

	mu        sync.Mutex
	state     linkState
	slow      time.Duration
	losing    int
	deaf      bool
	abandoned int
	changed   chan struct{} // closed, and replaced, when the state changes
}

type linkState int

const (
	whole linkState = iota
	held
	cut
)

// Link makes a way to the server. Its name is the By of the commits that come by it.
func (s *Server) Link(name string) *Link {
	l := &Link{server: s, name: name, changed: make(chan struct{})}
	l.ctx, l.close = context.WithCancel(context.Background())
	l.Client = clientv3.NewCtxClient(l.ctx)
	l.Client.KV = clientv3.NewKVFromKVClient(kvClient{l}, l.Client)
	l.Client.Lease = clientv3.NewLeaseFromLeaseClient(leaseClient{l}, l.Client, silence)
	l.Client.Watcher = watcher{l}
	return l
}

// Hold lets nothing pass in either direction, until Mend. What was sent meanwhile arrives then.
func (l *Link) Hold() { l.set(held) }

// Cut refuses everything, until Mend. What is under way is lost.
func (l *Link) Cut() { l.set(cut) }

// Mend ends Hold and Cut.
func (l *Link) Mend() { l.set(whole) }

// Slow has every message take so long, instead of next to nothing.
func (l *Link) Slow(by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = by
}

// LoseAnswers breaks the connection just after each of the next n requests was carried out: their callers cannot know.
func (l *Link) LoseAnswers(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.losing = n
}

// LoseEvents has watches leave out what happens until they hear again, and go on as if nothing were missing. etcd must not do
// that, and has done it (issues 17529, 18089, 19179).
func (l *Link) LoseEvents(deaf bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = deaf
}

// Close ends the client, and with it all that is under way.
func (l *Link) Close() {
	l.close()
	_ = l.Client.Close() // it says that its context has ended
}

func (l *Link) set(state linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Link) look() (state linkState, slow time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.slow, l.changed
}

func (l *Link) losesEvents() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deaf
}

// call carries a request to the server, has it carried out there, and its answer back. The request goes its way even if the
// caller, whose patience is ctx, does not wait for it.
func call[A any](ctx context.Context, l *Link, do func() (A, error)) (A, error) {
	type result struct {
		answer A
		err    error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.err = l.there(ctx)
		if r.err == nil {
			r.answer, r.err = do()
			if err := l.back(); err != nil {
				r.err = err
			}
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// there is a request's way: through the link and, once it is with the server, into its log.
func (l *Link) there(caller context.Context) error {
	if err := l.pass(); err != nil {
		return err
	}
	for {
		lost, changed := l.server.quorum()
		if lost.IsZero() {
			break
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return errClosed
		}
	}
	if caller.Err() != nil && !l.outlives() {
		return caller.Err()
	}
	return nil
}

// outlives decides whether a request is carried out that its caller has given up: every other one.
func (l *Link) outlives() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abandoned++
	return l.abandoned%2 == 1
}

// back is an answer's way.
func (l *Link) back() error {
	l.mu.Lock()
	lose := l.losing > 0
	if lose {
		l.losing--
	}
	l.mu.Unlock()
	if lose {
		return errUnavailable
	}
	return l.pass()
}

// pass takes a message from one end of the link to the other. It fails if the connection breaks meanwhile.
func (l *Link) pass() error {
	_, slow, _ := l.look()
	if !l.sleep(max(slow, hop)) {
		return errClosed
	}
	dead := time.NewTimer(silence)
	defer dead.Stop()
	for {
		state, _, changed := l.look()
		switch state {
		case whole:
			return nil
		case cut:
			l.sleep(connecting)
			return errUnavailable
		}
		select {
		case <-changed:
		case <-dead.C:
			return errUnavailable
		case <-l.ctx.Done():
			return errClosed
		}
	}
}

// sleep reports whether the link is still there afterwards.
func (l *Link) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}
