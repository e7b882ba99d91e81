package config

import (
	"cmp"
	"runtime/debug"
)

// version is set by builds that have no repository at hand: go build -ldflags "-X …/internal/config.version=1.2.3".
var version string

// Version says what this program was built from: what the build was told, else what Go noted of the module and its commit.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(info.Main.Version, "(devel)")
	}
	return "(devel)"
}
