package lease

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// ErrRestored says that etcd no longer has what it had told: it was restored from a backup, or is another cluster. All revisions after
// the backup, and with them fences, incarnations and terms, may be given out a second time. So whatever was begun before is
// over: registrations are lost, terms end, followers read everything again.
var ErrRestored = errors.New("etcd no longer has what it had told: it was restored from a backup, or is another cluster")

// witness remembers what etcd told, and notices when another answers in its place: by the id of the cluster, and by a revision below
// one that was seen before the question was asked. It looks at every answer (see unary and stream). It is safe for concurrent use.
type witness struct {
	log hclog.Logger

	// doubt has a value when some member was behind what we had seen. That may be all there is to it, or etcd was restored: whoever takes
	// the value has to ask a question whose answer tells.
	doubt chan struct{}

	mu    sync.Mutex
	now   account
	heard time.Time // when the last answer came
	era   string    // the last that was adopted
	old   string    // that of the account before, which must not be adopted
}

// account is what one etcd has told so far.
type account struct {
	life     context.Context // ends, with ErrRestored, when another answers
	end      context.CancelCauseFunc
	cluster  uint64 // 0: nothing was seen yet
	revision int64  // the highest seen
}

func newWitness(log hclog.Logger) *witness {
	return &witness{log: log, doubt: make(chan struct{}, 1), now: newAccount()}
}

func newAccount() account {
	life, end := context.WithCancelCause(context.Background())
	return account{life: life, end: end}
}

func (w *witness) look() account {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// life ends when etcd turns out to be restored. What is begun under it must not outlive it.
func (w *witness) life() context.Context { return w.look().life }

// answered takes note of the answer to what was asked when the account was as given. ErrRestored: what the asker knew is void.
// current says that the answer tells what etcd had at some moment after the question, as linearizable reads and transactions do.
func (w *witness) answered(asked account, header *pb.ResponseHeader, current bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.now
	w.heard = time.Now()
	switch {
	case asked.life.Err() != nil:
		return ErrRestored
	case was.cluster == 0, header.ClusterId == was.cluster && (!current || header.Revision >= asked.revision):
		w.now.cluster, w.now.revision = header.ClusterId, max(was.revision, header.Revision)
		return nil
	}
	w.log.Error("etcd was restored from a backup, or is another cluster: starting over",
		"revision", header.Revision, "seen", was.revision, "other-cluster", header.ClusterId != was.cluster)
	w.now, w.old = newAccount(), w.era
	w.now.cluster, w.now.revision = header.ClusterId, header.Revision
	was.end(ErrRestored)
	return ErrRestored
}

// suspect takes note of a member that is at a revision, which it should be if it is not slow.
func (w *witness) suspect(revision int64) {
	if revision >= w.look().revision {
		return
	}
	select {
	case w.doubt <- struct{}{}:
	default:
	}
}

// adopt takes an era that was read for the present one, and reports whether it can be: not if it is from before a restoration.
func (w *witness) adopt(era string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if era == w.old {
		return false
	}
	w.era = era
	return true
}

// headerOf is the header of an answer, nil if it has none that says which etcd it is from.
func headerOf(answer any) *pb.ResponseHeader {
	a, ok := answer.(interface{ GetHeader() *pb.ResponseHeader })
	if !ok || a.GetHeader().GetClusterId() == 0 {
		return nil
	}
	return a.GetHeader()
}

// unary is a grpc.UnaryClientInterceptor.
func (w *witness) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	asked := w.look()
	if err := invoke(ctx, method, req, reply, cc, opts...); err != nil {
		return err
	}
	header, current := headerOf(reply), false
	if header == nil {
		return nil
	}
	switch r := req.(type) {
	case *pb.TxnRequest:
		current = true
	case *pb.RangeRequest:
		current = !r.Serializable
	}
	return w.answered(asked, header, current)
}

// stream is a grpc.StreamClientInterceptor.
func (w *witness) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	asked := w.look()
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &witnessedStream{s, w, asked}, nil
}

type witnessedStream struct {
	grpc.ClientStream
	witness *witness
	asked   account
}

// RecvMsg ends the stream if etcd turns out to be restored. The events of a watch come after what other answers tell, and say nothing
// about that; its beginning and a renewed lease tell where their member is.
func (s *witnessedStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	header := headerOf(m)
	if header == nil {
		return nil
	}
	switch a := m.(type) {
	case *pb.LeaseKeepAliveResponse:
		s.witness.suspect(header.Revision)
	case *pb.WatchResponse:
		if a.Created {
			s.witness.suspect(header.Revision)
		}
	}
	return s.witness.answered(s.asked, header, false)
}
