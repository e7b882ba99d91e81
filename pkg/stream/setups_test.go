package stream_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestRedisWithTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile, keyFile := write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", private)
	port := freePort(t)
	redistest.StartReal(t, "--tls-port", port, "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-auth-clients", "no")
	everything(t, "rediss://127.0.0.1:"+port+"/0?skip_verify=true")
	if err := stream.Ping(deadline(t), open(t, "rediss://127.0.0.1:"+port+"/0")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody is trusted: %v", err)
	}
}

// userRights are what docs/operations.md says a user of Redis needs.
const userRights = "~%s:* resetchannels +@stream +@read +@write +@scripting +@connection +time -@dangerous"

func TestRedisWithAUser(t *testing.T) {
	server := redistest.StartReal(t)
	admin := open(t, server.URL())
	rights := append([]any{"ACL", "SETUSER", "muster", "on", ">secret"}, fieldsOf(fmt.Sprintf(userRights, cluster))...)
	if err := admin.Do(deadline(t), rights...).Err(); err != nil {
		t.Fatal(err)
	}
	everything(t, "redis://muster:secret@"+server.Addr+"/0")
	if err := open(t, "redis://muster:secret@"+server.Addr+"/0").Set(deadline(t), "another", 1, 0).Err(); err == nil {
		t.Error("the user may write what is not the cluster's")
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil || !bytes.Contains(docs, []byte(fmt.Sprintf(userRights, "muster"))) {
		t.Errorf("docs/operations.md does not say that a user needs %s (%v)", fmt.Sprintf(userRights, "muster"), err)
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
