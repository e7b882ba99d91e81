package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
)

// A whole cluster on servers that let nobody in without TLS, a user and a password, and allow no more than docs/operations.md says, goes through moves,
// lost sessions, an etcd that is restarted, orders, and guesses at the token for orders. Tokens and passwords are then nowhere but in the processes'
// environment and files, and session ids nowhere but in the session records in etcd, whatever was logged.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	g := startGuarded(t)
	c := start(t, g.use, func(o *devstack.Options) { o.LogLevel = "trace"; o.LeaseTTL = "10s" })
	c.Sim.Drop(discordsim.AllShards)
	c.Sim.Invalidate(3, false) // a new session, with all that is said about it
	c.await("shard 3's new session", func(v *api.Cluster) bool { return live(v) == shards && v.ShardStates[3].Epoch == 2 })
	known := "http://" + freeAddress(t)
	if _, err := c.StartWorker("MUSTER_LISTEN=" + strings.TrimPrefix(known, "http://")); err != nil {
		t.Fatal(err)
	}
	c.await("the fourth to have a share", func(v *api.Cluster) bool { return sharedOut(v, 4, 1) })
	before := c.view()
	g.etcd.Restart() // it has forgotten the tokens that it gave for the password
	c.await("something new from etcd", func(v *api.Cluster) bool { return live(v) == shards && v.Revision > before.Revision })

	printed := c.order("rebalance", "MUSTER_ADMIN_TOKEN_FILE="+g.file(adminToken), "--no-wait") +
		c.order("drain", "MUSTER_ADMIN_TOKEN_FILE="+g.file(guessedToken), "worker-4") + c.order("status", "")
	sessions, other := c.readEtcd(g.etcdClient("root", etcdPassword))
	if len(sessions) != shards {
		t.Fatalf("%d session records in etcd, want %d", len(sessions), shards)
	}
	places := map[string]string{"the logs": c.log.String(), "etcd": other, "Redis": g.dump(c.ctx), "what the commands print": printed}
	for _, path := range []string{"/", "/v1/cluster", "/v1/shards/3", "/v1/live", "/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/goroutine?debug=2"} {
		places["the coordinator's "+path] = c.get(c.PageURL + path)
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/goroutine?debug=2"} {
		places["the worker's "+path] = c.get(known + path)
	}
	hidden := map[string]string{
		"the bot's token": discordsim.DefaultToken, "the password of etcd": etcdPassword, "the password of Redis": redisPassword,
		"the encoded password of Redis": url.PathEscape(redisPassword), "the admin token": adminToken, "a guessed admin token": guessedToken,
	}
	for _, id := range sessions {
		hidden["the session id "+id[:4]+"…"] = id
	}
	for place, text := range places {
		if text == "" {
			t.Errorf("%s: nothing to look at", place)
		}
		for what, secret := range hidden {
			if strings.Contains(text, secret) {
				t.Errorf("%s is in %s", what, place)
			}
		}
	}
	c.mustBeCleanBut(shards+1, 1)
}

// order runs a command of muster's and returns what it prints.
func (c *cluster) order(name, env string, args ...string) string {
	c.t.Helper()
	command := exec.CommandContext(c.ctx, binary, append([]string{name, "--coordinator", c.PageURL}, args...)...)
	command.Env = append(os.Environ(), env)
	out, err := command.CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		c.t.Fatal(err)
	}
	if refused := err != nil; refused != strings.Contains(string(out), "admin token") {
		c.t.Errorf("muster %s: %v, %s", name, err, out)
	}
	return string(out)
}

// readEtcd returns the session ids that are on record, and everything else that is in etcd.
func (c *cluster) readEtcd(client *clientv3.Client) (sessions []string, other string) {
	c.t.Helper()
	resp, err := client.Get(c.ctx, "", clientv3.WithPrefix())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		text := string(kv.Key) + " " + string(kv.Value) + "\n"
		if strings.Contains(string(kv.Key), "/sess/") {
			var record struct {
				ID string `json:"session_id"`
			}
			if err := json.Unmarshal(kv.Value, &record); err != nil || record.ID == "" {
				c.t.Errorf("session record %s is not as documented: %v", kv.Key, err)
				continue
			}
			sessions = append(sessions, record.ID)
			text = strings.ReplaceAll(text, record.ID, "…")
		}
		other += text
	}
	return sessions, other
}

// get is the beginning of what an address serves to whoever has the admin token.
func (c *cluster) get(address string) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, address, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		c.t.Errorf("%s: %s", address, resp.Status)
	}
	if resp.Header.Get("Content-Type") == "text/event-stream" { // which has no end
		time.AfterFunc(2*time.Second, func() { resp.Body.Close() })
	} else {
		defer resp.Body.Close()
	}
	body, _ := io.ReadAll(resp.Body) // as far as it comes
	return string(body)
}
