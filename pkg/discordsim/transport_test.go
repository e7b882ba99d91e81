package discordsim

import (
	"bytes"
	"compress/zlib"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
)

// decoders make the client side of each transport.
var decoders = map[string]func(testing.TB) func(websocket.MessageType, []byte) []byte{
	"none": func(t testing.TB) func(websocket.MessageType, []byte) []byte {
		return func(kind websocket.MessageType, b []byte) []byte {
			if kind != websocket.MessageText {
				t.Errorf("uncompressed: a %v message", kind)
			}
			return b
		}
	},
	"zlib-stream": zlibDecoder,
	"zstd-stream": zstdDecoder,
}

func query(transport string) string {
	if transport == "none" {
		return jsonQuery
	}
	return jsonQuery + "&compress=" + transport
}

// In each transport one WebSocket message decodes to one gateway message; a resumed connection starts a new context and
// yields the same bytes.
func TestTransports(t *testing.T) {
	for name, decoder := range decoders {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Options{Guilds: 40, Rate: 400, Privileged: PrivilegedIntents, Record: true, Seed: 7})
				c := r.dial(query(name))
				c.decode = decoder(t)
				id := c.login(0, 1, AllIntents).SessionID
				var sent []string
				for range 500 {
					sent = append(sent, c.must().raw)
				}
				r.Pause()
				_ = c.ws.CloseNow()
				synctest.Wait()

				c = r.dialURL("http://sim.invalid" + resumePath + query(name))
				c.decode = decoder(t)
				c.want(10, "")
				c.send(resumeJSON(id, 1))
				for i, want := range sent {
					if got := c.must().raw; got != want {
						t.Fatalf("event %d is replayed as %s, was %s", i, got, want)
					}
				}
			})
		})
	}
}

// "compress" in IDENTIFY makes large messages binary, each of them a whole zlib stream.
func TestPayloadCompression(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 5})
		c := r.dial(jsonQuery)
		kinds := make(map[websocket.MessageType]int)
		c.decode = func(kind websocket.MessageType, b []byte) []byte {
			kinds[kind]++
			if kind == websocket.MessageText {
				return b
			}
			z, err := zlib.NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			b, err = io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		c.want(10, "")
		c.send(identifyWith(`"compress":true`))
		c.want(0, "READY")
		for range 5 {
			c.want(0, "GUILD_CREATE")
		}
		c.send(`{"op":1,"d":6}`)
		c.want(11, "")
		if kinds[websocket.MessageBinary] < 5 || kinds[websocket.MessageText] < 2 {
			t.Errorf("messages by kind: %v", kinds)
		}
	})
}

// Transport compression wins over payload compression.
func TestPayloadCompressionIsIgnoredUnderTransportCompression(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Options{Guilds: 5})
		c := r.dial(query("zlib-stream"))
		c.decode = zlibDecoder(t)
		c.want(10, "")
		c.send(identifyWith(`"compress":true`))
		c.want(0, "READY")
		time.Sleep(time.Second)
		c.want(0, "GUILD_CREATE")
	})
}
