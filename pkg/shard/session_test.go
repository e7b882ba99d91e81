package shard

import (
	"slices"
	"testing"
	"testing/synctest"
)

func TestSessionLives(t *testing.T) {
	for _, compression := range []Compression{CompressionNone, CompressionZlib, CompressionZstd} {
		t.Run(string(compression), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, nil, func(c *Config) { c.Compression = compression })
				c := r.live()
				c.dispatch(2, "MESSAGE_CREATE", `{"id":"1",  "content":"é\u0041"}`)
				synctest.Wait()
				want := []string{
					`1 READY {"v":10,"session_id":"","resume_gateway_url":"ws://resume.test"}`,
					`2 MESSAGE_CREATE {"id":"1",  "content":"é\u0041"}`,
				}
				if got := r.seen(); !slices.Equal(got, want) {
					t.Fatalf("delivered %q, want %q", got, want)
				}
				if err := r.stop(nil); err != nil {
					t.Fatal(err)
				}
				if code := c.expectClose(); code != closeResumable {
					t.Fatalf("closed with %d", code)
				}
				if got, ok := r.session.Resume(); !ok || got != (Resume{"session-secret", "ws://resume.test", 2}) {
					t.Fatalf("resume point %v", got)
				}
			})
		})
	}
}
