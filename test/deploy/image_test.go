package deploy

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// image is a target of the Dockerfile, with what it has from the stages that it is made from.
type image struct {
	name       string
	user       string
	entrypoint []string
	health     []string
	exposed    []string
	files      map[string]string // by path in the image: what the build stage has them as
}

// images are those that a build can have as its target, by name; stages are all stages, in order.
func images(t *testing.T) (targets map[string]image, stages []instructions.Stage) {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(read(t, "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err = instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	targets = map[string]image{}
	for _, stage := range stages[1:] { // the first is the build
		img := image{files: map[string]string{}}
		if base, ok := targets[stage.BaseName]; ok {
			img = base
			img.files = map[string]string{}
			for path, source := range base.files {
				img.files[path] = source
			}
		}
		img.name = stage.Name
		for _, command := range stage.Commands {
			img.apply(t, command)
		}
		targets[stage.Name] = img
	}
	return targets, stages
}

func (i *image) apply(t *testing.T, command instructions.Command) {
	t.Helper()
	switch c := command.(type) {
	case *instructions.UserCommand:
		i.user = c.User
	case *instructions.EntrypointCommand:
		if c.PrependShell {
			t.Errorf("%s: the entry point needs a shell, which would not pass signals on", i.name)
		}
		i.entrypoint = c.CmdLine
	case *instructions.HealthCheckCommand:
		i.health = c.Health.Test
	case *instructions.ExposeCommand:
		i.exposed = append(i.exposed, c.Ports...)
	case *instructions.CopyCommand:
		if c.From != "build" || len(c.SourcePaths) != 1 {
			t.Errorf("%s: copies %v from %q", i.name, c.SourcePaths, c.From)
			return
		}
		path := c.DestPath
		if strings.HasSuffix(path, "/") {
			path += filepath.Base(c.SourcePaths[0])
		}
		i.files[path] = c.SourcePaths[0]
	default:
		t.Errorf("%s: %s is not expected in an image of one file", i.name, command.Name())
	}
}

// built is what the Dockerfile's command has built.
var built struct {
	once sync.Once
	dir  string
	err  error
}

const builtVersion = "1.2.3-test"

// build runs the Dockerfile's own command on what .dockerignore lets into the build, once, and returns where the results are.
func build(t *testing.T) string {
	t.Helper()
	_, stages := images(t)
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "muster-deploy-"); built.err != nil {
			return
		}
		source := filepath.Join(built.dir, "src")
		if built.err = copyContext(source); built.err == nil {
			built.err = runBuild(buildCommand(stages[0]), source, filepath.Join(built.dir, "out"))
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "out")
}

// buildCommand is the line of the build stage that compiles.
func buildCommand(stage instructions.Stage) string {
	for _, command := range stage.Commands {
		if run, ok := command.(*instructions.RunCommand); ok && strings.Contains(run.CmdLine[0], "go build") {
			return run.CmdLine[0]
		}
	}
	return "false"
}

func runBuild(line, source, out string) error {
	command := exec.Command("sh", "-c", strings.ReplaceAll(line, "-o /out/", "-o "+out+"/"))
	command.Dir = source
	command.Env = append(os.Environ(), "VERSION="+builtVersion, "TARGETOS="+runtime.GOOS, "TARGETARCH="+runtime.GOARCH, "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, output)
	}
	return nil
}

// copyContext copies what a build of the images is given.
func copyContext(to string) error {
	file, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		return err
	}
	defer file.Close()
	patterns, err := ignorefile.ReadAll(file)
	if err != nil {
		return err
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "node_modules"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if skip, err := ignored.MatchesOrParentMatches(name); err != nil || skip {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o644)
	})
}

func TestImages(t *testing.T) {
	out := build(t)
	targets, stages := images(t)
	if base := stages[0].BaseName; base != "golang:${GO_VERSION}" {
		t.Errorf("built with %s", base)
	}
	numeric := regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`)
	for _, name := range []string{"coordinator", "worker", "muster", "consumer"} {
		img, ok := targets[name]
		if !ok {
			t.Errorf("there is no image %s", name)
			continue
		}
		if !numeric.MatchString(img.user) { // Kubernetes cannot tell that a name is not root's
			t.Errorf("%s runs as %q, want numbers other than 0", name, img.user)
		}
		if len(img.entrypoint) != 1 || img.files[img.entrypoint[0]] == "" {
			t.Errorf("%s begins with %q, which is not in it: %v", name, img.entrypoint, img.files)
			continue
		}
		if img.files["/etc/ssl/certs/ca-certificates.crt"] == "" {
			t.Errorf("%s has no CA certificates for Discord's", name)
		}
		binary := filepath.Join(out, strings.TrimPrefix(img.files[img.entrypoint[0]], "/out/"))
		mustBeStatic(t, binary)
	}
	for _, name := range []string{"coordinator", "worker", "muster"} {
		p := programOf(t, name)
		said, err := exec.Command(p.path, "--version").Output()
		if err != nil || string(said) != name+" "+builtVersion+"\n" {
			t.Errorf("%s --version says %q, %v", name, said, err)
		}
	}
	for _, name := range []string{"coordinator", "worker"} {
		img := targets[name]
		mustBeHealthCheck(t, img, append([]string{}, img.health...), nil)
		if port := programOf(t, name).port(nil, nil); !slices.Equal(img.exposed, []string{port}) {
			t.Errorf("%s exposes %v and listens at %s", name, img.exposed, port)
		}
	}
}

// mustBeStatic fails if the binary needs anything of a file system to run.
func mustBeStatic(t *testing.T, path string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	file, err := elf.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	libraries, err := file.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("%s needs %v, %v", path, libraries, err)
	}
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP {
			t.Errorf("%s needs a dynamic loader", path)
		}
	}
}

// TestBuildIsReproducible builds in another directory, with the history of the repository beside it, and wants the same bytes.
func TestBuildIsReproducible(t *testing.T) {
	out := build(t)
	_, stages := images(t)
	again := t.TempDir()
	if err := runBuild(buildCommand(stages[0]), root, again); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"coordinator", "worker", "muster", "consumer-go"} {
		first, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(again, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%s is not the same bytes when it is built elsewhere", name)
		}
	}
}

// TestContext holds .dockerignore to what it is for: secrets and history stay out.
func TestContext(t *testing.T) {
	build(t)
	err := filepath.WalkDir(filepath.Join(built.dir, "src"), func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".env") || strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s gets into the build", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
