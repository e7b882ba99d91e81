// Command worker runs a worker of a muster cluster. See worker --help.
package main

import (
	"os"

	"github.com/muster-gateway/muster/internal/app"
)

func main() { os.Exit(app.Worker(os.Args[1:])) }
