package deploy

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// program is what an image holds.
type program struct {
	name string // the image's
	path string // the binary's, as the Dockerfile builds it
}

func programOf(t *testing.T, name string) program {
	t.Helper()
	targets, _ := images(t)
	img, ok := targets[name]
	if !ok || len(img.entrypoint) == 0 {
		t.Fatalf("no image %q is built by the Dockerfile", name)
	}
	return program{name, filepath.Join(build(t), strings.TrimPrefix(img.files[img.entrypoint[0]], "/out/"))}
}

var stopTimeoutIs = regexp.MustCompile(`const StopTimeout = (\d+) \* time\.Second`)

// stopTimeout is how long a worker may take to stop: worker.StopTimeout. This module does not import the other, so that it need not follow
// each change of what that depends on.
func stopTimeout(t *testing.T) time.Duration {
	t.Helper()
	match := stopTimeoutIs.FindStringSubmatch(read(t, "worker/worker.go"))
	if match == nil {
		t.Fatal("worker/worker.go does not say how long a worker may take to stop")
	}
	timeout, err := time.ParseDuration(match[1] + "s")
	if err != nil {
		t.Fatal(err)
	}
	return timeout
}

var (
	variable = regexp.MustCompile(`\$([A-Z][A-Z0-9_]*)`)
	getenv   = regexp.MustCompile(`os\.Getenv\("([A-Z0-9_]+)"\)`)
)

// mustRead fails unless the program reads the variable.
func (p program) mustRead(t *testing.T, name string) {
	t.Helper()
	pattern, text := variable, ""
	switch p.name {
	case "consumer": // has no flags, and so no help
		pattern, text = getenv, read(t, "examples/consumer-go/main.go")
	case "muster":
		for _, command := range []string{"status", "tail", "send"} {
			text += p.help(t, command)
		}
	default:
		text = p.help(t)
	}
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		if match[1] == name {
			return
		}
	}
	t.Errorf("%s does not read %s", p.name, name)
}

// help is what the program says of a command, or of itself.
func (p program) help(t *testing.T, command ...string) string {
	t.Helper()
	out, err := exec.Command(p.path, append(command, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v --help: %v: %s", p.name, command, err, out)
	}
	return string(out)
}

// mustAccept fails unless the program has all flags that the arguments name, and takes their values.
func (p program) mustAccept(t *testing.T, args []string) {
	t.Helper()
	if p.name == "consumer" {
		if len(args) > 0 {
			t.Errorf("consumer has no flags, and is given %q", args)
		}
		return
	}
	if out, err := exec.Command(p.path, append(slices.Clone(args), "--help")...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v: %s", p.name, strings.Join(args, " "), err, out)
	}
}

var defaultListen = regexp.MustCompile(`--listen=HOST:PORT\s+Where to\s+[^(]*\(([^)]*)\)`)

// port is where the program serves with these arguments and variables, or empty.
func (p program) port(args []string, env map[string]string) string {
	address := env["MUSTER_LISTEN"]
	if i := slices.Index(args, "--listen"); i >= 0 && i+1 < len(args) {
		address = args[i+1]
	}
	if address == "" {
		out, err := exec.Command(p.path, "--help").Output()
		if match := defaultListen.FindSubmatch(out); err == nil && match != nil {
			address = string(match[1])
		}
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

// mustBeHealthCheck fails unless the command is one that can run in the image and asks for the health of what runs there: here it finds
// nobody to ask, which a command that is no check at all would not notice.
func mustBeHealthCheck(t *testing.T, img image, test []string, env map[string]string) {
	t.Helper()
	if len(test) < 3 || test[0] != "CMD" || test[1] != img.entrypoint[0] {
		t.Errorf("%s: %q is no command that its image has, which has no shell either", img.name, test)
		return
	}
	p := programOf(t, img.name)
	args := slices.Clone(test[2:])
	if i := slices.Index(args, "--listen"); i >= 0 {
		_, port, _ := net.SplitHostPort(args[i+1])
		if port != p.port(args, nil) {
			t.Errorf("%s: %q asks at port %s", img.name, test, port)
		}
		args[i+1] = nobody
	}
	p.mustAccept(t, args)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, p.path, args...)
	command.Env = append(environ(env), "MUSTER_LISTEN="+nobody)
	out, err := command.CombinedOutput()
	if command.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "refused") {
		t.Errorf("%s: %q, with nobody to ask: %v: %s", img.name, test, err, out)
	}
}

// nobody listens there.
const nobody = "127.0.0.1:1"

func environ(env map[string]string) (all []string) {
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	return all
}

// alone starts the program with the configuration that it is deployed with, but for addresses and files: there is no etcd, no Redis and no
// Discord. It must be alive and not ready then, and end when it is told to. It returns what it serves as metrics.
func (p program) alone(t *testing.T, args []string, env map[string]string) (metrics string) {
	t.Helper()
	listen := freeAddress(t)
	env = withOthers(env, map[string]string{
		"MUSTER_LISTEN": listen, "ETCD_ENDPOINTS": nobody, "DISCORD_API_URL": "http://" + nobody,
		"DISCORD_TOKEN": "a-token", "DISCORD_TOKEN_FILE": "",
	})
	if env["REDIS_URL"] != "" {
		env["REDIS_URL"] = "redis://" + nobody
	}
	for name, value := range env {
		switch {
		case strings.HasPrefix(value, "/run/secrets/"):
			delete(env, name)
		case strings.HasPrefix(value, "/data"):
			env[name] = t.TempDir()
		}
	}
	run := start(t, p.path, args, environ(env)...)
	run.awaitHTTP(t, "http://"+listen+"/healthz", 200)
	if status, reason := get("http://" + listen + "/readyz"); status != 503 {
		t.Errorf("%s without etcd: /readyz is %d: %s", p.name, status, reason)
	}
	_, metrics = get("http://" + listen + "/metrics")
	run.terminate(t, stopTimeout(t))
	return metrics
}

func withOthers(env, others map[string]string) map[string]string {
	all := map[string]string{}
	for name, value := range env {
		all[name] = value
	}
	for name, value := range others {
		all[name] = value
	}
	return all
}

// process is a running program.
type process struct {
	name   string
	cmd    *exec.Cmd
	out    string // file of what it prints
	ended  chan struct{}
	cancel context.CancelFunc
}

// start starts a process that ends with the test at the latest.
func start(t *testing.T, path string, args []string, env ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{name: filepath.Base(path), cmd: exec.CommandContext(ctx, path, args...), ended: make(chan struct{}), cancel: cancel}
	out, err := os.CreateTemp(t.TempDir(), p.name)
	if err != nil {
		t.Fatal(err)
	}
	p.out, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = out.Name(), out, out, append([]string{}, env...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, p.said())
		}
	})
	return p
}

func (p *process) said() string {
	text, err := os.ReadFile(p.out)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// terminate sends SIGTERM, and fails unless the process ends with code 0 in time.
func (p *process) terminate(t *testing.T, within time.Duration) {
	t.Helper()
	if err := p.cmd.Process.Signal(terminateSignal); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ended with code %d after SIGTERM", p.name, code)
		}
	case <-time.After(within):
		t.Errorf("%s did not end within %v of SIGTERM", p.name, within)
	}
}
