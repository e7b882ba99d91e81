package etcdmem

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// kvClient is etcd's KV service at the far end of a link.
type kvClient struct{ *Link }

func (c kvClient) Range(ctx context.Context, in *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	op := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: in}}
	resp, err := c.single(ctx, op)
	return resp.GetResponseRange(), err
}

func (c kvClient) Put(ctx context.Context, in *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: in}}
	resp, err := c.single(ctx, op)
	return resp.GetResponsePut(), err
}

func (c kvClient) DeleteRange(ctx context.Context, in *pb.DeleteRangeRequest, _ ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	op := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: in}}
	resp, err := c.single(ctx, op)
	return resp.GetResponseDeleteRange(), err
}

func (c kvClient) single(ctx context.Context, op *pb.RequestOp) (*pb.ResponseOp, error) {
	return call(ctx, c.Link, func() (*pb.ResponseOp, error) { return c.server.single(c.name, op) })
}

func (c kvClient) Txn(ctx context.Context, in *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	return call(ctx, c.Link, func() (*pb.TxnResponse, error) { return c.server.transact(c.name, in) })
}

func (c kvClient) Compact(ctx context.Context, in *pb.CompactionRequest, _ ...grpc.CallOption) (*pb.CompactionResponse, error) {
	return call(ctx, c.Link, func() (*pb.CompactionResponse, error) { return c.server.compact(in.Revision) })
}

func (c kvClient) RangeStream(context.Context, *pb.RangeRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error) {
	return nil, errNotHere
}

// leaseClient is etcd's Lease service at the far end of a link.
type leaseClient struct{ *Link }

func (c leaseClient) LeaseGrant(ctx context.Context, in *pb.LeaseGrantRequest, _ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return call(ctx, c.Link, func() (*pb.LeaseGrantResponse, error) { return c.server.grant(in) })
}

func (c leaseClient) LeaseRevoke(ctx context.Context, in *pb.LeaseRevokeRequest, _ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return call(ctx, c.Link, func() (*pb.LeaseRevokeResponse, error) { return c.server.revoke(c.name, in.ID) })
}

func (c leaseClient) LeaseTimeToLive(ctx context.Context, in *pb.LeaseTimeToLiveRequest, _ ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	return call(ctx, c.Link, func() (*pb.LeaseTimeToLiveResponse, error) { return c.server.timeToLive(in.ID) })
}

func (c leaseClient) LeaseLeases(context.Context, *pb.LeaseLeasesRequest, ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	return nil, errNotHere
}

func (c leaseClient) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], error) {
	return &renewals{ctx: ctx, link: c.Link, answers: make(chan renewal)}, nil
}

// renewals is a stream of renewals of leases. It ends with the first that fails.
type renewals struct {
	grpc.ClientStream // what the client does not call

	ctx     context.Context
	link    *Link
	answers chan renewal
}

type renewal struct {
	resp *pb.LeaseKeepAliveResponse
	err  error
}

func (r *renewals) Context() context.Context { return r.ctx }

func (r *renewals) CloseSend() error { return nil }

func (r *renewals) Send(in *pb.LeaseKeepAliveRequest) error {
	go func() {
		resp, err := call(r.ctx, r.link, func() (*pb.LeaseKeepAliveResponse, error) { return r.link.server.renew(in.ID) })
		select {
		case r.answers <- renewal{resp, err}:
		case <-r.ctx.Done():
		}
	}()
	return nil
}

func (r *renewals) Recv() (*pb.LeaseKeepAliveResponse, error) {
	select {
	case answer := <-r.answers:
		return answer.resp, answer.err
	case <-r.ctx.Done():
		return nil, r.ctx.Err()
	}
}
