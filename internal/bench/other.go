//go:build !unix

package bench

import (
	"fmt"
	"os"
)

// Main says that there is no benchmark: it reads processes' CPU times as Unix has them.
func Main([]string) int {
	fmt.Fprintln(os.Stderr, "muster bench: not on this system")
	return 1
}
