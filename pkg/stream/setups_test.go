package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/certtest"
	"github.com/muster-gateway/muster/internal/freeport"
	"github.com/muster-gateway/muster/internal/redistest"
	"github.com/muster-gateway/muster/pkg/stream"
)

// Ways to run Redis other than one open server: TLS, a user with no more rights than needed, Sentinel.

// everything writes, reads with a group and sends a command, through url.
func everything(t *testing.T, url string) {
	t.Helper()
	client := open(t, url)
	publish(t, client, 1, 1)
	w := run(t, client, stream.Options{MaxAge: time.Hour})
	l := openLog(t, w, 0)
	appendRun(t, l, id(1, 1), id(1, 10))
	flush(t, l)
	if _, err := w.GroupLags(deadline(t)); err != nil {
		t.Error(err)
	}
	if err := stream.Probe(deadline(t), client, cluster); err != nil {
		t.Error(err)
	}
	led := newLedger(10)
	_, stop := consume(t, client, stream.ReaderOptions{From: "0", MaxDeliveries: 1}, led.handle)
	led.wait(t)
	stop()
	checkRun(t, led.got[0], id(1, 1), id(1, 10))
	commands := stream.NewCommands(client, cluster)
	sendNotes(t, commands, 0, 1, 2)
	q := openQueue(runCommands(t, client), 0)
	expectNotes(t, q, 1, 1)
	if err := receive(t, q).Bury(deadline(t), "test"); err != nil {
		t.Error(err)
	}
}

// freePort is a port of loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// A server that wants a certificate of its clients, as Redis does unless it is told otherwise.
func TestRedisWithTLS(t *testing.T) {
	authority := certtest.New(t)
	own, client := authority.Issue("redis"), authority.Issue("muster")
	port := freePort(t)
	redistest.StartReal(t, "--tls-port", port, "--port", "0", "--tls-cert-file", own.CertFile, "--tls-key-file", own.KeyFile, "--tls-ca-cert-file", authority.File)
	// The first who does not know an authority waits until those of the system are read, which may take longer than the 2 s that are usual.
	anybody := "rediss://127.0.0.1:" + port + "/0?dial_timeout=1m"
	at := anybody + "&ca=" + authority.File
	everything(t, at+"&cert="+client.CertFile+"&key="+client.KeyFile)
	for url, want := range map[string]string{
		anybody:                                 "unknown authority",
		anybody + "&ca=" + certtest.New(t).File: "unknown authority",
		at:                                      "certificate required",
		"redis://127.0.0.1:" + port + "/0":      "EOF",
	} {
		if err := stream.Ping(deadline(t), open(t, url)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
}

// userRights are what docs/operations.md says a user of Redis needs, and clusterRights what else with Redis Cluster.
const (
	userRights = "~%s:* resetchannels +@stream +eval +evalsha +get +set +del +exists +pexpire +time +hget +hmget +hset +hsetnx" +
		" +zadd +zrem +zrange +zremrangebyscore +zscore +@connection -@dangerous"
	clusterRights = "+cluster|slots"
)

// addUser makes a user with those rights and the password "secret".
func addUser(t *testing.T, admin stream.Client, name, rights string) {
	t.Helper()
	if err := admin.Do(deadline(t), append([]any{"ACL", "SETUSER", name, "on", ">secret"}, fieldsOf(rights)...)...).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestRedisWithAUser(t *testing.T) {
	server := redistest.StartReal(t)
	addUser(t, open(t, server.URL()), "muster", fmt.Sprintf(userRights, cluster))
	everything(t, "redis://muster:secret@"+server.Addr+"/0")
	client := open(t, "redis://muster:secret@"+server.Addr+"/0")
	if err := stream.Access(deadline(t), client, cluster); err != nil {
		t.Error(err)
	}
	for name, excess := range map[string][]any{
		"write what is not the cluster's": {"SET", "another", 1}, "list keys": {"SCAN", 0}, "forget others' scripts": {"SCRIPT", "FLUSH"},
		"forget others' functions": {"FUNCTION", "FLUSH"}, "flush": {"FLUSHDB"}, "configure": {"CONFIG", "GET", "*"}, "publish": {"PUBLISH", "a", "b"},
	} {
		if err := client.Do(deadline(t), excess...).Err(); !redis.IsPermissionError(err) {
			t.Errorf("the user may %s: %v", name, err)
		}
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	for _, rights := range []string{fmt.Sprintf(userRights, "muster"), clusterRights} {
		if err != nil || !bytes.Contains(docs, []byte(rights)) {
			t.Errorf("docs/operations.md does not say that a user needs %s (%v)", rights, err)
		}
	}
}

func TestRedisClusterWithAUser(t *testing.T) {
	var addresses []string
	for _, node := range redistest.StartCluster(t, 3) {
		addUser(t, open(t, node.URL()), "muster", fmt.Sprintf(userRights, cluster)+" "+clusterRights)
		addresses = append(addresses, node.Addr)
	}
	everything(t, "redis://muster:secret@"+strings.Join(addresses, ","))
}

// Access says in one line what Redis refuses, without the password, and has no opinion on what is not about access.
func TestAccess(t *testing.T) {
	server := redistest.StartReal(t)
	admin := open(t, server.URL())
	rights := fmt.Sprintf(userRights, cluster)
	addUser(t, admin, "able", rights)
	addUser(t, admin, "disabled", rights+" off")
	addUser(t, admin, "elsewhere", fmt.Sprintf(userRights, "another"))
	addUser(t, admin, "unscripted", rights+" -eval -evalsha")
	addUser(t, admin, "reader", rights+" -set")
	addUser(t, admin, "blind", rights+" -exists")
	if err := admin.ConfigSet(deadline(t), "maxmemory", "1").Err(); err != nil { // there is no room for anything
		t.Fatal(err)
	}
	for user, want := range map[string]string{
		"able:secret@": "", "able:wrong-secret@": "name and password", "nobody:secret@": "name and password", "disabled:secret@": "name and password",
		"elsewhere:secret@": "give it the right", "unscripted:secret@": "'evalsha'", "reader:secret@": "'set'", "blind:secret@": "give it the right", "": "",
	} {
		err := stream.Access(deadline(t), open(t, "redis://"+user+server.Addr+"/0"), cluster)
		denied, is := errors.AsType[*stream.DeniedError](err)
		if is != (want != "") || err != nil && !is {
			t.Errorf("%s: %v", user, err)
			continue
		}
		if is && (!strings.Contains(denied.Error(), want) || strings.ContainsAny(denied.Error(), "\n") || strings.Contains(denied.Error(), "secret")) {
			t.Errorf("%s: it says %q, want %s", user, denied, want)
		}
	}
	addUser(t, admin, "default", "resetpass") // from here on everybody has to say who he is
	if err := stream.Access(deadline(t), open(t, server.URL()), cluster); !errors.As(err, new(*stream.DeniedError)) {
		t.Errorf("without a user: %v", err)
	}
	server.Kill()
	if err := stream.Access(deadline(t), open(t, server.URL()), cluster); err == nil || errors.As(err, new(*stream.DeniedError)) {
		t.Errorf("a server that is away: %v", err)
	}
}

func fieldsOf(text string) (all []any) {
	for f := range strings.FieldsSeq(text) {
		all = append(all, f)
	}
	return all
}

// A master that is killed is replaced by Sentinel, and the writer goes on with the new one.
func TestRedisWithSentinel(t *testing.T) {
	master := redistest.StartReal(t)
	host, port, _ := net.SplitHostPort(master.Addr)
	replica := redistest.StartReal(t, "--replicaof", host+" "+port)
	sentinel := startSentinel(t, host, port)
	client := open(t, "redis://"+sentinel+"?master_name=m")
	w := run(t, client, stream.Options{})
	l := openLog(t, w, 0)
	appendRun(t, l, id(1, 1), id(1, 50))
	flush(t, l)
	direct := open(t, replica.URL())
	awaitStored(t, direct, 50)
	master.Kill()
	appendRun(t, l, id(1, 51), id(1, 100))
	flush(t, l)
	checkRun(t, stored(t, direct, 0), id(1, 1), id(1, 100))
}

// awaitStored polls until shard 0 has so many entries.
func awaitStored(t *testing.T, client redis.UniversalClient, n int) {
	t.Helper()
	for ctx := deadline(t); len(stored(t, client, 0)) < n; {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d entries, want %d", len(stored(t, client, 0)), n)
		}
	}
}

// startSentinel starts a sentinel that alone decides, and returns its address once it knows the replica.
func startSentinel(t *testing.T, host, port string) string {
	t.Helper()
	own := freePort(t)
	conf := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\ndir %s\nsentinel monitor m %s %s 1\nsentinel down-after-milliseconds m 300\nsentinel failover-timeout m 5000\n",
		own, filepath.Dir(conf), host, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", conf, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	client := open(t, "redis://127.0.0.1:"+own)
	for ctx := deadline(t); ; {
		replicas, err := client.Do(ctx, "SENTINEL", "REPLICAS", "m").Slice()
		if err == nil && len(replicas) == 1 && !strings.Contains(fmt.Sprint(replicas), "s_down") {
			return "127.0.0.1:" + own
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the sentinel does not know the replica: %v, %v", replicas, err)
		}
	}
}
