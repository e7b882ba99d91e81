package rules

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/licensecheck"
)

var update = flag.Bool("update", false, "write docs/licences.md")

const licencesFile = "../../docs/licences.md"

const licencesHead = `# Licences

<!-- Written by make licences; a test holds it to go.mod. -->

What is linked into the binaries, with its licence, as [licensecheck](https://github.com/google/licensecheck) reads it. muster itself is under
[Apache-2.0](../LICENSE).

| module | version | licence |
|---|---|---|
`

// accepted are the licences that ask for no more than their text to be kept. MPL-2.0 also asks for changes to its own files, of which
// there are none.
var accepted = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "BSD-2-Clause-FreeBSD", "Unlicense", "CC0-1.0"}

// TestLicences: every module that the binaries contain is listed with a licence that people may ship.
func TestLicences(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", "../../cmd/...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(bytes.TrimSpace(out)))
	rows := map[string]string{}
	for i := 0; i+2 < len(modules); i += 3 {
		path, version, dir := modules[i], modules[i+1], modules[i+2]
		if rows[path] == "" {
			rows[path] = fmt.Sprintf("| %s | %s | %s |\n", path, version, licencesOf(t, path, dir))
		}
	}
	want := licencesHead
	for _, path := range slices.Sorted(maps.Keys(rows)) {
		want += rows[path]
	}
	if *update {
		if err := os.WriteFile(licencesFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(licencesFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what go.mod says: run make licences", licencesFile)
	}
}

// licencesOf reads the licence files of a module.
func licencesOf(t *testing.T, path, dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "[LC][IO]*"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a directory
		}
		for _, match := range licensecheck.Scan(text).Match {
			if !match.IsURL {
				found[match.ID] = true
			}
		}
	}
	ids := slices.Sorted(maps.Keys(found))
	if len(ids) == 0 {
		t.Errorf("%s: no licence that is known", path)
	}
	for _, id := range ids {
		if !slices.Contains(accepted, id) {
			t.Errorf("%s: licence %s is not one that we accept: %s", path, id, strings.Join(accepted, ", "))
		}
	}
	return strings.Join(ids, ", ")
}
