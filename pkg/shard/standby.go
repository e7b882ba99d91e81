package shard

import (
	"context"
	"fmt"
	"sync"
)

// Standby is a connection that is opened before this process may speak for the shard: past HELLO it sends the heartbeats that
// Discord asks for, and nothing else. A [Session] that is given it ([Config.Standby]) has only its RESUME left to send. A standby needs
// to know neither the session nor the token.
//
// Discord does not say how long it bears with a connection that does not identify. When it ends one, the session dials.
type Standby struct {
	url     string
	bearer  *Session // stands in for the session to come, and never speaks
	gate    func(context.Context) error
	greeted chan struct{}
	offer   chan *conn
	ended   chan struct{} // closed when Run returns
}

// NewStandby makes a standby for a session with such a configuration, of which ID, Compression and GatewayURL count and, if they are
// set, Gate, Logger, DialContext, TLSConfig and MaxMessageBytes. resumeURL is that of the session to be resumed; if it cannot be used
// GatewayURL is. The error names the field that is wrong.
func NewStandby(cfg Config, resumeURL string) (*Standby, error) {
	cfg = cfg.withDefaults()
	if err := checkGatewayURL(cfg.GatewayURL); err != nil {
		return nil, fmt.Errorf("standby config: field GatewayURL: %w", err)
	}
	if _, err := ParseCompression(string(cfg.Compression)); err != nil {
		return nil, fmt.Errorf("standby config: field Compression: %w", err)
	}
	b := &Standby{url: cfg.GatewayURL, gate: cfg.Gate, greeted: make(chan struct{}), offer: make(chan *conn), ended: make(chan struct{})}
	if usable(resumeURL, cfg.GatewayURL) {
		b.url = resumeURL
	}
	var once sync.Once
	cfg.Observe = func(s Status) {
		if s.State == StateAsking {
			once.Do(func() { close(b.greeted) })
		}
	}
	cfg.Gate = func(ctx context.Context) error { // leave to speak never comes
		<-ctx.Done()
		return context.Cause(ctx)
	}
	b.bearer = newSession(cfg)
	b.bearer.history.held = true // a permit to IDENTIFY is not to be asked for either
	b.bearer.unpack = newInflater(cfg.Compression)
	return b, nil
}

// Run waits for the gate, connects, and keeps the connection until a session takes it or ctx ends, and then returns nil; or until
// it fails, and then returns why. It must be called, and only once.
func (b *Standby) Run(ctx context.Context) error {
	defer close(b.ended)
	err := b.keep(ctx)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("standby of shard %s: %w", b.bearer.cfg.ID, err)
}

func (b *Standby) keep(ctx context.Context) error {
	if err := b.gate(ctx); err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	sock, err := dial(ctx, &b.bearer.cfg, b.url)
	if err != nil {
		return err
	}
	c := newConn(b.bearer, sock)
	c.begin(ctx)
	if taken := c.loop(ctx, b.offer); taken {
		return nil
	}
	o := c.finish(ctx)
	return fmt.Errorf("connection ended: %s (code %d)", ruleFor(o.cause, o.code).text, o.code)
}

// Greeted is closed when HELLO has come: the connection is as good as it gets.
func (b *Standby) Greeted() <-chan struct{} { return b.greeted }

// fits says whether the connection is one that the session would open now.
func (b *Standby) fits(s *Session) bool {
	return b.url == s.target() && b.bearer.cfg.Compression == s.cfg.Compression
}

// take takes the connection, once it is open; nil if it never will be, or is no more, or ctx ends.
func (b *Standby) take(ctx context.Context) *conn {
	select {
	case c := <-b.offer:
		return c
	case <-b.ended:
	case <-ctx.Done():
	}
	return nil
}
