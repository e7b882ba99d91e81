package serve

import (
	"net/http"
	"net/http/pprof"
)

// Profile serves Go's profiles below /debug/pprof/ to an Admin. The process's command line is left out: a token may be in it.
func Profile(mux *http.ServeMux, admin Admin) {
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/profile": pprof.Profile, "/debug/pprof/trace": pprof.Trace, "/debug/pprof/symbol": pprof.Symbol,
		"/debug/pprof/cmdline": http.NotFound,
	} {
		mux.Handle("GET "+path, admin.Only(handler))
	}
}
