package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/muster-gateway/muster/internal/certtest"
	"github.com/muster-gateway/muster/internal/etcdtest"
)

// guarded is an etcd that lets nobody in without a certificate and a user.
type guarded struct {
	*etcdtest.Server
	authority *certtest.Authority
	config    Config // of the user muster, who has the role that docs/operations.md describes, for the cluster muster
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{authority: certtest.New(t)}
	g.Server = etcdtest.Start(t, etcdtest.Secured(g.authority))
	own := g.authority.Issue("nobody")
	g.config = Config{
		Endpoints: g.Endpoints(), Cluster: "muster", CAFile: g.authority.File, CertFile: own.CertFile, KeyFile: own.KeyFile,
		Username: "muster", Password: "the-secret",
	}
	page, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	must(t, etcdtest.Guard(t.Context(), g.open(t, func(c *Config) { c.Username, c.Password = "", "" }).client, "the-secret", string(page)))
	return g
}

func (g *guarded) open(t *testing.T, change func(*Config)) *Store {
	t.Helper()
	config := g.config
	change(&config)
	s, err := Open(config)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// With the role that docs/operations.md describes all is possible that muster does, and nothing beyond its prefix.
func TestUserOfEtcd(t *testing.T) {
	g := startGuarded(t)
	s := g.open(t, func(*Config) {})
	must(t, s.AwaitReady(t.Context()))
	lead(t, s)
	r := register(t, s, "a")
	must(t, r.Report(t.Context(), Status{}))

	// A restarted etcd has forgotten what it let this process in by, and lets it in again.
	following, stop := context.WithCancel(t.Context())
	updates := make(chan Update, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- s.FollowCluster(following, func(u Update) error { updates <- u; return nil })
	}()
	<-updates
	g.Restart()
	must(t, s.AwaitReady(t.Context()))
	for range 2 {
		must(t, r.renew(t.Context()))
	}
	must(t, r.Report(t.Context(), Status{Events: 7}))
	for found := false; !found; {
		select {
		case u := <-updates:
			for _, put := range u.Puts {
				found = found || put.Key == dirStatus+"a" && strings.Contains(string(put.Value), `"events":7`)
			}
		case <-time.After(time.Minute):
			t.Fatal("it is not followed again")
		}
	}
	stop()
	must(t, <-ended)
	must(t, r.Leave(t.Context()))
	if _, err := s.client.Put(t.Context(), "/muster/other/plan", ""); err == nil {
		t.Error("the user may write another cluster's keys")
	}
	if _, err := s.client.Get(t.Context(), "/", clientv3.WithPrefix()); err == nil {
		t.Error("the user may read everything")
	}
}

// What is wrong with a user, a role or a certificate is said in one line without a secret: as an error where only a person can mend it, else in the log,
// and tried again.
func TestAccessToEtcd(t *testing.T) {
	g := startGuarded(t)
	root := g.open(t, func(c *Config) { c.Username, c.Password = "root", "the-secret" }).client
	_, err := root.RoleAdd(t.Context(), "reader")
	must(t, err)
	_, err = root.RoleGrantPermission(t.Context(), "reader", "/muster/muster/", clientv3.GetPrefixRangeEnd("/muster/muster/"), clientv3.PermissionType(clientv3.PermRead))
	must(t, err)
	_, err = root.UserAdd(t.Context(), "reader", "the-secret")
	must(t, err)
	_, err = root.UserGrantRole(t.Context(), "reader", "reader")
	must(t, err)
	named := g.authority.Issue("muster")
	const noReason = "latest balancer error" // why the server hung up it may say too late
	for _, c := range []struct {
		name   string
		change func(*Config)
		denied string // in the error; empty: none
		logged string // in the log; empty: none, and it can be used
	}{
		{name: "all is well", change: func(*Config) {}},
		{name: "a certificate with the user's name", change: func(c *Config) {
			c.Username, c.Password, c.CertFile, c.KeyFile = "", "", named.CertFile, named.KeyFile
		}},
		{name: "a wrong password", change: func(c *Config) { c.Password = "the-secret-of-another" }, denied: `does not accept user muster`},
		{name: "no such user", change: func(c *Config) { c.Username = "mustard" }, denied: `does not accept user mustard`},
		{name: "another cluster", change: func(c *Config) { c.Cluster = "other" }, denied: `denies user muster to read or write keys below /muster/other/`},
		{name: "reads only", change: func(c *Config) { c.Username = "reader" }, denied: `denies user reader to read or write keys below /muster/muster/`},
		{name: "a certificate with nobody's name", change: func(c *Config) { c.Username, c.Password = "", "" }, denied: "denies a client that gives no user's name"},
		{name: "another authority", change: func(c *Config) { c.CAFile = certtest.New(t).File }, logged: "certificate signed by unknown authority"},
		{name: "no certificate", change: func(c *Config) { c.CertFile, c.KeyFile = "", "" }, logged: noReason},
		{name: "no TLS", change: func(c *Config) { c.CAFile, c.CertFile, c.KeyFile = "", "", "" }, logged: noReason},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			log := &lines{wrote: cancel}
			s := g.open(t, func(config *Config) {
				c.change(config)
				config.Logger = hclog.New(&hclog.LoggerOptions{Output: log})
			})
			err := s.AwaitReady(ctx)
			said := log.String()
			denied, is := errors.AsType[*DeniedError](err)
			if is != (c.denied != "") || (err == nil) != (c.denied == "" && c.logged == "") {
				t.Fatalf("got %v, log %s", err, said)
			}
			if is && (!strings.Contains(denied.Error(), c.denied) || strings.Contains(denied.Error(), "\n")) {
				t.Errorf("the error says %q", denied)
			}
			if (said == "") != (c.logged == "") || strings.Count(said, "\n") > 1 || !strings.Contains(said, c.logged) {
				t.Errorf("the log says %q, want one line with %q", said, c.logged)
			}
			if strings.Contains(said+fmt.Sprint(err), "the-secret") {
				t.Errorf("the password is in %q or %v", said, err)
			}
		})
	}
}

// lines is a log that tells when something was written.
type lines struct {
	wrote func()

	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	defer l.wrote()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// An etcd that is away keeps nobody with a user from being there, and waiting for it.
func TestUserWhileEtcdIsAway(t *testing.T) {
	g := startGuarded(t)
	g.Stop()
	s := g.open(t, func(*Config) {})
	ready := make(chan error, 1)
	go func() { ready <- s.AwaitReady(t.Context()) }()
	g.Restart()
	must(t, <-ready)
}

// Half a configuration of TLS is none.
func TestOpenRefusesHalfOfTLS(t *testing.T) {
	authority := certtest.New(t)
	own := authority.Issue("muster")
	for want, c := range map[string]Config{
		"http://127.0.0.1:2379": {Endpoints: []string{"https://127.0.0.1:2379", "http://127.0.0.1:2379"}, CAFile: authority.File},
		"and its key":           {Endpoints: []string{"127.0.0.1:2379"}, CertFile: own.CertFile},
		"etcd CA":               {Endpoints: []string{"127.0.0.1:2379"}, CAFile: own.KeyFile},
		"client certificate":    {Endpoints: []string{"127.0.0.1:2379"}, CertFile: own.KeyFile, KeyFile: own.CertFile},
	} {
		c.Cluster = "muster"
		if s, err := Open(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v and %v, want one line with %q", s, err, want)
		}
	}
}
