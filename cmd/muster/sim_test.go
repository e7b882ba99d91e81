package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// parseSim reads flags as the command line does.
func parseSim(t *testing.T, args ...string) *simCmd {
	t.Helper()
	var c cli
	if _, code, ok := config.ParseCommand("muster", "", &c, append([]string{"sim"}, args...)); !ok {
		t.Fatalf("muster sim %v: exit code %d", args, code)
	}
	return &c.Sim
}

// The flags' defaults are the package's, but for what the command says of itself.
func TestSimFlags(t *testing.T) {
	opts := parseSim(t).options()
	if opts.Privileged != discordsim.PrivilegedIntents || opts.Rate != 10 || opts.Guilds != 100 || opts.Record {
		t.Errorf("by default: %+v", opts)
	}
	opts = parseSim(t, "--guilds=0", "--privileged=none", "--record", "--session-limit=5", "--session-limit-used=2").options()
	if opts.Privileged != 0 || opts.Guilds != -1 || !opts.Record || opts.SessionLimit.Total != 5 || opts.SessionLimit.Used != 2 {
		t.Errorf("with flags: %+v", opts)
	}
	opts = parseSim(t, "--resume-while-live=share", "--acks-behind-backlog", "--allow=session thrown away,http rate").options()
	if u := opts.Unspecified; u.ResumeWhileLive != discordsim.ResumeShares || !u.AcksBehindBacklog || len(opts.Allow) != 2 {
		t.Errorf("with flags: %+v", opts)
	}
	if granted := privileged([]string{"members", "content"}); granted != discordsim.IntentGuildMembers|discordsim.IntentMessageContent {
		t.Errorf("members,content are %d", granted)
	}
}

// serveSim runs the command on loopback while do talks to it, and returns what it printed and how it ended.
func serveSim(t *testing.T, do func(base string), args ...string) (string, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var out strings.Builder
	ended := make(chan error, 1)
	go func() { ended <- parseSim(t, args...).serve(ctx, listener, &out) }()
	do("http://" + listener.Addr().String())
	stop()
	err = <-ended
	return out.String(), err
}

// connect makes a WebSocket handshake with a query, and reads until the server hangs up.
func connect(t *testing.T, base, query string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /?"+query+" HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	closed := make([]byte, 4096)
	for n := 0; err == nil && !strings.Contains(string(closed[:n]), "v must be"); {
		var more int
		more, err = conn.Read(closed[n:])
		n += more
	}
	if err != nil {
		t.Error(err)
	}
}

// With --strict what clients did wrong is said at the end, and is the exit code.
func TestSimStrict(t *testing.T) {
	said, err := serveSim(t, func(base string) { connect(t, base, "v=8") }, "--strict")
	if !errors.Is(err, errUnclean) || !strings.Contains(said, "violations: 1") || !strings.Contains(said, "connection 1, no shard yet: handshake: v must be 9 or 10") {
		t.Errorf("%v: %s", err, said)
	}
	said, err = serveSim(t, func(base string) { connect(t, base, "v=8") })
	if err != nil || strings.Contains(said, "violations") {
		t.Errorf("not strict: %v: %s", err, said)
	}
	said, err = serveSim(t, func(base string) {
		resp, err := http.Get(base + "/sim/v1/violations")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); string(body) != "[]\n" {
			t.Errorf("violations are %s", body)
		}
	}, "--strict")
	if err != nil || !strings.Contains(said, "no violations") {
		t.Errorf("nothing done: %v: %s", err, said)
	}
}

// The control API has no authentication and is served on loopback only.
func TestSimControlOnlyOnLoopback(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1": true, "::1": true, "0.0.0.0": false, "::": false, "192.0.2.1": false} {
		if got := onLoopback(&net.TCPAddr{IP: net.ParseIP(address)}); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

func TestSimBadInput(t *testing.T) {
	for _, args := range [][]string{
		{"sim", "--privileged", "everything"}, {"sim", "--allow", "everything", "--listen", "127.0.0.1:0"}, {"sim", "--shards", "-1", "--listen", "127.0.0.1:0"}, {"sim", "--listen", "nowhere"},
		{"sim", "--session-limit-used", "1001", "--listen", "127.0.0.1:0"}, {"sim", "--identify-window", "-1s", "--listen", "127.0.0.1:0"},
	} {
		if code := run(args); code != 2 {
			t.Errorf("muster %s: exit code %d, want 2", strings.Join(args, " "), code)
		}
	}
}
