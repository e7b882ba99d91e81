package shard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// errDown is the cause of a context that [Cluster.Down] has ended.
var errDown = errors.New("the cluster was taken down")

// Cluster runs shards of a bot in one process and merges their events into one stream, [ClusterConfig.Deliver]. Make it with
// [NewCluster] and call [Cluster.Run], which is all that most programs need:
//
//	err := cluster.Run(ctx) // until ctx ends, or the bot is refused
//
// Those that want to do something else meanwhile take the same in steps: [Cluster.Up], and in the end [Cluster.Down], after
// which the sessions can be resumed, or [Cluster.End], after which they cannot. A cluster that is down may go up again, and
// resumes what its [Store] has. All methods may be called from any goroutine.
type Cluster struct {
	cfg    ClusterConfig
	log    hclog.Logger
	client *http.Client
	queue  *IdentifyQueue // the Identifier, unless the caller has one
	turn   chan struct{}  // held by the shard whose event is being delivered

	mu     sync.Mutex
	flight *flight // the present one or the last; nil before the first
}

// NewCluster checks the configuration and makes a cluster; it connects to nothing. The error names the field that is wrong.
func NewCluster(cfg ClusterConfig) (*Cluster, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("cluster config: %w", err)
	}
	c := &Cluster{client: newAPIClient(cfg.Shard.DialContext), turn: make(chan struct{}, 1)}
	if cfg.Shard.Identifier == nil {
		c.queue = NewIdentifyQueue(IdentifyLimits{})
		cfg.Shard.Identifier = c.queue
	}
	cfg.Shard = cfg.Shard.withDefaults()
	c.cfg, c.log = cfg, cfg.Shard.Logger.Named("cluster")
	return c, nil
}

// String says nothing of what is in it, since a Cluster holds the token.
func (c *Cluster) String() string { return "shard.Cluster" }

// GoString is String.
func (c *Cluster) GoString() string { return c.String() }

// Run is Up and, when the context ends, Down; or End, if the cause of that is [ErrEndSession]. It returns once all that it started
// has ended: nil then, or what took the cluster down before: see Wait.
func (c *Cluster) Run(ctx context.Context) error {
	f, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })()
	_ = c.launch(f) // f.err has it, unless it comes of our context
	<-f.done
	return f.err
}

// Up asks Discord how to connect and starts the shards. It returns when they are on their way; each is live when it had its turn to
// identify: see [Cluster.Sessions], or [ClusterConfig.Observe].
//
// Discord is asked again, with backoff, until the context ends, for as long as it cannot be reached or understood or answers with a
// status that passes, 429 or one from 500 on. Otherwise its refusal is returned: [ErrTokenRefused] or an [*APIError]. Once Up has
// returned nil, the context has no influence any more.
func (c *Cluster) Up(ctx context.Context) error {
	f, err := c.begin(ctx)
	if err != nil {
		return err
	}
	unbind := context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })
	err = c.launch(f)
	if !unbind() { // too late: the cluster goes down with the context
		<-f.done
		if err == nil {
			err = fmt.Errorf("cluster up: %w", context.Cause(ctx))
		}
	}
	return err
}

// Down closes the shards' sockets with a code that keeps the sessions, tells the [Store] where they stand, and returns when all
// has ended, or with an error when the context ends before that; then it goes on by itself. Its own error is Wait's.
func (c *Cluster) Down(ctx context.Context) error { return c.end(ctx, errDown) }

// End is Down for good: it ends the sessions of those shards that are connected, so that nobody can resume them. Discord shows
// the bot as offline at once.
func (c *Cluster) End(ctx context.Context) error { return c.end(ctx, ErrEndSession) }

func (c *Cluster) end(ctx context.Context, cause error) error {
	f := c.current()
	if f == nil {
		return nil
	}
	f.cancel(cause)
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("cluster is still going down: %w", ctx.Err())
	}
}

// Wait returns when the cluster is down. The error is nil if it was asked to go down, or never was up. Otherwise the first shard that
// failed took it down, the others resumably: a [*FatalError] if Discord refuses the shard, whatever its scope, or a callback's error.
func (c *Cluster) Wait() error {
	f := c.current()
	if f == nil {
		return nil
	}
	<-f.done
	return f.err
}

// Sessions returns the shards' sessions in order of their indices: for each its ID, its state and latency, and where it stands. They
// are those of the last Up, and nil before. To start them is for the cluster alone.
func (c *Cluster) Sessions() []*Session {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight == nil {
		return nil
	}
	return slices.Clone(c.flight.sessions)
}

// Session returns the session of a shard, if the cluster runs it.
func (c *Cluster) Session(index int) (*Session, bool) {
	for _, s := range c.Sessions() {
		if s.ID().Index == index {
			return s, true
		}
	}
	return nil, false
}

// ForGuild returns the session that gets a guild's events, if the cluster runs it.
func (c *Cluster) ForGuild(guild uint64) (*Session, bool) {
	sessions := c.Sessions()
	if len(sessions) == 0 {
		return nil, false
	}
	return c.Session(ForGuild(guild, sessions[0].ID().Total))
}
