//go:build !race

// disgo 0.19.4 and discordgo 0.29.0 have data races of their own (for one, disgo sets heartbeatCancel on one goroutine and
// reads it on another), which the race detector would report as ours. So this file is left out of race builds and must be
// run without -race as well.

package discordsim

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bwmarrin/discordgo"
	"github.com/disgoorg/disgo/gateway"
	gorilla "github.com/gorilla/websocket"
)

// Clients that nobody here wrote connect, lose their connection in several ways, resume, and in the end have every event
// of their session exactly once and in order.

// received is what a client got.
type received struct {
	mu     sync.Mutex
	events []Dispatched
	more   chan struct{} // there are new events
}

func newReceived() *received { return &received{more: make(chan struct{}, 1)} }

func (r *received) add(seq int64, eventType string, d []byte) {
	r.mu.Lock()
	r.events = append(r.events, Dispatched{seq, eventType, Sum(d)})
	r.mu.Unlock()
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// await blocks until the client has so many events of this type, or of any type if it is empty.
func (r *received) await(t *testing.T, eventType string, n int) {
	t.Helper()
	for r.count(eventType) < n {
		select {
		case <-r.more:
		case <-time.After(time.Minute):
			t.Fatalf("the client has %d events of type %q, want %d", r.count(eventType), eventType, n)
		}
	}
}

func (r *received) count(eventType string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, e := range r.events {
		if eventType == "" || e.Type == eventType {
			n++
		}
	}
	return n
}

// ordeal disturbs a client that has just connected, and then compares what it got with what it was sent.
func (r *rig) ordeal(t *testing.T, got *received) {
	t.Helper()
	got.await(t, "", 200)
	for i, disturb := range []func(int) int{
		r.Reconnect,
		r.Drop,
		func(shard int) int { return r.Disconnect(shard, CloseUnknownError) },
	} {
		if n := disturb(0); n != 1 {
			t.Errorf("disturbance %d reached %d sockets", i, n)
		}
		got.await(t, "RESUMED", i+1)
		// disgo starts its heartbeat beside the handshake and loses hold of it when disturbed before it runs.
		got.await(t, "", got.count("")+20)
	}
	r.Beat(0)
	got.await(t, "MESSAGE_CREATE", 100)
	r.Pause()

	logs := r.Sessions()
	if len(logs) != 1 {
		t.Fatalf("%d sessions", len(logs))
	}
	want := logs[0].Dispatches
	got.await(t, "", len(want))
	got.mu.Lock()
	defer got.mu.Unlock()
	if len(got.events) != len(want) {
		t.Fatalf("got %d events, sent %d", len(got.events), len(want))
	}
	for i, d := range want {
		if got.events[i] != d {
			t.Fatalf("event %d: got %+v, sent %+v", i, got.events[i], d)
		}
	}
	if st := r.Stats(); st.Identifies != 1 || st.Resumes != 3 || st.ResumesRefused != 0 {
		t.Errorf("stats: %+v", st)
	}
	if v := r.Violations(); len(v) != 0 {
		t.Errorf("violations: %+v", v)
	}
}

// dialer connects the WebSocket library disgo uses to the in-memory network.
func (r *rig) dialer() *gorilla.Dialer {
	transport := r.http.Transport.(*http.Transport)
	return &gorilla.Dialer{NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return transport.DialContext(ctx, network, addr)
	}}
}

func TestDisgo(t *testing.T) {
	for _, mode := range []gateway.CompressionType{
		gateway.CompressionNone, gateway.CompressionZlibPayload, gateway.CompressionZlibStream, gateway.CompressionZstdStream,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Guilds: 20, Rate: 40, Record: true, Privileged: PrivilegedIntents})
				got, messages := newReceived(), 0
				handle := func(_ gateway.Gateway, kind gateway.EventType, seq int, data gateway.EventData) {
					switch e := data.(type) {
					case gateway.EventRaw:
						d, err := io.ReadAll(e.Payload)
						if err != nil {
							t.Error(err)
						}
						got.add(int64(seq), string(e.EventType), d)
					case gateway.EventMessageCreate:
						if messages++; e.Content == "" || e.Author.Username == "" {
							t.Errorf("message %+v", e.Message)
						}
					}
				}
				g := gateway.New(DefaultToken, handle,
					gateway.WithURL("ws://sim.invalid"),
					gateway.WithDialer(r.dialer()),
					gateway.WithCompression(mode),
					gateway.WithIntents(gateway.IntentsAll),
					gateway.WithEnableRawEvents(true),
					gateway.WithLogger(slog.New(slog.DiscardHandler)),
				)
				if err := g.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				r.ordeal(t, got)
				if st := r.Stats(); st.ResumesOnBaseURL != 0 {
					t.Errorf("%d resumes missed resume_gateway_url", st.ResumesOnBaseURL)
				}
				g.Close(context.Background())
				synctest.Wait()
				if log := r.Sessions()[0]; log.Ended != EndClosed || messages < 100 {
					t.Errorf("session ended %q after %d messages", log.Ended, messages)
				}
			})
		})
	}
}

func TestDisgoIsToldItsTokenIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Token: "right"})
		r.OnMessage(func(*Message) bool {
			time.Sleep(time.Second) // disgo starts its heartbeat beside the IDENTIFY, and loses hold of it when refused before it runs
			return false
		})
		g := gateway.New("wrong", func(gateway.Gateway, gateway.EventType, int, gateway.EventData) {},
			gateway.WithURL("ws://sim.invalid"), gateway.WithDialer(r.dialer()), gateway.WithLogger(slog.New(slog.DiscardHandler)))
		var closed *gorilla.CloseError
		if err := g.Open(t.Context()); !errors.As(err, &closed) || closed.Code != int(CloseAuthenticationFailed) {
			t.Errorf("Open: %v", err)
		}
	})
}

// discordgo sleeps while it holds a lock that others want, which stops the clock of a synctest bubble. So this test alone
// runs on loopback and takes the seconds that discordgo takes.
func TestDiscordgo(t *testing.T) {
	for name, compress := range map[string]bool{"plain": false, "payload compression": true} {
		t.Run(name, func(t *testing.T) {
			r := startTCP(t, Options{Guilds: 20, Rate: 400, Record: true, Privileged: PrivilegedIntents})
			was := discordgo.EndpointGateway
			discordgo.EndpointGateway = r.base + "/api/v9/gateway"
			defer func() { discordgo.EndpointGateway = was }()

			s, err := discordgo.New("Bot " + DefaultToken)
			if err != nil {
				t.Fatal(err)
			}
			s.Identify.Intents = discordgo.IntentsAll
			s.Identify.Compress = compress
			s.SyncEvents = true
			s.LogLevel = -1
			got, messages := newReceived(), 0
			s.AddHandler(func(_ *discordgo.Session, e *discordgo.Event) {
				if e.Operation == 0 {
					got.add(e.Sequence, e.Type, e.RawData)
				}
			})
			s.AddHandler(func(_ *discordgo.Session, m *discordgo.MessageCreate) {
				if messages++; m.Content == "" || m.Author.Username == "" {
					t.Errorf("message %+v", m.Message)
				}
			})
			if err := s.Open(); err != nil {
				t.Fatal(err)
			}
			r.ordeal(t, got)
			if n := len(s.State.Guilds); n != 20 {
				t.Errorf("%d guilds", n)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if messages < 100 {
				t.Errorf("%d messages", messages)
			}
		})
	}
}
