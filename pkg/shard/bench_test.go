package shard

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
)

// sampleMessages are dispatches of realistic shape and size, all different.
func sampleMessages(n int) [][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	words := []string{"hello", "the", "server", "quick", "\\\"quoted\\\"", "ok", "lol", "https://example.test/a/b", "naïve", "ready"}
	var out [][]byte
	for i := range n {
		var content bytes.Buffer
		for range 5 + rng.IntN(40) {
			content.WriteString(words[rng.IntN(len(words))])
			content.WriteByte(' ')
		}
		id := 1_000_000_000_000_000_000 + rng.Int64N(1e17)
		d := fmt.Sprintf(`{"type":0,"tts":false,"timestamp":"2026-11-23T12:%02d:%02d.000000+00:00","pinned":false,"nonce":"%d","mentions":[],`+
			`"member":{"roles":["%d","%d"],"premium_since":null,"nick":null,"mute":false,"joined_at":"2020-01-01T00:00:00+00:00","flags":0,"deaf":false},`+
			`"id":"%d","flags":0,"embeds":[],"edited_timestamp":null,"content":"%s","components":[],"channel_id":"%d",`+
			`"author":{"username":"user%d","public_flags":0,"id":"%d","global_name":"User","discriminator":"0","avatar":"%032x"},"attachments":[],"guild_id":"%d"}`,
			i/60%60, i%60, id+1, id+2, id+3, id, content.String(), id+4, i, id+5, id, id+6)
		out = append(out, fmt.Appendf(nil, `{"t":"MESSAGE_CREATE","s":%d,"op":0,"d":%s}`, i+2, d))
	}
	return out
}

func BenchmarkScan(b *testing.B) {
	messages := sampleMessages(1000)
	var total int
	for _, m := range messages {
		total += len(m)
	}
	b.SetBytes(int64(total / len(messages)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := scan(messages[i%len(messages)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkInflate is one message of a stream that is played again and again, with a reset each time round.
func BenchmarkInflate(b *testing.B) {
	messages := sampleMessages(5000)
	for _, c := range streams {
		b.Run(string(c), func(b *testing.B) {
			pack := packer(string(c))
			var packed [][]byte
			total := 0
			for _, m := range messages {
				packed = append(packed, bytes.Clone(pack(m)))
				total += len(m)
			}
			b.SetBytes(int64(total / len(messages)))
			b.ReportAllocs()
			in := newInflater(c)
			buf := make([]byte, 0, 256<<10)
			for i := 0; b.Loop(); i++ {
				if i%len(packed) == 0 {
					in.reset()
				}
				if _, _, err := in.inflate(buf, packed[i%len(packed)], DefaultMaxMessageBytes); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReadPath is one event from Discord's socket to Deliver, over net.Pipe. The time is that of both ends, with
// the peer's compression; the allocations are those of both ends too, and should be none.
func BenchmarkReadPath(b *testing.B) {
	for _, c := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
		b.Run(string(c), func(b *testing.B) {
			delivered := make(chan struct{})
			last := int64(b.N + 1)
			r := start(b, nil, func(cfg *Config) {
				cfg.Compression = c
				cfg.Deliver = func(_ context.Context, e Event) error {
					if e.Seq == last {
						close(delivered)
					}
					return nil
				}
			})
			conn := r.next()
			conn.hello()
			conn.expect(opIdentify)
			conn.ready("session-secret")
			d := sampleMessages(1)[0]
			d = d[bytes.Index(d, []byte(`"d":`)):]
			var message []byte
			b.ReportAllocs()
			b.SetBytes(int64(len(d)))
			b.ResetTimer()
			for seq := int64(2); seq <= last; seq++ {
				message = append(message[:0], `{"t":"MESSAGE_CREATE","s":`...)
				message = strconv.AppendInt(message, seq, 10)
				message = append(message, `,"op":0,`...)
				message = append(message, d...)
				conn.sendBytes(message)
			}
			if last > 1 {
				<-delivered
			}
			b.StopTimer()
			if err := r.stop(nil); err != nil {
				b.Fatal(err)
			}
		})
	}
}
