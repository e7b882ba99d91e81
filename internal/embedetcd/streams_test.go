package embedetcd

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// fakeStream is a stream of a client that stays.
type fakeStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s fakeStream) Context() context.Context { return s.ctx }

// The end is that of the server's life: the stream's own context goes on, as that of a worker's renewals would.
func TestStreamsEndWithTheServer(t *testing.T) {
	server := &Server{}
	server.life, server.end = context.WithCancel(t.Context())
	stream := fakeStream{ctx: t.Context()}
	refused := errors.New("refused")
	if err := server.untilClosed(nil, stream, nil, func(any, grpc.ServerStream) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a stream that ends by itself ends with %v", err)
	}
	watching := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- server.untilClosed(nil, stream, nil, func(_ any, stream grpc.ServerStream) error {
			close(watching)
			<-stream.Context().Done()
			return stream.Context().Err()
		})
	}()
	<-watching
	server.end()
	if err := <-ended; !errors.Is(err, rpctypes.ErrGRPCStopped) {
		t.Errorf("the client is told %v", err)
	}
	if options := server.config(Options{}).GRPCAdditionalServerOptions; len(options) != 1 {
		t.Errorf("etcd is given %d options", len(options))
	}
}
