package shard

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"
)

// certificate is one for the peer, and a pool that trusts it. In a bubble the year is 2000.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"base.test", "resume.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, pool
}

// gated makes a session wait for the gate to open before its first dial, so that a test can prepare the peer.
func gated(gate <-chan struct{}, change func(*Config)) func(*Config) {
	return func(c *Config) {
		c.Gate = func(context.Context) error { <-gate; return nil }
		change(c)
	}
}

// TestTLS: a session over wss://, and two hosts that cannot be trusted, which cost time but no session.
func TestTLS(t *testing.T) {
	inBubble(t, "trusted", func(t *testing.T) {
		cert, pool := certificate(t)
		gate := make(chan struct{})
		r := start(t, nil, gated(gate, func(c *Config) { c.GatewayURL, c.TLSConfig = "wss://base.test", &tls.Config{RootCAs: pool} }))
		r.secure.Store(&tls.Config{Certificates: []tls.Certificate{cert}})
		close(gate)
		r.live()
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"untrusted", "not TLS at all"} {
		inBubble(t, name, func(t *testing.T) {
			cert, _ := certificate(t)
			gate := make(chan struct{})
			r := start(t, held, gated(gate, func(c *Config) { c.GatewayURL = "wss://base.test" }))
			if name == "untrusted" {
				r.secure.Store(&tls.Config{Certificates: []tls.Certificate{cert}})
			}
			close(gate)
			time.Sleep(10 * time.Minute)
			s := r.session.Status()
			if s.Connects != 0 || s.Lost != 0 || s.LastEnd != "could not connect" || s.State != StateWaiting && s.State != StateConnecting {
				t.Errorf("status %+v", s)
			}
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
			if got, ok := r.session.Resume(); !ok || got != *held {
				t.Errorf("resume point %s", got)
			}
		})
	}
}

// TestFragments: a message may come in as many WebSocket frames as Discord likes, and with zlib in several messages.
func TestFragments(t *testing.T) {
	const message = `{"t":"X","s":2,"op":0,"d":{"text":"in pieces"}}`
	for _, compression := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
		inBubble(t, string(compression), func(t *testing.T) {
			r := start(t, nil, func(c *Config) { c.Compression = compression })
			c := r.live()
			kind, packed := websocket.MessageText, []byte(message)
			if c.pack != nil {
				kind, packed = websocket.MessageBinary, c.pack(packed)
			}
			frames, err := c.ws.Writer(t.Context(), kind)
			if err != nil {
				t.Fatal(err)
			}
			for piece := range slices.Chunk(packed, 5) {
				if _, err := frames.Write(piece); err != nil {
					t.Fatal(err)
				}
			}
			if err := frames.Close(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := r.seen(); len(got) != 2 || got[1] != `2 X {"text":"in pieces"}` {
				t.Errorf("delivered %q", got)
			}
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMergedMessages: two gateway messages in one WebSocket message are nothing Discord sends. What follows the first would be
// lost if that were taken, so neither is.
func TestMergedMessages(t *testing.T) {
	for _, compression := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
		inBubble(t, string(compression), func(t *testing.T) {
			r := start(t, nil, func(c *Config) { c.Compression = compression })
			c := r.live()
			c.send(`{"t":"X","s":2,"op":0,"d":{}}{"t":"X","s":3,"op":0,"d":{}}`)
			if code := c.expectClose(); code != closeResumable {
				t.Errorf("closed with %d", code)
			}
			c = r.next()
			c.hello()
			c.expectResume("session-secret", 1)
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnknownThings: opcodes, fields and events that are newer than this package do no harm, and unknown events are delivered.
func TestUnknownThings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, nil, nil)
		c := r.live()
		c.send(`{"t":null,"s":null,"op":77,"d":{"new":true}}`)
		c.send(`{"op":0,"d":{"x":1},"new":[1,{"op":9}],"t":"MUCH_NEWER","s":2}`)
		c.send(`{"t":null,"s":null,"op":-1,"d":null}`)
		synctest.Wait()
		if got := r.seen(); len(got) != 2 || got[1] != `2 MUCH_NEWER {"x":1}` {
			t.Errorf("delivered %q", got)
		}
		if s := r.session.Status(); s.State != StateLive || s.Connects != 1 {
			t.Errorf("status %+v", s)
		}
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
	})
}

// TestEveryByteOfTheSocket cuts the connection after each byte of a conversation: whatever was cut through, the session is
// resumed after the last event that was whole, or identified anew if there was none.
func TestEveryByteOfTheSocket(t *testing.T) {
	var whole bytes.Buffer
	{
		// What the peer sends on one connection, with frames of its own making: unmasked text, below 126 bytes.
		for _, m := range []string{
			`{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":40000}}`,
			`{"t":"READY","s":1,"op":0,"d":{"session_id":"s","resume_gateway_url":"ws://resume.test"}}`,
			`{"t":"X","s":2,"op":0,"d":{}}`,
		} {
			whole.Write([]byte{0x81, byte(len(m))})
			whole.WriteString(m)
		}
	}
	ends := frameEnds(whole.Bytes())
	for cut := 1; cut <= whole.Len(); cut++ {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, nil, nil)
			c := r.next()
			c.sendRaw(t, whole.Bytes()[:min(cut, ends[0])])
			if cut >= ends[0] {
				c.expect(opIdentify)
				c.sendRaw(t, whole.Bytes()[ends[0]:cut])
			}
			synctest.Wait()
			c.cut()
			c = r.next()
			c.hello()
			switch {
			case cut >= ends[2]:
				c.expectResume("s", 2)
			case cut >= ends[1]:
				c.expectResume("s", 1)
			default:
				c.expect(opIdentify)
			}
			if err := r.stop(nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// frameEnds are the offsets after each frame of less than 126 bytes.
func frameEnds(b []byte) (ends []int) {
	for at := 0; at < len(b); {
		at += 2 + int(b[at+1])
		ends = append(ends, at)
	}
	return ends
}

// sendRaw writes bytes under the WebSocket, one at a time.
func (c *peerConn) sendRaw(t *testing.T, b []byte) {
	for i := range b {
		if _, err := c.raw.Write(b[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

// TestErrorsNameNoSecret: an upgrade that is refused is an error which says by whom, but not what was sent to it.
func TestErrorsNameNoSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		gate := make(chan struct{})
		r := start(t, held, gated(gate, func(c *Config) { c.Logger = hclog.New(&hclog.LoggerOptions{Output: &said, Level: hclog.Trace}) }))
		r.refuse.Store(1)
		close(gate)
		r.next()
		if err := r.stop(nil); err != nil {
			t.Error(err)
		}
		if text := said.String(); !strings.Contains(text, "resume.test") || !strings.Contains(text, "503") || strings.Contains(text, "secret") {
			t.Errorf("logged %s", text)
		}
	})
}
