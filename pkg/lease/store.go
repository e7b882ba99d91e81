package lease

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

// ErrFenced says that a transaction did nothing because the writer's right to it is gone: the range has another owner, the
// worker another incarnation, the leader another term, or the thing it was to change has changed. Whoever gets it
// must drop what it believed, never retry as is.
var ErrFenced = errors.New("fenced: what this write relied on is no longer so")

// requestTimeout bounds every single request to etcd. A request that takes longer has an unknown outcome.
const requestTimeout = 5 * time.Second

// Config says how to reach etcd and which cluster's keys to use.
type Config struct {
	Endpoints []string // host:port or URL, at least one
	Cluster   string   // keys are below /muster/<Cluster>/

	CAFile, CertFile, KeyFile string // PEM files; TLS is used when any is set
	Username, Password        string // both or none

	Logger hclog.Logger
}

// Store is one cluster's keys in etcd. It is safe for concurrent use.
type Store struct {
	client  *clientv3.Client
	keys    keys
	user    string // as configured
	log     hclog.Logger
	clock   func() time.Duration // sinceBoot, but for tests
	witness *witness
	relist  time.Duration // relistEvery, but for tests
	page    int64         // listPage, but for tests
	queue   *queue
}

// Open makes a Store. It does not wait for etcd to answer: see [Store.AwaitReady].
func Open(cfg Config) (*Store, error) {
	if err := ValidName(cfg.Cluster); err != nil {
		return nil, fmt.Errorf("cluster name: %w", err)
	}
	tlsConfig, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	logger := cfg.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	witness := newWitness(logger)
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  tlsConfig,
		Token:                cfg.noToken(),
		DialTimeout:          requestTimeout,
		DialKeepAliveTime:    10 * time.Second, // the shortest that gRPC allows; single requests have deadlines of their own
		DialKeepAliveTimeout: 2 * time.Second,
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(connectParams()), grpc.WithChainUnaryInterceptor(witness.unary, noteFailure), grpc.WithChainStreamInterceptor(witness.stream),
		},
		Logger: zap.NewNop(), // the client reports through its errors; its own log would repeat them in another form
	})
	if err != nil {
		return nil, fmt.Errorf("etcd client: %w", err)
	}
	client.Token, client.Username, client.Password = "", cfg.Username, cfg.Password
	s := assemble(client, cfg.Cluster, sinceBoot, witness, logger)
	s.user = cfg.Username
	return s, nil
}

// noToken is a token that etcd does not accept, if there is a user. The client asks for one when etcd says so; if it knew the user from
// the beginning it would ask while it is made, and there would be no client where etcd is away.
func (c Config) noToken() string {
	if c.Username == "" {
		return ""
	}
	return "none yet"
}

// NewStore makes a Store with a client of the caller's, which Close ends too. For how long a registration can be trusted is told by the
// clock, of which only differences count. It is for tests on virtual time, where CLOCK_BOOTTIME, which Open goes by, does not move; the
// cluster's name must be valid. A nil logger logs nothing. That etcd was restored from a backup only a Store of Open's notices by itself.
func NewStore(client *clientv3.Client, cluster string, clock func() time.Duration, logger hclog.Logger) *Store {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	return assemble(client, cluster, clock, newWitness(logger), logger)
}

func assemble(client *clientv3.Client, cluster string, clock func() time.Duration, witness *witness, logger hclog.Logger) *Store {
	return &Store{
		client: client, keys: newKeys(cluster), log: logger, clock: clock, witness: witness, relist: relistEvery, page: listPage, queue: newQueue(),
	}
}

// connectParams keeps the waits between attempts to connect short. gRPC's own grow to two minutes, so that a fleet would
// come back that much later than etcd.
func connectParams() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           grpcbackoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
		MinConnectTimeout: requestTimeout,
	}
}

func (c Config) tls() (*tls.Config, error) {
	if c.CAFile == "" && c.CertFile == "" && c.KeyFile == "" {
		return nil, nil
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("etcd client certificate: want the certificate and its key, or neither")
	}
	for _, endpoint := range c.Endpoints {
		if strings.HasPrefix(endpoint, "http://") { // to which the client would speak without TLS
			return nil, fmt.Errorf("etcd endpoint %s: want https:// or host:port, for TLS is configured", endpoint)
		}
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("etcd CA: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("etcd CA: %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("etcd client certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// Heard is when etcd last answered anything, for people. Who is registered or stands for election is answered some times within its TTL. It is zero
// before the first answer, and always with a Store of NewStore's.
func (s *Store) Heard() time.Time {
	s.witness.mu.Lock()
	defer s.witness.mu.Unlock()
	return s.witness.heard
}

// Close ends the connection. Leases go on in etcd until they expire or are revoked.
func (s *Store) Close() error { return s.client.Close() }

// tellEvery is how often a Store that waits for etcd says so.
const tellEvery = time.Minute

// AwaitReady blocks until etcd answers a linearizable read, so has a quorum, or until ctx ends. It says in the log
// when it has to wait and why, and when the wait is over. What waiting cannot mend it returns: a *DeniedError, or a *SchemaError, with which nothing but
// a later version of muster may go on.
func (s *Store) AwaitReady(ctx context.Context) error {
	retry := newRetry(10 * time.Second)
	var told time.Time
	for {
		err := s.checkAccess(ctx)
		if err == nil && !told.IsZero() {
			s.log.Warn("etcd answers again")
		}
		if err == nil || errors.As(err, new(*SchemaError)) || errors.As(err, new(*DeniedError)) {
			return err
		}
		if ctx.Err() == nil && time.Since(told) > tellEvery {
			s.log.Error("etcd unreachable; trying again", "endpoints", s.client.Endpoints(), "error", err)
			told = time.Now()
		}
		if err := sleep(ctx, retry.NextBackOff()); err != nil {
			return fmt.Errorf("await etcd: %w", err)
		}
	}
}

// commit runs one transaction that does its operations if every comparison holds, and returns the revision it made.
// It returns ErrFenced if a comparison failed. After any other error the outcome is unknown.
func (s *Store) commit(ctx context.Context, what string, cmps []clientv3.Cmp, ops ...clientv3.Op) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("%s: %w", what, ErrFenced)
	}
	return resp.Header.Revision, nil
}

// put is an operation that writes a record as JSON. Records are plain structs, whose encoding cannot fail.
func put(key string, record any, opts ...clientv3.OpOption) clientv3.Op {
	value, err := json.Marshal(record)
	if err != nil {
		panic(fmt.Sprintf("lease: encode %T: %v", record, err))
	}
	if record, ok := record.(interface{ kept() string }); ok {
		value = withUnknown(value, record.kept())
	}
	return clientv3.OpPut(key, string(value), opts...)
}

func created(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", revision)
}

// alive compares that an incarnation lives. Incarnation 0 is nobody's, and nobody never lives: to etcd, create revision 0
// would mean that there is no such key.
func alive(k keys, ref Ref) clientv3.Cmp {
	return created(k.worker(ref.Worker), cmp.Or(ref.Incarnation, noRevision))
}

// dead compares that an incarnation does not live.
func dead(k keys, ref Ref) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(k.worker(ref.Worker)), "!=", cmp.Or(ref.Incarnation, noRevision))
}

// owned compares that a range still has the fence that its owner was given with it, which is never 0.
func owned(k keys, r RangeID, fence int64) clientv3.Cmp {
	return modified(k.owner(r), cmp.Or(fence, noRevision))
}

// noRevision is a revision that no key has, and that the lack of one is not either.
const noRevision int64 = -1

func modified(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", revision)
}

// newRetry is exponential backoff from 100 ms with jitter; it never gives up.
func newRetry(limit time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond
	b.MaxInterval = limit
	return b
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
