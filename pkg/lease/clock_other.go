//go:build !linux

package lease

import "time"

var start = time.Now()

// sinceBoot is Go's monotonic clock, which on some systems stands still while the machine is suspended: there, a
// suspended worker may trust its registration too long. muster is meant to run on Linux; this is for development.
func sinceBoot() time.Duration { return time.Since(start) }
