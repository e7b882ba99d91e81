// Command coordinator runs a coordinator replica of a muster cluster. See coordinator --help.
package main

import (
	"os"

	"github.com/muster-gateway/muster/internal/app"
)

func main() { os.Exit(app.Coordinator(os.Args[1:])) }
