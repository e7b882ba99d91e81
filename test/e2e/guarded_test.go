package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/internal/certtest"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/internal/etcdtest"
	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Passwords and tokens of these tests: what must not be found anywhere.
const (
	etcdPassword  = "the-password-of-etcd"
	redisPassword = "the-password-of-redis/?#" // percent-encoded in a URL
	adminToken    = "the-admin-token-of-this-test"
	guessedToken  = "a-token-that-somebody-guessed"
)

// guarded are an etcd and a Redis that let nobody in without TLS, a certificate, a user and a password. The user may do what docs/operations.md says it
// must be able to do, in the cluster named muster.
type guarded struct {
	t         *testing.T
	authority *certtest.Authority
	own       certtest.Pair
	etcd      *etcdtest.Server
	redisAddr string
	env       []string // of processes: all but REDIS_URL
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{t: t, authority: certtest.New(t), redisAddr: freeAddress(t)}
	g.own = g.authority.Issue("a process")
	g.etcd = etcdtest.Start(t, etcdtest.Secured(g.authority))
	if err := etcdtest.Guard(t.Context(), g.etcdClient("", ""), etcdPassword, string(page)); err != nil {
		t.Fatal(err)
	}
	g.startRedis(string(page))
	g.env = []string{
		"ETCD_ENDPOINTS=" + g.etcd.Endpoints()[0], "ETCD_CA=" + g.authority.File, "ETCD_CERT=" + g.own.CertFile, "ETCD_KEY=" + g.own.KeyFile,
		"ETCD_USERNAME=muster", "ETCD_PASSWORD_FILE=" + g.file(etcdPassword), "MUSTER_ADMIN_TOKEN_FILE=" + g.file(adminToken),
	}
	return g
}

// startRedis starts a server with the user of the page's line that begins with ACL SETUSER, and one that may do everything.
func (g *guarded) startRedis(page string) {
	g.t.Helper()
	_, user, _ := strings.Cut(page, "\nACL SETUSER ")
	user, _, _ = strings.Cut(user, "\n")
	users := "user default off\nuser admin on >" + redisPassword + " ~* &* +@all\nuser " + strings.Replace(user, ">PASSWORD", ">"+redisPassword, 1) + "\n"
	certificate := g.authority.Issue("redis")
	_, port, _ := strings.Cut(g.redisAddr, ":")
	redistest.StartReal(g.t, "--port", "0", "--tls-port", port, "--aclfile", g.file(users),
		"--tls-cert-file", certificate.CertFile, "--tls-key-file", certificate.KeyFile, "--tls-ca-cert-file", g.authority.File)
}

// redisURL is Redis for one of its users.
func (g *guarded) redisURL(user, password string) string {
	return (&url.URL{
		Scheme: "rediss", User: url.UserPassword(user, password), Host: g.redisAddr, Path: "/0",
		RawQuery: url.Values{"ca": {g.authority.File}, "cert": {g.own.CertFile}, "key": {g.own.KeyFile}}.Encode(),
	}).String()
}

func (g *guarded) file(text string) string {
	g.t.Helper()
	file := filepath.Join(g.t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return file
}

// etcdClient is a client of etcd's for one of its users.
func (g *guarded) etcdClient(user, password string) *clientv3.Client {
	g.t.Helper()
	pair, err := tls.LoadX509KeyPair(g.own.CertFile, g.own.KeyFile)
	if err != nil {
		g.t.Fatal(err)
	}
	pem, err := os.ReadFile(g.authority.File)
	if err != nil {
		g.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: g.etcd.Endpoints(), TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, Username: user, Password: password, Logger: zap.NewNop(),
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { client.Close() })
	return client
}

// use is for a cluster on these servers.
func (g *guarded) use(o *devstack.Options) {
	o.Cluster = "muster"
	o.EtcdURL, o.RedisURL = g.etcd.Endpoints()[0], g.redisURL("muster", redisPassword)
	o.Env = append(o.Env, g.env...)
}

// A worker and a coordinator that etcd or Redis does not let in, or not do what they must, end with code 2 and one line that says so; where only
// certificates do not fit they say so and try again, as with a server that is away. No line has a secret in it.
func TestDeniedByItsServers(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	elsewhere := "MUSTER_CLUSTER=another"
	both, worker := []string{"worker", "coordinator"}, []string{"worker"}
	for _, c := range []struct {
		name string
		of   []string
		env  []string
		says string
		ends bool
	}{
		{"etcd: a wrong password", both, []string{"ETCD_PASSWORD_FILE=" + g.file("another-password")}, `etcd does not accept user muster`, true},
		{"etcd: no such user", both, []string{"ETCD_USERNAME=mustard"}, `etcd does not accept user mustard`, true},
		{"etcd: a role for another cluster", both, []string{elsewhere}, `etcd denies user muster to read or write keys below /muster/another/`, true},
		{"etcd: no user", both, []string{"ETCD_USERNAME=", "ETCD_PASSWORD_FILE="}, "etcd denies a client that gives no user's name", true},
		{"etcd: another authority", both, []string{"ETCD_CA=" + certtest.New(t).File}, "certificate signed by unknown authority", false},
		{"redis: a wrong password", worker, []string{"REDIS_URL=" + g.redisURL("muster", "another-password")}, "redis does not accept this user", true},
		{"redis: no such user", worker, []string{"REDIS_URL=" + g.redisURL("mustard", redisPassword)}, "redis does not accept this user", true},
		{"redis: another authority", worker, []string{"REDIS_URL=" + strings.Replace(g.redisURL("muster", redisPassword),
			url.QueryEscape(g.authority.File), url.QueryEscape(certtest.New(t).File), 1)}, "certificate signed by unknown authority", false},
		{"redis: no TLS", worker, []string{"REDIS_URL=" + strings.Replace(strings.Split(g.redisURL("muster", redisPassword), "?")[0], "rediss", "redis", 1)}, "redis unreachable", false},
	} {
		for _, program := range c.of {
			t.Run(c.name+", "+program, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				log := &logBuffer{}
				p := exec.CommandContext(ctx, binary, program, "--listen", "127.0.0.1:0")
				p.Env = append(append(append(os.Environ(), g.env...), "REDIS_URL="+g.redisURL("muster", redisPassword), "DISCORD_TOKEN=the-token-of-the-bot",
					"DISCORD_API_URL=http://127.0.0.1:1", "MUSTER_CLUSTER=muster"), c.env...)
				p.Stdout, p.Stderr = log, log
				if err := p.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_ = p.Wait() // how it ended is in ProcessState
				}()
				poll(ctx, t, "it to say what is wrong, or to end", func() bool {
					select {
					case <-ended:
						return true
					default:
						return !c.ends && strings.Contains(log.String(), c.says)
					}
				})
				if !c.ends {
					if err := p.Process.Signal(syscall.SIGTERM); err != nil {
						t.Error(err)
					}
				}
				<-ended
				said := log.String()
				if !strings.Contains(said, c.says) {
					t.Errorf("it does not say %s:\n%s", c.says, said)
				}
				if code := p.ProcessState.ExitCode(); code != map[bool]int{true: 2, false: 0}[c.ends] {
					t.Errorf("exit code %d\n%s", code, said)
				}
				if strings.Count(said, "[ERROR]") != 1 || strings.Contains(said, "[WARN]") {
					t.Errorf("not one line of trouble:\n%s", said)
				}
				for _, secret := range []string{etcdPassword, redisPassword, url.PathEscape(redisPassword), "another-password", adminToken, "the-token-of-the-bot"} {
					if strings.Contains(said, secret) {
						t.Errorf("%s is in the log:\n%s", secret, said)
					}
				}
			})
		}
	}
}

// Processes of this version do not start in a cluster whose keys are those of a later one.
func TestLaterSchemaIsRefused(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: etcd.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	const record = `{"version":2,"since":"tomorrow"}`
	if _, err := client.Put(t.Context(), "/muster/muster/schema", record); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"worker", "coordinator"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		p := exec.CommandContext(ctx, binary, program, "--listen", "127.0.0.1:0")
		p.Env = append(os.Environ(), "ETCD_ENDPOINTS="+etcd.Endpoints()[0], "REDIS_URL=redis://127.0.0.1:1", "DISCORD_TOKEN=any", "DISCORD_API_URL=http://127.0.0.1:1", "MUSTER_CLUSTER=muster")
		said, err := p.CombinedOutput()
		if p.ProcessState.ExitCode() != 1 || strings.Count(string(said), "[ERROR]") != 1 || !strings.Contains(string(said), "etcd holds schema 2 of this cluster, and this version of muster knows 1: run a later version") {
			t.Errorf("%s: %v\n%s", program, err, said)
		}
	}
	resp, err := client.Get(t.Context(), "", clientv3.WithPrefix())
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != record {
		t.Errorf("etcd has %v, %v", resp, err)
	}
}

// dump is all that a Redis has, as its user admin sees it.
func (g *guarded) dump(ctx context.Context) string {
	g.t.Helper()
	client, err := stream.Open(g.redisURL("admin", redisPassword))
	if err != nil {
		g.t.Fatal(err)
	}
	defer client.Close()
	var all strings.Builder
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		kind, err := client.Type(ctx, key).Result()
		if err != nil {
			g.t.Fatal(err)
		}
		var value any
		switch kind {
		case "string":
			value, err = client.Get(ctx, key).Result()
		case "hash":
			value, err = client.HGetAll(ctx, key).Result()
		case "stream":
			value, err = client.XRange(ctx, key, "-", "+").Result()
		default:
			g.t.Errorf("%s is a %s, which this test does not read", key, kind)
		}
		if err != nil {
			g.t.Fatal(err)
		}
		fmt.Fprintln(&all, key, value)
	}
	if err := keys.Err(); err != nil {
		g.t.Fatal(err)
	}
	return all.String()
}
