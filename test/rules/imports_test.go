// Package rules holds the project to its own architecture: who may import whom. See docs/architecture.md.
package rules

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/muster-gateway/muster/"

// only says which packages may import a library, or a package of ours: those that begin with one of the given paths.
var only = map[string][]string{
	"go.etcd.io/etcd/client/v3":     {"pkg/lease", "internal/etcdmem", "internal/etcdtest", "test/scale"},
	"go.etcd.io/etcd/etcdutl":       {"internal/etcdtest"},
	"go.etcd.io/etcd/server":        {"internal/embedetcd", "internal/etcdtest", "test/scale"},
	"github.com/redis/go-redis":     {"pkg/stream", "internal/redistest", "internal/bench"},
	"github.com/coder/websocket":    {"pkg/shard", "pkg/discordsim", "internal/bench"},
	"github.com/disgoorg":           {"pkg/event", "examples", "internal/bench"},
	module + "coordinator":          {"internal/app", "internal/clustertest", "test/scale"},
	module + "worker":               {"internal/app", "internal/clustertest"},
	module + "pkg/discordsim":       {"internal/devstack", "internal/clustertest", "cmd/muster"},
	module + "internal/devstack":    {"cmd/muster", "internal/clustertest"},
	module + "internal/etcdmem":     {},
	module + "internal/embedetcd":   {"internal/app", "internal/devstack"}, // a whole etcd: no library of ours may need it
	module + "internal/certtest":    {"internal/etcdtest"},
	module + "internal/etcdtest":    {"internal/clustertest"},
	module + "internal/redistest":   {"internal/clustertest"},
	module + "internal/clustertest": {},
	"testing":                       {"internal/certtest", "internal/clustertest", "internal/etcdtest", "internal/redistest"},
	"github.com/alicebob/miniredis": {"internal/devstack", "internal/redistest"},
}

// leaves import nothing of ours.
var leaves = []string{"pkg/shard", "pkg/lease", "pkg/stream", "pkg/event", "pkg/discordsim"}

// Tests may import more than what they test; the rules are about the code itself.
func TestImports(t *testing.T) {
	for _, pkg := range packages(t) {
		name := strings.TrimPrefix(pkg.ImportPath, module)
		for _, imported := range pkg.Imports {
			if slices.Contains(leaves, name) && strings.HasPrefix(imported, module) {
				t.Errorf("%s is a leaf, and imports %s", name, imported)
			}
			for library, users := range only {
				if !within(imported, library) || within(name, strings.TrimPrefix(library, module)) {
					continue
				}
				if !slices.ContainsFunc(users, func(user string) bool { return within(name, user) }) {
					t.Errorf("%s imports %s, which only %v may", name, imported, users)
				}
			}
		}
	}
}

// within reports whether a package is the given one or below it.
func within(name, path string) bool { return name == path || strings.HasPrefix(name, path+"/") }

type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) (all []listed) {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var pkg listed
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, pkg)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages listed", len(all))
	}
	return all
}
