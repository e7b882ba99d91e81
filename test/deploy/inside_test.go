package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
)

// member is one pod of the etcd StatefulSet, run here: what differs is where it listens, and where its files are.
type member struct {
	name, client, peer, metrics string // addresses
}

// TestEtcdInside runs the three members with the arguments of their pods and the certificates of make-certs, and lets a coordinator in
// with the client's certificate and nobody without one.
func TestEtcdInside(t *testing.T) {
	m := load(t, "dev")
	p := m.workload(t, "etcd")
	mustHaveVersion(t, p.main().Image)
	certs := makeCerts(t)
	members := []member{}
	for i := range int(*p.replicas) {
		members = append(members, member{fmt.Sprintf("%s-%d", p.owner, i), freeAddress(t), freeAddress(t), freeAddress(t)})
	}
	var running []*process
	for _, self := range members {
		running = append(running, start(t, etcd(t), here(t, p, self, members, certs)))
	}
	for i, self := range members {
		for name, probe := range map[string]*core.Probe{"liveness": p.main().LivenessProbe, "readiness": p.main().ReadinessProbe} {
			if probe.HTTPGet.Port.String() != "metrics" {
				t.Errorf("the %s probe asks at %s, which wants a certificate", name, probe.HTTPGet.Port.String())
			}
			running[i].awaitHTTP(t, "http://"+self.metrics+probe.HTTPGet.Path, 200)
		}
	}
	running[0].mustServe(t, "https://"+members[0].client, certs)

	// The coordinator of the manifests, with their certificates and endpoints of its own.
	c := m.workload(t, "muster-coordinator")
	env := m.env(t, c)
	if env["ETCD_ENDPOINTS"] != "etcd-0.etcd:2379,etcd-1.etcd:2379,etcd-2.etcd:2379" { // the names of the pods, and of the certificates
		t.Errorf("etcd is at %s", env["ETCD_ENDPOINTS"])
	}
	listen := freeAddress(t)
	env = withOthers(env, map[string]string{
		"MUSTER_LISTEN": listen, "DISCORD_API_URL": "http://" + nobody, "DISCORD_TOKEN": "a-token",
		"ETCD_ENDPOINTS": members[0].client + "," + members[1].client + "," + members[2].client,
		"ETCD_CA":        filepath.Join(certs, "ca.crt"), "ETCD_CERT": filepath.Join(certs, "client.crt"), "ETCD_KEY": filepath.Join(certs, "client.key"),
	})
	coordinator := start(t, programOf(t, "coordinator").path, nil, environ(env)...)
	coordinator.awaitHTTP(t, "http://"+listen+"/readyz", 200)
	coordinator.terminate(t, patience)
}

// makeCerts runs the script, and returns the directory.
func makeCerts(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed: etcd with TLS is not tried")
	}
	dir := filepath.Join(t.TempDir(), "certs")
	script, err := filepath.Abs(filepath.Join(root, "k8s/components/etcd/make-certs"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time with the CA of the first
		if out, err := exec.Command(script, dir).CombinedOutput(); err != nil {
			t.Fatalf("make-certs: %v: %s", err, out)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "server.key"))
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can read the keys: %v, %v", info.Mode(), err)
	}
	return dir
}

// here are the arguments of a pod, with the names and files of the cluster replaced by those of this machine.
func here(t *testing.T, p pod, self member, members []member, certs string) (args []string) {
	t.Helper()
	replace := []string{
		"$(POD_NAME).etcd:2379", self.client, "$(POD_NAME).etcd:2380", self.peer, "$(POD_NAME)", self.name,
		"0.0.0.0:2379", self.client, "0.0.0.0:2380", self.peer, "0.0.0.0:2381", self.metrics,
		"/run/secrets/etcd/ca.crt", filepath.Join(certs, "ca.crt"),
		"/run/secrets/etcd/tls.crt", filepath.Join(certs, "server.crt"), "/run/secrets/etcd/tls.key", filepath.Join(certs, "server.key"),
		"/var/lib/etcd", t.TempDir(),
	}
	for _, m := range members {
		replace = append(replace, "https://"+m.name+".etcd:2380", "https://"+m.peer)
	}
	for _, arg := range p.main().Args {
		arg = strings.NewReplacer(replace...).Replace(arg)
		if strings.Contains(arg, "$(") || strings.Contains(arg, ".etcd") {
			t.Errorf("%s is not known to the test", arg)
		}
		args = append(args, arg)
	}
	return append(args, "--log-level=error")
}

// mustServe: the server's certificate is for the names that clients use, and who has none of the CA's own is not let in.
func (p *process) mustServe(t *testing.T, address, certs string) {
	t.Helper()
	pool, pair := loadCerts(t, certs)
	for _, name := range []string{"etcd-0.etcd", "etcd-1.etcd", "etcd-2.etcd", "localhost"} {
		if err := handshake(address, name, pool, pair); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if err := handshake(address, "other", pool, pair); err == nil {
		t.Error("the certificate is for any name")
	}
	if err := handshake(address, "localhost", pool); err == nil {
		t.Error("who has no certificate is let in")
	}
}

// TestRedisInside runs Redis with the arguments of its pod.
func TestRedisInside(t *testing.T) {
	p := load(t, "dev").workload(t, "redis")
	main := p.main()
	if len(main.Command) != 1 || main.Command[0] != "redis-server" || main.ReadinessProbe.Exec.Command[0] != "redis-cli" {
		t.Errorf("redis runs %q, and %q for its health", main.Command, main.ReadinessProbe.Exec.Command)
	}
	args := append([]string{}, main.Args...)
	for i, arg := range args {
		if arg == "--dir" {
			if args[i+1] != main.VolumeMounts[0].MountPath {
				t.Errorf("redis writes to %s, and its volume is at %s", args[i+1], main.VolumeMounts[0].MountPath)
			}
			args = append(args[:i], args[i+2:]...)
			break
		}
	}
	mustRunRedis(t, args, main.ReadinessProbe.Exec.Command[1:])
}
