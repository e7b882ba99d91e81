package lease

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// DeniedError says that etcd answers but does not let this process in, or not do what it has to. Only a person can mend that: it is not tried
// again while a process starts. Later on it is, as all that fails is.
type DeniedError struct {
	User   string // as configured; empty: none was
	Prefix string // of the keys that it has to read and write
	Err    error  // etcd's
}

// Error says what is wrong, in one line.
func (e *DeniedError) Error() string {
	who := "a client that gives no user's name"
	if e.User != "" {
		who = "user " + e.User
	}
	if errors.Is(e.Err, rpctypes.ErrPermissionDenied) {
		return fmt.Sprintf("etcd denies %s to read or write keys below %s: give it a role that may do both (%v)", who, e.Prefix, e.Err)
	}
	return fmt.Sprintf("etcd does not accept %s: check name and password (%v)", who, e.Err)
}

// Unwrap is etcd's error.
func (e *DeniedError) Unwrap() error { return e.Err }

// checkAccess makes sure that etcd can be used: it answers, what it holds is of a schema that we know, and we may read and write it.
func (s *Store) checkAccess(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var last failure
	err := s.checkSchema(last.watch(ctx))
	if err == nil {
		err = s.checkRights(ctx)
	}
	for _, denial := range []error{rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrPermissionDenied} {
		if errors.Is(err, denial) {
			return &DeniedError{s.user, s.keys.prefix, denial}
		}
	}
	if reason := last.reason(); errors.Is(err, context.DeadlineExceeded) && reason != "" {
		return fmt.Errorf("%w: %s", err, reason)
	}
	return err
}

// checkRights asks for the right to read and write by a transaction that does not write: etcd looks at what either of its branches takes. What else
// may be wrong with writing, as a lack of space is, will be told by what has to be written.
func (s *Store) checkRights(ctx context.Context) error {
	key := s.keys.schema()
	_, err := s.client.Txn(ctx).
		If(modified(key, noRevision)).
		Then(put(key, schemaRecord{Schema})).
		Else(clientv3.OpGet(s.keys.prefix, clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())).
		Commit()
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		return err
	}
	return nil
}

// failure is why the last attempt of a request failed. The client repeats a request until its context ends, and then says no more than that.
type failure struct{ text atomic.Pointer[string] }

type failureKey struct{}

// watch is ctx, for a request whose attempts are to be watched.
func (f *failure) watch(ctx context.Context) context.Context {
	return context.WithValue(ctx, failureKey{}, f)
}

func (f *failure) reason() string {
	if text := f.text.Load(); text != nil {
		return *text
	}
	return ""
}

// noteFailure is a grpc.UnaryClientInterceptor.
func noteFailure(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if f, ok := ctx.Value(failureKey{}).(*failure); ok && err != nil {
		text := status.Convert(err).Message()
		f.text.Store(&text)
	}
	return err
}
