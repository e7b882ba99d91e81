package rules

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// packageOf is what the prefixes of docs/gateway.md and docs/coordination.md stand for.
var packageOf = map[string]string{
	"shard": "pkg/shard", "sim": "pkg/discordsim", "worker": "worker", "coordinator": "coordinator", "event": "pkg/event",
	"e2e": "test/e2e", "fleet": "test/fleet", "model": "test/model", "replan": "test/replan", "conformance": "test/conformance", "lease": "pkg/lease", "stream": "pkg/stream",
}

var testName = regexp.MustCompile("`([a-z0-9]+)\\.((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")

// TestGatewayConformance: in docs/gateway.md every rule names tests that show it, and all of them exist.
func TestGatewayConformance(t *testing.T) {
	text, err := os.ReadFile("../../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]map[string]bool{}
	shown := 0
	var column int // of "Shown by" in the present table, 0 if it has none
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, " | ")
		switch {
		case !strings.HasPrefix(line, "|"):
			column = 0
			continue
		case strings.Contains(line, "| Shown by |"):
			column = len(cells) - 1
			continue
		case column == 0 || strings.HasPrefix(line, "|---"):
			continue
		}
		named := testName.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(cells)-1 != column || len(named) == 0 {
			t.Errorf("no test shows it: %s", line)
		}
		for _, n := range named {
			dir := packageOf[n[1]]
			if tests[dir] == nil {
				tests[dir] = testsIn(t, filepath.Join("../..", dir))
			}
			if !tests[dir][n[2]] {
				t.Errorf("%s has no %s", dir, n[2])
			}
			shown++
		}
	}
	if shown < 100 {
		t.Errorf("only %d tests are named: is the table still read?", shown)
	}
}

// TestGatewayOpenQuestions: each way in which the simulator can behave where Discord says nothing is in docs/gateway.md.
func TestGatewayOpenQuestions(t *testing.T) {
	text, err := os.ReadFile("../../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../../pkg/discordsim/unspecified.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Unspecified" {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			for _, name := range field.Names {
				fields++
				if !strings.Contains(string(text), "`"+name.Name+"`") {
					t.Errorf("docs/gateway.md does not name the option %s", name.Name)
				}
			}
		}
		return false
	})
	if fields == 0 {
		t.Error("no options found")
	}
}

// testsIn are the names of the test functions of a package.
func testsIn(t *testing.T, dir string) map[string]bool {
	names := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}
