package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSecretIsNotPrinted(t *testing.T) {
	const token, password = "the-secret-token", "redis://user:the-password@host"
	w := Worker{}
	w.Token, w.Redis.URL = token, password
	c := Coordinator{}
	c.Token = token
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, value := range []any{w, &w, c, &c, w.Discord, w.Token, w.Redis} {
			text := fmt.Sprintf(verb, value)
			if strings.Contains(text, "the-secret-token") || strings.Contains(text, "the-password") {
				t.Errorf("%s of %T prints a secret: %s", verb, value, text)
			}
		}
	}
	if s := Secret("").String(); s != "" {
		t.Errorf("no secret prints %q", s)
	}
}

func TestFlagWinsOverEnvironment(t *testing.T) {
	t.Setenv("MUSTER_CLUSTER", "env")
	t.Setenv("MUSTER_LEASE_TTL", "20s")
	t.Setenv("ETCD_ENDPOINTS", "a:1,b:2")
	var w Worker
	if code, ok := Parse("worker", "", &w, []string{"--cluster", "flag"}); !ok {
		t.Fatalf("exit code %d", code)
	}
	if w.Cluster.Name != "flag" || w.LeaseTTL != 20*time.Second || len(w.Endpoints) != 2 || w.MaxLen != 100_000 {
		t.Errorf("got %+v", w)
	}
}

// Manifests set variables to nothing where nobody filled them in.
func TestAVariableSetToNothingIsNotSet(t *testing.T) {
	t.Setenv("MUSTER_SHARDS", "")
	t.Setenv("MUSTER_CLUSTER", "")
	var c Coordinator
	if code, ok := Parse("coordinator", "", &c, nil); !ok {
		t.Fatalf("exit code %d", code)
	}
	if c.Shards != 0 || c.Cluster.Name != "muster" {
		t.Errorf("got %+v", c)
	}
}

func TestReadToken(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, "token")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name  string
		value Secret
		file  string
		want  string
		err   string
	}{
		{name: "value", value: "abc", want: "abc"},
		{name: "with the prefix of the Authorization header", value: "Bot abc", want: "abc"},
		{name: "file with a newline", file: "abc\n", want: "abc"},
		{name: "value wins", value: "abc", file: "def", want: "abc"},
		{name: "nothing", err: "no bot token"},
		{name: "empty file", file: "\n", err: "no bot token"},
		{name: "two words", value: "abc secret", err: "white space"},
		{name: "two lines", file: "abc\nsecret", err: "white space"},
	} {
		d := Discord{Token: c.value}
		if c.file != "" {
			d.TokenFile = file(c.file)
		}
		got, err := d.ReadToken()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the token in it: %v", c.name, err)
		}
	}
	_, err := Discord{TokenFile: filepath.Join(dir, "none")}.ReadToken()
	if err == nil || !strings.Contains(err.Error(), "DISCORD_TOKEN_FILE") {
		t.Errorf("missing file: %v", err)
	}
}

func TestReadAdminToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	for content, c := range map[string]struct{ want, err string }{
		"sixteen-letters!\n":              {want: "sixteen-letters!"},
		"fifteen-letters":                 {err: "at least 16"},
		"":                                {err: "at least 16"},
		"two words, in which a secret is": {err: "white space"},
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Admin{AdminTokenFile: path}.ReadAdminToken()
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "letters") {
			t.Errorf("the error has the token in it: %v", err)
		}
	}
	if got, err := (Admin{}).ReadAdminToken(); got != "" || err != nil {
		t.Errorf("without a file: %q, %v", got, err)
	}
	if _, err := (Admin{AdminTokenFile: path + "x"}).ReadAdminToken(); err == nil || !strings.Contains(err.Error(), "MUSTER_ADMIN_TOKEN_FILE") {
		t.Errorf("missing file: %v", err)
	}
}

// TestHelp holds --help to the contract: every variable that manifests may rely on, with its default.
func TestHelp(t *testing.T) {
	shared := []string{
		"DISCORD_TOKEN", "DISCORD_TOKEN_FILE", "DISCORD_API_URL", "https://discord.com/api/v10",
		"ETCD_ENDPOINTS", "127.0.0.1:2379", "ETCD_CA", "ETCD_CERT", "ETCD_KEY", "ETCD_USERNAME", "ETCD_PASSWORD_FILE",
		"MUSTER_CLUSTER", "(muster)", "MUSTER_LISTEN", "MUSTER_ADMIN_TOKEN_FILE", "--version", "--check",
	}
	worker := append([]string{
		"DISCORD_INTENTS", "(unprivileged)", "REDIS_URL", "redis://127.0.0.1:6379/0", "MUSTER_WORKER_ID", "(:8081)",
		"MUSTER_COMPRESSION", "(zstd-stream)", "MUSTER_STREAM_MAXLEN", "(100000)", "MUSTER_LEASE_TTL", "(10s)", "MUSTER_ETCD_AWAY", "(continue)",
		"MUSTER_ZONE", "MUSTER_CAPACITY", "(1)", "MUSTER_MAX_SHARDS",
	}, shared...)
	coordinator := append([]string{"MUSTER_SHARDS", "(0)", "(:8080)", "MUSTER_EMBED_ETCD", "not highly available", "MUSTER_EMBED_ETCD_LISTEN"}, shared...)
	for name, c := range map[string]struct {
		into any
		want []string
	}{"worker": {new(Worker), worker}, "coordinator": {new(Coordinator), coordinator}} {
		help := strings.Join(strings.Fields(stdout(t, func() {
			if code, ok := Parse(name, "", c.into, []string{"--help"}); ok || code != 0 {
				t.Errorf("%s --help: exit code %d", name, code)
			}
		})), " ")
		for _, want := range c.want {
			if !strings.Contains(help, want) {
				t.Errorf("%s --help does not have %q", name, want)
			}
		}
	}
}

// stdout is what do prints.
func stdout(t *testing.T, do func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = before }()
	printed := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		printed <- string(text)
	}()
	do()
	w.Close()
	return <-printed
}

func TestVersion(t *testing.T) {
	defer func(before string) { version = before }(version)
	version = "1.2.3"
	for name, into := range map[string]any{"worker": new(Worker), "coordinator": new(Coordinator)} {
		said := stdout(t, func() {
			if code, ok := Parse(name, "", into, []string{"--version"}); ok || code != 0 {
				t.Errorf("%s --version: exit code %d", name, code)
			}
		})
		if said != name+" 1.2.3\n" {
			t.Errorf("%s --version says %q", name, said)
		}
	}
	if version = ""; Version() == "" {
		t.Error("a build that was told nothing has no version")
	}
}
