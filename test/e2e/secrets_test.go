package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/muster-gateway/muster/internal/api"
	"github.com/muster-gateway/muster/internal/devstack"
	"github.com/muster-gateway/muster/pkg/discordsim"
	"github.com/muster-gateway/muster/pkg/stream"
)

// The token is nowhere but in the processes' environment, and session ids nowhere but in the session records in etcd,
// whatever is logged.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	c := start(t, func(o *devstack.Options) { o.LogLevel = "trace" })
	c.Sim.Drop(discordsim.AllShards)
	c.Sim.Invalidate(3, false) // a new session, with all that is said about it
	c.await("shard 3's new session", func(v *api.Cluster) bool { return live(v) == shards && v.ShardStates[3].Epoch == 2 })

	sessions, other := c.readEtcd()
	if len(sessions) != shards {
		t.Fatalf("%d session records in etcd, want %d", len(sessions), shards)
	}
	places := map[string]string{
		"the logs":        c.log.String(),
		"etcd":            other,
		"/v1/cluster":     c.get("/v1/cluster"),
		"/metrics":        c.get("/metrics"),
		"the Redis entry": c.readRedis(),
	}
	for place, text := range places {
		if text == "" {
			t.Errorf("%s: nothing to look at", place)
		}
		if strings.Contains(text, discordsim.DefaultToken) {
			t.Errorf("the token is in %s", place)
		}
		for _, id := range sessions {
			if strings.Contains(text, id) {
				t.Errorf("a session id is in %s", place)
			}
		}
	}
}

// readEtcd returns the session ids that are on record, and everything else that is in etcd.
func (c *cluster) readEtcd() (sessions []string, other string) {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{c.EtcdURL}, Context: c.ctx})
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	resp, err := client.Get(c.ctx, "", clientv3.WithPrefix())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, kv := range resp.Kvs {
		if !strings.Contains(string(kv.Key), "/sess/") {
			other += string(kv.Key) + " " + string(kv.Value) + "\n"
			continue
		}
		var record struct {
			ID string `json:"session_id"`
		}
		if err := json.Unmarshal(kv.Value, &record); err != nil || record.ID == "" {
			c.t.Errorf("session record %s is not as documented: %v", kv.Key, err)
			continue
		}
		if strings.Contains(string(kv.Value), discordsim.DefaultToken) {
			c.t.Errorf("the token is in %s", kv.Key)
		}
		sessions = append(sessions, record.ID)
	}
	return sessions, other
}

// readRedis returns every entry of every stream.
func (c *cluster) readRedis() string {
	c.t.Helper()
	client, err := stream.Open(c.RedisURL)
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	var all strings.Builder
	for shard := range shards {
		entries, err := client.XRange(c.ctx, stream.EventsKey(c.Cluster, shard), "-", "+").Result()
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range entries {
			for field, value := range e.Values {
				all.WriteString(field + " " + value.(string) + "\n")
			}
		}
	}
	return all.String()
}

func (c *cluster) get(path string) string {
	c.t.Helper()
	resp, err := http.Get(c.PageURL + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(body)
}
