package etcdtest

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main is for the TestMain of a package whose tests share a server: it starts one, runs the tests, ends it, and looks for goroutines that were
// left behind. It returns the exit code.
func Main(m *testing.M, server **Server) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "etcdtest")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if *server, err = Open(dir); err != nil {
		return fail(err)
	}
	code := m.Run()
	(*server).Close()
	if err := goleak.Find(); err != nil {
		return fail(err)
	}
	return code
}
