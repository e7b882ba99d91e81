// Package serve runs an HTTP server the way every process of muster does.
package serve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// HTTP serves until ctx ends, then lets requests that are under way finish for a second, and returns nil. It closes the listener.
// Slow clients are cut off, and browsers are told what they must not do with the answers.
func HTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           guarded(handler),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    1 << 16,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(listener)
	if stop() { // it failed by itself
		return fmt.Errorf("serve http: %w", err)
	}
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// guarded sets the headers that keep an answer from being framed, sniffed, cached, or read by pages of other origins. A handler may set
// others of the kind.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// JSON answers with a value as indented JSON.
func JSON(w http.ResponseWriter, value any) { JSONStatus(w, http.StatusOK, value) }

// JSONStatus is JSON with another status.
func JSONStatus(w http.ResponseWriter, status int, value any) {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		http.Error(w, "the answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

// Health answers a probe: 200 and a word, "ok" if check has none; or 503 with the reason.
func Health(check func() (word string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		word, err := check()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, cmp.Or(word, "ok"))
	}
}

// Alive is the check of a process that needs only to answer.
func Alive() (string, error) { return "", nil }
