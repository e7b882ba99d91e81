package app

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestCheck asks for the health of what listens, as a container's health check does: with the configuration of the process it asks.
func TestCheck(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			http.Error(w, "etcd was not read yet", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	listen := server.Listener.Addr().String()
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		t.Fatal(err)
	}
	const nobody = "127.0.0.1:1" // where only root could listen
	for _, test := range []struct {
		listen, probe string
		code          int
		want          string
	}{
		{listen, "healthz", 0, ""},
		{":" + port, "healthz", 0, ""},
		{"0.0.0.0:" + port, "healthz", 0, ""},
		{listen, "readyz", 1, "503 Service Unavailable: etcd was not read yet"},
		{nobody, "healthz", 1, "refused"},
		{listen, "metrics", 2, "--check"},
	} {
		for name, run := range map[string]func([]string) int{"worker": Worker, "coordinator": Coordinator} {
			clean(t)
			t.Setenv("DISCORD_TOKEN", "") // a check needs no token
			t.Setenv("MUSTER_LISTEN", test.listen)
			t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
			code, said := stderr(t, func() int { return run([]string{"--check", test.probe}) })
			if code != test.code || !strings.Contains(said, test.want) || (code == 0) != (said == "") {
				t.Errorf("%s --check %s at %s: code %d, %q", name, test.probe, test.listen, code, said)
			}
		}
	}
}
