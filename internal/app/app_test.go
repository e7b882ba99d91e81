package app

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/muster-gateway/muster/coordinator"
	"github.com/muster-gateway/muster/internal/config"
	"github.com/muster-gateway/muster/worker"
)

// clean hides the machine's own configuration from a test.
func clean(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		for _, prefix := range []string{"DISCORD_", "ETCD_", "REDIS_", "MUSTER_"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "") // so that it comes back
				os.Unsetenv(name)
			}
		}
	}
	t.Setenv("DISCORD_TOKEN", "the-secret-token")
}

// TestBadInput has what people get wrong: each is named in one line, and ends the process with code 2.
func TestBadInput(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	none := filepath.Join(t.TempDir(), "none")
	both := []func([]string) int{Worker, Coordinator}
	worker, coordinator := both[:1], both[1:]
	for _, c := range []struct {
		name string
		of   []func([]string) int
		env  string // NAME=value
		args []string
		want string
	}{
		{"unknown flag", both, "", []string{"--colour"}, "--colour"},
		{"argument", both, "", []string{"extra"}, "extra"},
		{"no token", both, "DISCORD_TOKEN=", nil, "DISCORD_TOKEN"},
		{"two tokens in one", both, "DISCORD_TOKEN=the-secret-token again", nil, "white space"},
		{"no token file", both, "DISCORD_TOKEN=", []string{"--discord-token-file", none}, "DISCORD_TOKEN_FILE"},
		{"no password file", both, "ETCD_PASSWORD_FILE=" + none, nil, "ETCD_PASSWORD_FILE"},
		{"no admin token file", both, "MUSTER_ADMIN_TOKEN_FILE=" + none, nil, "MUSTER_ADMIN_TOKEN_FILE"},
		{"user of etcd without a password", both, "ETCD_USERNAME=muster", nil, "ETCD_PASSWORD_FILE"},
		{"user of etcd with an empty password", both, "ETCD_USERNAME=muster", []string{"--etcd-password-file", os.DevNull}, "something in the file"},
		{"certificate without a key", both, "ETCD_CERT=" + none, nil, "and its key"},
		{"no CA", both, "ETCD_CA=" + none, nil, "etcd CA"},
		{"cluster name", both, "MUSTER_CLUSTER=a/b", nil, "cluster name"},
		{"address", both, "MUSTER_LISTEN=nowhere", nil, "MUSTER_LISTEN"},
		{"address in use", both, "MUSTER_LISTEN=" + taken.Addr().String(), nil, "MUSTER_LISTEN"},
		{"log level", both, "MUSTER_LOG_LEVEL=loud", nil, "log-level"},

		{"shards below zero", coordinator, "MUSTER_SHARDS=-1", nil, "MUSTER_SHARDS"},
		{"more shards than there can be", coordinator, "MUSTER_SHARDS=200001", nil, "MUSTER_SHARDS"},
		{"reshard above all", coordinator, "MUSTER_RESHARD_AT=101", nil, "MUSTER_RESHARD_AT"},
		{"reshard below zero", coordinator, "MUSTER_RESHARD_AT=-1", nil, "MUSTER_RESHARD_AT"},
		{"shards not a number", coordinator, "MUSTER_SHARDS=many", nil, "shards"},

		{"two etcds", coordinator, "ETCD_ENDPOINTS=127.0.0.1:2379", []string{"--embed-etcd", t.TempDir()}, "MUSTER_EMBED_ETCD and ETCD_ENDPOINTS exclude"},
		{"two etcds, one with a user", coordinator, "ETCD_USERNAME=muster", []string{"--embed-etcd", t.TempDir()}, "MUSTER_EMBED_ETCD and ETCD_USERNAME exclude"},
		{"etcd's directory", coordinator, "MUSTER_EMBED_ETCD=/dev/null", nil, "MUSTER_EMBED_ETCD"},
		{"etcd's address in use", coordinator, "MUSTER_EMBED_ETCD_LISTEN=" + taken.Addr().String(), []string{"--embed-etcd", t.TempDir()}, "MUSTER_EMBED_ETCD"},

		{"zone", worker, "MUSTER_ZONE=a b", nil, "MUSTER_ZONE"},
		{"capacity", worker, "MUSTER_CAPACITY=0", nil, "MUSTER_CAPACITY"},
		{"capacity not a number", worker, "MUSTER_CAPACITY=500m", nil, "capacity"},
		{"intents", worker, "DISCORD_INTENTS=GUILD_DREAMS", nil, "DISCORD_INTENTS"},
		{"events", worker, "MUSTER_EVENTS=message_create", nil, "MUSTER_EVENTS"},
		{"age", worker, "MUSTER_STREAM_MAXAGE=5s", nil, "MUSTER_STREAM_MAXAGE"},
		{"age below zero", worker, "MUSTER_STREAM_MAXAGE=-1h", nil, "MUSTER_STREAM_MAXAGE"},
		{"presence", worker, "DISCORD_PRESENCE=online", nil, "DISCORD_PRESENCE"},
		{"presence too large", worker, `DISCORD_PRESENCE={"status":"online","activities":[{"name":"` + strings.Repeat("x", 4000) + `"}]}`, nil, "DISCORD_PRESENCE"},
		{"large threshold", worker, "DISCORD_LARGE_THRESHOLD=49", nil, "DISCORD_LARGE_THRESHOLD"},
		{"capabilities", worker, "DISCORD_CAPABILITIES=-1", nil, "DISCORD_CAPABILITIES"},
		{"compression", worker, "MUSTER_COMPRESSION=lzma", nil, "compression"},
		{"TTL too short", worker, "MUSTER_LEASE_TTL=1s", nil, "MUSTER_LEASE_TTL"},
		{"TTL without unit", worker, "MUSTER_LEASE_TTL=10", nil, "lease-ttl"},
		{"mode without etcd", worker, "MUSTER_ETCD_AWAY=panic", nil, "etcd-away"},
		{"no entries kept", worker, "MUSTER_STREAM_MAXLEN=0", nil, "MUSTER_STREAM_MAXLEN"},
		{"worker id", worker, "MUSTER_WORKER_ID=a b", nil, "MUSTER_WORKER_ID"},
		{"zone", worker, "MUSTER_ZONE=a b", nil, "MUSTER_ZONE"},
		{"no capacity", worker, "MUSTER_CAPACITY=0", nil, "MUSTER_CAPACITY"},
		{"absurd capacity", worker, "MUSTER_CAPACITY=1001", nil, "MUSTER_CAPACITY"},
		{"negative limit", worker, "MUSTER_MAX_SHARDS=-1", nil, "MUSTER_MAX_SHARDS"},
		{"redis without its CA", worker, "REDIS_URL=rediss://user:the-secret-token@host?ca=" + none, nil, "ca: no such file"},
		{"redis with a CA for no TLS", worker, "REDIS_URL=redis://user:the-secret-token@host?ca=" + os.DevNull, nil, "rediss://"},
		{"redis scheme", worker, "REDIS_URL=http://user:the-secret-token@host", nil, "redis url"},
		{"redis password with a slash", worker, "REDIS_URL=redis://user:the-secret-token/%zz@host", nil, "redis url"},
	} {
		for _, run := range c.of {
			t.Run(c.name, func(t *testing.T) {
				clean(t)
				t.Setenv("MUSTER_LISTEN", "127.0.0.1:0")
				if name, value, ok := strings.Cut(c.env, "="); ok {
					t.Setenv(name, value)
				}
				code, said := stderr(t, func() int { return run(c.args) })
				if code != 2 {
					t.Errorf("exit code %d", code)
				}
				if strings.Count(said, "\n") != 1 || !strings.Contains(said, c.want) || !strings.Contains(said, "--help") {
					t.Errorf("want one line about %s, got %q", c.want, said)
				}
				if strings.Contains(said, "the-secret-token") {
					t.Errorf("it prints the secret: %q", said)
				}
			})
		}
	}
}

// What an operator configures reaches what it is meant for.
func TestOperatorsOptions(t *testing.T) {
	clean(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("an-admin-token-of-some-length"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, strict := range map[string]bool{"continue": false, "strict": true} {
		var cli config.Worker
		if code, ok := config.Parse("worker", "", &cli, []string{"--etcd-away", mode, "--admin-token-file", file}); !ok {
			t.Fatalf("exit code %d", code)
		}
		cfg := worker.Config{LeaseTTL: cli.LeaseTTL, StreamMaxLen: cli.MaxLen, Logger: hclog.NewNullLogger()}
		if err := checkWorker(&cfg, cli); err != nil || cfg.Strict != strict || cfg.AdminToken != "an-admin-token-of-some-length" {
			t.Errorf("%s: strict %v, admin token of %d characters, %v", mode, cfg.Strict, len(cfg.AdminToken), err)
		}
	}
	var cli config.Coordinator
	if code, ok := config.Parse("coordinator", "", &cli, []string{"--admin-token-file", file}); !ok {
		t.Fatalf("exit code %d", code)
	}
	var cfg coordinator.Config
	if err := checkCoordinator(&cfg, cli); err != nil || cfg.AdminToken != "an-admin-token-of-some-length" {
		t.Errorf("coordinator: admin token of %d characters, %v", len(cfg.AdminToken), err)
	}
}

// stderr is what do returns, and what it prints as an error.
func stderr(t *testing.T, do func() int) (int, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stderr
	os.Stderr = w
	defer func() { os.Stderr = before }()
	printed := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		printed <- string(text)
	}()
	code := do()
	w.Close()
	return code, <-printed
}
