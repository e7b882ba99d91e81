package coordinator

import (
	_ "embed"
	"net/http"
)

//go:embed page.html
var page []byte

// servePage serves the page a person watches the cluster on. It needs nothing but this coordinator.
func servePage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(page)
}
