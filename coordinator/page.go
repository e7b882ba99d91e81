package coordinator

import (
	"embed"
	"net/http"
)

// The page a person watches the cluster on. It needs nothing but this coordinator: no build step, nothing from elsewhere.
//
//go:embed page
var pageFiles embed.FS

// servePage serves the page's files: / and what it loads.
func servePage(mux *http.ServeMux) {
	for path, file := range map[string]struct{ name, kind string }{
		"/{$}":       {"index.html", "text/html; charset=utf-8"},
		"/page.css":  {"page.css", "text/css; charset=utf-8"},
		"/page.js":   {"page.js", "text/javascript; charset=utf-8"},
		"/grid.js":   {"grid.js", "text/javascript; charset=utf-8"},
		"/plots.js":  {"plots.js", "text/javascript; charset=utf-8"},
		"/orders.js": {"orders.js", "text/javascript; charset=utf-8"},
	} {
		body, err := pageFiles.ReadFile("page/" + file.name)
		if err != nil {
			panic("coordinator: " + err.Error()) // it is compiled in
		}
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", file.kind)
			h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
			h.Set("Cache-Control", "no-cache")
			w.Write(body)
		})
	}
}
