package shard

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// standing is a standby that runs, with its peer, and the session that may take it.
type standing struct {
	*rig
	standby *Standby
	cancel  context.CancelFunc
	ended   chan error
}

// stand starts a standby for the session that start would start. change may be nil.
func stand(t *testing.T, change func(*Config)) *standing {
	t.Helper()
	s := &standing{rig: &rig{peer: newPeer(t), done: make(chan error, 1)}, ended: make(chan error, 1)}
	cfg := s.config(change)
	cfg.Deliver, cfg.Token = nil, "" // it needs neither
	cfg.Identifier = identifier(func(context.Context) (Permit, error) {
		t.Error("a standby asks for a permit")
		return Permit{}, nil
	})
	var err error
	if s.standby, err = NewStandby(cfg, "ws://resume.test"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { s.ended <- s.standby.Run(ctx) }()
	return s
}

func (s *standing) config(change func(*Config)) Config {
	cfg := Config{
		ID: ID{3, 16}, Token: "token-secret", GatewayURL: "ws://base.test", Compression: CompressionNone,
		Identifier: always, Deliver: s.deliver, DialContext: s.dial,
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// resume starts the session.
func (s *standing) resume(change func(*Config)) {
	s.t.Helper()
	cfg := s.config(change)
	cfg.Standby = s.standby
	if cfg.Store == nil {
		store := new(MemoryStore)
		_ = store.save(cfg.ID, Resume{SessionID: "session-secret", URL: "ws://resume.test", Seq: 5})
		cfg.Store = store
	}
	session, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.session = session
	ctx, cancel := context.WithCancelCause(context.Background())
	s.rig.cancel = cancel
	go func() { s.done <- session.Run(ctx) }()
}

// finish ends standby and session, which must have found nothing wrong.
func (s *standing) finish() {
	s.t.Helper()
	if s.rig.cancel != nil {
		if err := s.stop(nil); err != nil {
			s.t.Errorf("the session ended with %v", err)
		}
	}
	s.cancel()
	if err := <-s.ended; err != nil {
		s.t.Errorf("the standby ended with %v", err)
	}
}

// A standby sends heartbeats and nothing else, for as long as Discord lets it, and the session goes on where it is: the next thing
// on the wire is RESUME, with what compression and limits have come to.
func TestStandby(t *testing.T) {
	for _, compression := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
		t.Run(string(compression), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				change := func(cfg *Config) { cfg.Compression = compression }
				s := stand(t, change)
				c := s.next()
				if c.host != "resume.test" {
					t.Errorf("it dials %s", c.host)
				}
				select {
				case <-s.standby.Greeted():
					t.Error("greeted before HELLO")
				default:
				}
				c.hello()
				<-s.standby.Greeted()
				time.Sleep(10*interval + interval/2)
				c.silent()
				if beats := c.beats.Load(); beats < 10 || beats > 11 || c.lastBeat.Load() != "null" {
					t.Errorf("%d heartbeats, the last with %v", beats, c.lastBeat.Load())
				}
				s.resume(change)
				c.expectResume("session-secret", 5)
				c.dispatch(6, "X", `{"a":1}`)
				c.dispatch(7, "RESUMED", `{}`)
				time.Sleep(2 * interval)
				if want := []string{`6 X {"a":1}`, "7 RESUMED {}"}; !slices.Equal(s.seen(), want) {
					t.Errorf("delivered %v", s.seen())
				}
				if beats := c.beats.Load(); beats < 12 || c.lastBeat.Load() != "7" {
					t.Errorf("%d heartbeats, the last with %v", beats, c.lastBeat.Load())
				}
				if st := s.session.Status(); st.State != StateLive || st.Connects != 1 || st.Resumes != 1 {
					t.Errorf("status %+v", st)
				}
				s.finish()
				if code := c.expectClose(); code != closeResumable {
					t.Errorf("closed with %d", code)
				}
			})
		})
	}
}

// A session that needs the connection while it still comes about waits for it.
func TestStandbyOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := make(chan struct{})
		s := stand(t, func(cfg *Config) { cfg.Gate = onceOpen(way) })
		s.resume(nil)
		time.Sleep(time.Second)
		if len(s.opened) > 0 {
			t.Fatal("the session dials")
		}
		close(way)
		c := s.next()
		time.Sleep(time.Second)
		c.silent()
		c.hello()
		c.expectResume("session-secret", 5)
		s.finish()
	})
}

// Neither the standby dials nor the session speaks before the gate is open.
func TestStandbyAndTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := make(chan struct{}), make(chan struct{})
		s := stand(t, func(cfg *Config) { cfg.Gate = onceOpen(first) })
		time.Sleep(time.Minute)
		if len(s.opened) > 0 {
			t.Fatal("the standby dials")
		}
		close(first)
		c := s.next()
		c.hello()
		asked := 0
		s.resume(func(cfg *Config) {
			cfg.Gate = func(ctx context.Context) error {
				if asked++; asked == 1 { // before the dial
					return nil
				}
				return onceOpen(second)(ctx)
			}
		})
		time.Sleep(time.Minute)
		c.silent()
		if state := s.session.Status().State; state != StateAsking {
			t.Errorf("the session is %s", state)
		}
		close(second)
		c.expectResume("session-secret", 5)
		s.finish()
	})
}

// onceOpen is a gate that opens when the channel is closed.
func onceOpen(way <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-way:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// The heartbeats that a standby sent because Discord asked for them count against the connection's limit.
func TestStandbyKeepsTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stand(t, nil)
		c := s.next()
		c.hello()
		<-s.standby.Greeted()
		for range 2 * sendLimit {
			c.send(`{"t":null,"s":null,"op":1,"d":null}`)
		}
		synctest.Wait()
		s.resume(nil)
		c.expectResume("session-secret", 5)
		c.dispatch(6, "RESUMED", `{}`)
		sent := make(chan error, 1)
		go func() { sent <- s.session.Send(context.Background(), RequestSoundboardSounds{GuildIDs: []uint64{1}}) }()
		time.Sleep(time.Second)
		c.silent()
		c.expect(31)
		if err := <-sent; err != nil {
			t.Error(err)
		}
		s.finish()
	})
}

// A standby that is of no use is passed over: the session dials.
func TestStandbyOfNoUse(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*standing, *peerConn)
		change  func(*Config) // of the session
		fails   bool          // the standby says why
	}{
		"closed by discord":  {func(_ *standing, c *peerConn) { c.close(4000) }, nil, true},
		"cut":                {func(_ *standing, c *peerConn) { c.cut() }, nil, true},
		"asked to reconnect": {func(_ *standing, c *peerConn) { c.send(`{"t":null,"s":null,"op":7,"d":null}`) }, nil, true},
		"invalid session":    {func(_ *standing, c *peerConn) { c.send(`{"t":null,"s":null,"op":9,"d":false}`) }, nil, true},
		"a dispatch":         {func(_ *standing, c *peerConn) { c.dispatch(6, "X", `{}`) }, nil, true},
		"heartbeats not answered": {func(_ *standing, c *peerConn) {
			c.ack.Store(false)
			time.Sleep(3 * interval)
		}, nil, true},
		"ended by its owner":  {func(s *standing, _ *peerConn) { s.cancel() }, nil, false},
		"another compression": {nil, func(cfg *Config) { cfg.Compression = CompressionZlib }, false},
		"another url":         {nil, func(cfg *Config) { cfg.Store = elsewhere() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stand(t, nil)
				first := s.next()
				first.hello()
				<-s.standby.Greeted()
				if c.happens != nil {
					c.happens(s, first)
				}
				synctest.Wait()
				s.resume(c.change)
				second := s.next()
				second.hello()
				second.expect(opResume)
				if err := s.stop(nil); err != nil {
					t.Error(err)
				}
				s.cancel()
				if err := <-s.ended; (err != nil) != c.fails {
					t.Errorf("the standby ended with %v", err)
				}
				if code := first.expectClose(); code == closeEndSession { // nothing was sent on it
					t.Errorf("closed with %d", code)
				}
			})
		})
	}
}

// elsewhere has a session that is to be resumed at another URL than the standby's.
func elsewhere() Store {
	store := new(MemoryStore)
	_ = store.save(ID{3, 16}, Resume{SessionID: "session-secret", URL: "ws://elsewhere.test", Seq: 5})
	return store
}

// A connection that broke is followed by an ordinary one, however it began.
func TestAfterStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stand(t, nil)
		c := s.next()
		c.hello()
		s.resume(nil)
		c.expectResume("session-secret", 5)
		c.dispatch(6, "RESUMED", `{}`)
		c.cut()
		again := s.next()
		again.hello()
		again.expectResume("session-secret", 6)
		s.finish()
	})
}

func TestStandbyCannotConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stand(t, func(cfg *Config) {
			cfg.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") }
		})
		if err := <-s.ended; err == nil || !strings.Contains(err.Error(), "no way") {
			t.Errorf("got %v", err)
		}
		s.ended <- nil
		s.resume(nil)
		c := s.next()
		c.hello()
		c.expectResume("session-secret", 5)
		s.finish()
	})
}

func TestBadStandbyConfig(t *testing.T) {
	for want, cfg := range map[string]Config{
		"GatewayURL":  {GatewayURL: "http://x"},
		"Compression": {GatewayURL: "ws://x", Compression: "gzip"},
	} {
		if _, err := NewStandby(cfg, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
