package embedetcd

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// untilClosed has a stream end when the server is closed. Watches and lease renewals never end by themselves, and etcd would wait for
// them for seconds, in which it serves nobody.
func (s *Server) untilClosed(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	err := handle(service, endingStream{stream, ctx})
	if s.life.Err() != nil {
		return rpctypes.ErrGRPCStopped // clients try again after that; not after a cancelled context, which would be their own
	}
	return err
}

// endingStream is a stream with a context that ends earlier.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is part of grpc.ServerStream.
func (s endingStream) Context() context.Context { return s.ctx }
