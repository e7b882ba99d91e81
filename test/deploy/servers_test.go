package deploy

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

var etcdBuilt struct {
	once sync.Once
	path string
	err  error
	out  []byte
}

// etcd is the real server, of the version that muster is tested with.
func etcd(t *testing.T) string {
	t.Helper()
	build(t) // which makes the directory
	etcdBuilt.once.Do(func() {
		etcdBuilt.path = filepath.Join(built.dir, "etcd")
		etcdBuilt.out, etcdBuilt.err = exec.Command("go", "build", "-o", etcdBuilt.path, "go.etcd.io/etcd/server/v3").CombinedOutput()
	})
	if etcdBuilt.err != nil {
		t.Fatalf("build etcd: %v: %s", etcdBuilt.err, etcdBuilt.out)
	}
	return etcdBuilt.path
}

// redis is the real server, or the test is skipped.
func redis(t *testing.T) (server, cli string) {
	t.Helper()
	server, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed: its arguments and health checks are not tried")
	}
	cli, err = exec.LookPath("redis-cli")
	if err != nil {
		t.Skip("redis-cli is not installed: Redis' health checks are not tried")
	}
	return server, cli
}

// mustRunRedis runs Redis with its arguments, in a directory of the test's, and asks for its health as the container's check does.
func mustRunRedis(t *testing.T, args, check []string) {
	t.Helper()
	server, cli := redis(t)
	_, port, _ := strings.Cut(freeAddress(t), ":")
	p := start(t, server, append(append([]string{}, args...), "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir()))
	healthy := func() (bool, string) {
		out, err := exec.Command(cli, append([]string{"-p", port}, check...)...).CombinedOutput()
		return err == nil, string(out)
	}
	p.await(t, "redis to be healthy", healthy)
	for setting, want := range map[string]string{"appendonly": "yes", "maxmemory-policy": "noeviction"} {
		out, err := exec.Command(cli, "-p", port, "config", "get", setting).Output()
		if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), want) {
			t.Errorf("%s: %q, %v", setting, out, err)
		}
	}
	p.terminate(t, patience)
	if ok, _ := healthy(); ok {
		t.Error("a Redis that has ended is healthy")
	}
}

// mustAcceptEtcd fails unless etcd has all these flags.
func mustAcceptEtcd(t *testing.T, args []string) {
	t.Helper()
	if out, err := exec.Command(etcd(t), append(append([]string{}, args...), "--version")...).CombinedOutput(); err != nil {
		t.Errorf("etcd %v: %v: %s", args, err, out)
	}
}

func TestComposeServers(t *testing.T) {
	project := everything(t)
	command := project.Services["etcd"].Command
	if filepath.Base(command[0]) != "etcd" {
		t.Errorf("etcd runs %q", command)
	}
	mustAcceptEtcd(t, command[1:])
	mustHaveVersion(t, project.Services["etcd"].Image)
	command, check := project.Services["redis"].Command, project.Services["redis"].HealthCheck.Test
	if command[0] != "redis-server" || check[0] != "CMD" || check[1] != "redis-cli" {
		t.Errorf("redis runs %q, and %q for its health", command, check)
	}
	mustRunRedis(t, command[1:], check[2:])
}

// mustHaveVersion fails unless etcd's image is of the version that is run here, and that muster itself is tested with.
func mustHaveVersion(t *testing.T, image string) {
	t.Helper()
	out, err := exec.Command(etcd(t), "--version").Output()
	_, tag, _ := strings.Cut(image, ":v")
	if err != nil || !strings.Contains(string(out), "etcd Version: "+tag+"\n") {
		t.Errorf("the image is %s, and tests run %s", image, out)
	}
	if !strings.Contains(read(t, "go.mod"), "go.etcd.io/etcd/server/v3 v"+tag+"\n") {
		t.Errorf("the image is %s, and go.mod has another version", image)
	}
}
