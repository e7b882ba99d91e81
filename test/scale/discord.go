//go:build unix

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
)

// startDiscord stands in for Discord's REST API: all that the coordinator asks there is GET /gateway/bot.
func startDiscord(shards, maxConcurrency int) *httptest.Server {
	const plenty = 1 << 30
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"url": "ws://127.0.0.1:1", "shards": shards,
			"session_start_limit": map[string]int{"total": plenty, "remaining": plenty, "reset_after": 86_400_000, "max_concurrency": maxConcurrency},
		})
	}))
}
