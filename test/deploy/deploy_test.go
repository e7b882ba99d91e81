// Package deploy holds what people deploy muster with, the Dockerfile, docker-compose.yml and the manifests of k8s/, to what the programs
// really are: their flags, environment variables, ports, probes and metrics. Everything is read with the libraries of the tools that will
// read it, and the programs are those that the Dockerfile's own command builds.
//
// It is a module of its own, which does not even import the other: those libraries are more than all that muster itself depends on.
package deploy

import (
	"os"
	"path/filepath"
	"testing"
)

// root is the repository.
const root = "../.."

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(built.dir)
	os.Exit(code)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
