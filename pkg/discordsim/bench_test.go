package discordsim

import (
	"context"
	"io"
	"testing"
	"time"
)

// BenchmarkEvents makes events and stores them in one session, without a socket.
func BenchmarkEvents(b *testing.B) {
	s, err := New(Options{Guilds: 1000})
	if err != nil {
		b.Fatal(err)
	}
	s.sessions = append(s.sessions, &session{total: 1, intents: AllIntents, replay: replay{maxEvents: 10_000, maxBytes: 16 << 20}})
	s.reroute()
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s.emit(&s.traffic.gen, now)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkDelivery makes events and sends them to 16 connections that read and throw away, over loopback. Making waits
// for delivery every so often, so that no connection lags.
func BenchmarkDelivery(b *testing.B) {
	for _, transport := range []string{"none", "zlib-stream", "zstd-stream"} {
		b.Run(transport, func(b *testing.B) {
			const shards = 16
			r := startTCP(b, Options{Guilds: 1600, Shards: shards, MaxConcurrency: shards, Privileged: PrivilegedIntents})
			for shard := range shards {
				c := r.dial(query(transport))
				c.decode = decoders[transport](b)
				c.login(shard, shards, AllIntents&^IntentGuilds)
				go func() {
					for {
						_, msg, err := c.ws.Reader(context.Background())
						if err != nil {
							return
						}
						if _, err := io.Copy(io.Discard, msg); err != nil {
							return
						}
					}
				}()
			}
			now, made := time.Now(), 0
			b.ResetTimer()
			for b.Loop() {
				r.emit(&r.traffic.gen, now)
				if made++; made%10_000 == 0 {
					r.delivered()
				}
			}
			r.delivered()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			if st := r.Stats(); st.Sessions != shards || st.Dispatched < int64(b.N) {
				b.Fatalf("stats: %+v", st)
			}
		})
	}
}

// delivered waits until every connection has been handed everything. It polls, so as not to slow down what is measured.
func (r *rig) delivered() {
	for _, sess := range r.sessions {
		_, newest := sess.position()
		for _, c := range sess.sockets() {
			for c.handed() < newest {
				time.Sleep(50 * time.Microsecond)
			}
		}
	}
}

func (c *conn) handed() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// BenchmarkEncode is the cost of one connection's compression.
func BenchmarkEncode(b *testing.B) {
	w := newWorld(Options{Guilds: 100})
	g := newGenerator(1, w)
	var events [][]byte
	for i := range 5000 {
		guild := w.guilds[i%len(w.guilds)]
		k, _ := g.pickKind(AllIntents, true)
		d := w.appendEvent(nil, event{k, guild, w.nextID(time.Now()), 1.78e12, g.rand.Uint64()}, true)
		events = append(events, appendDispatch(nil, k.name(), int64(i), d))
	}
	for _, transport := range []string{"zlib-stream", "zstd-stream"} {
		b.Run(transport, func(b *testing.B) {
			enc, err := newEncoder(transport)
			if err != nil {
				b.Fatal(err)
			}
			var in, out int
			for i := 0; b.Loop(); i++ {
				_, data, err := enc.encode(events[i%len(events)])
				if err != nil {
					b.Fatal(err)
				}
				in += len(events[i%len(events)])
				out += len(data)
			}
			b.ReportMetric(float64(in)/float64(out), "ratio")
		})
	}
}
